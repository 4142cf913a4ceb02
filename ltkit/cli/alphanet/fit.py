"""``ltkit alphanet fit``."""

from typing import Annotated, Literal

import typer

from ltkit.cli import _fitted, _inputs, _options, _output, _paths
from ltkit.cli.alphanet._settings import RHO, Epochs, Of, VariantName, chosen
from ltkit.errors import InputError
from ltkit.settings import (
    RANGES,
    Activation,
    AlphaNetSettings,
    BaseSampling,
    EpochChoice,
    Metric,
    NeighborSettings,
    as_json,
)

NetworkInput = Annotated[
    Literal["neighbors", "own+neighbors"] | None,
    typer.Option(help="Input of the network; default: the variant's.", show_default=False),
]
FewBiases = Annotated[
    Literal["learned", "frozen"] | None,
    typer.Option(help="Biases of few-shot classes; default: the variant's.", show_default=False),
]
Hidden = Annotated[
    str, typer.Option(help=f"Sizes of the hidden layers, each {RANGES['hidden'].span}.")
]
MinEpochs = Annotated[
    int | None,
    _options.setting(
        "min_epochs",
        "First epoch that may be chosen on validation data. Default: "
        f"{AlphaNetSettings.min_epochs}, or the last if there are fewer.",
        show_default=False,
    ),
]
Choice = Annotated[
    EpochChoice, typer.Option(help="Keep the best epoch on validation data, or the last.")
]
BatchSize = Annotated[int, _options.setting("batch_size", "Samples per batch.")]
Lr = Annotated[float, _options.setting("learning_rate", "Learning rate.")]
Sampling = Annotated[
    BaseSampling, typer.Option(help="Draw base classes, or base samples, with equal probability.")
]
LogitScale = Annotated[float, _options.setting("logit_scale", "Factor on all logits in training.")]
ActivationName = Annotated[
    Activation, typer.Option(help="Activation function of the hidden layers.")
]
LeaveOut = Annotated[
    str | None,
    typer.Option(help="Ids of classes to hide from the fit.", show_default=False),
]

HIDDEN = ",".join(map(str, AlphaNetSettings.hidden))


def fit(
    feats: _options.Feats = None,
    base: _options.Base = None,
    k: _options.Neighbours = NeighborSettings.k,
    rho: Annotated[
        str, typer.Option(help=f"Base samples per few-shot sample, {RHO}; or a list: 0.5,1,1.5.")
    ] = "1",
    seeds: _options.Seeds = 1,
    metric: Annotated[
        Metric, typer.Option(help="Distance between classes.")
    ] = NeighborSettings.metric,
    variant: VariantName = "paper",
    network_input: NetworkInput = None,
    few_biases: FewBiases = None,
    of: Of = "few",
    hidden: Hidden = HIDDEN,
    activation: ActivationName = AlphaNetSettings.activation,
    epochs: Epochs = AlphaNetSettings.epochs,
    min_epochs: MinEpochs = None,
    epoch_choice: Choice = AlphaNetSettings.epoch_choice,
    batch_size: BatchSize = AlphaNetSettings.batch_size,
    lr: Lr = AlphaNetSettings.learning_rate,
    base_sampling: Sampling = AlphaNetSettings.base_sampling,
    logit_scale: LogitScale = AlphaNetSettings.logit_scale,
    leave_out: LeaveOut = None,
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Learn corrections; every rho and seed is one run of a joint fit.

    Example: ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10
    """
    from ltkit import alphanet
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet")
    settings = AlphaNetSettings(
        epochs=epochs, min_epochs=_min_epochs(min_epochs, epochs), batch_size=batch_size,
        learning_rate=lr,
        hidden=tuple(_options.whole_numbers(hidden, "hidden", once=False)), activation=activation,
        epoch_choice=epoch_choice, base_sampling=base_sampling, logit_scale=logit_scale,
        **chosen(variant, network_input, few_biases),
    )  # fmt: skip
    rhos = _options.numbers(rho, "rho")
    chosen_device = _options.device_of(device)
    features = _inputs.read_features(path, base, quiet)
    bins = _options.bins_text(bins, features)
    check_output(target, overwrite=overwrite, inputs=(path,))
    correction = alphanet.fit_features(
        features, settings, k=k, metric=metric, rhos=rhos, seeds=seeds, seed=seed,
        of=_options.words(of, "--of", "+"), bins=_options.bins(bins),
        leave_out=_options.class_ids(leave_out, "--leave-out", len(features.classes)),
        device=chosen_device, note=_output.note(quiet),
        report=_output.Progress("epochs", quiet, _fitted.QUICK),
    )  # fmt: skip
    classifiers.write(
        target, correction,
        settings=as_json(settings) | {
            "k": k, "metric": metric, "rho": rho, "seeds": seeds, "seed": seed, "bins": bins,
            "of": of, "leave_out": leave_out,
        },
        inputs=features.inputs, command=_output.command_line(),
    )  # fmt: skip
    _fitted.say_result(features, correction, _options.bins(bins), quiet)
    _output.wrote(target, quiet)


def _min_epochs(given: int | None, epochs: int) -> int:
    """Return the first epoch that may be chosen.

    Raises:
        InputError: when it is later than the last epoch.
    """
    if given is not None and given > epochs:
        raise InputError(f"--min-epochs: found {given}, expected at most --epochs, {epochs}")
    return AlphaNetSettings.min_epochs if given is None else given
