"""``ltkit alphanet fit``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltkit.cli import _fitted, _inputs, _options, _output, _paths
from ltkit.cli.alphanet._settings import (
    RHO,
    Of,
    Onto,
    Precision,
    VariantName,
    chosen,
    number_or_auto,
)
from ltkit.errors import InputError
from ltkit.settings import (
    ALPHANET_RECIPES,
    RANGES,
    Activation,
    AlphaNetRecipe,
    AlphaNetSettings,
    BaseSampling,
    EpochChoice,
    Metric,
    NeighborSettings,
    Select,
    as_json,
)

if TYPE_CHECKING:
    from ltkit import alphanet
    from ltkit.records import Correction

Rho = Annotated[
    str, typer.Option(help=f"Base samples per few-shot sample, {RHO}; or a list: 0.5,1,1.5.")
]
MetricName = Annotated[Metric, typer.Option(help=_options.DISTANCE)]
RecipeName = Annotated[
    AlphaNetRecipe,
    typer.Option(
        help="Training as the source has it for the dataset: cifar is 10 epochs, of which the "
        "last is kept."
    ),
]
RecipeEpochs = Annotated[
    int | None,
    _options.setting(
        "epochs",
        f"Training epochs. Default: the recipe's, {AlphaNetSettings.epochs} or 10.",
        show_default=False,
    ),
]
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
    EpochChoice | None,
    typer.Option(
        help="Keep the best epoch on validation data, or the last; default: the recipe's.",
        show_default=False,
    ),
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

Scale = Annotated[
    str,
    typer.Option(
        metavar="<float>|auto",
        help=f"Part of the correction that is added, {RANGES['alpha_scale'].span}; auto: chosen on "
        "the validation split.",
    ),
]
PriorOffset = Annotated[
    str,
    typer.Option(
        metavar="<float>|auto",
        help="How much of the log of its training frequency is taken from each class's logit, "
        f"{RANGES['prior_offset'].span}; auto: chosen on the validation split.",
    ),
]
SelectBy = Annotated[
    Select, typer.Option(help="Accuracy on the validation split that auto chooses by.")
]
Every = Annotated[
    bool, typer.Option("--all", help="Print the accuracy of everything that auto tried.")
]

HIDDEN = ",".join(map(str, AlphaNetSettings.hidden))


def fit(
    feats: _options.Feats = None,
    base: _options.Base = None,
    k: _options.Neighbours = NeighborSettings.k,
    rho: Rho = "1",
    seeds: _options.Seeds = 1,
    metric: MetricName = NeighborSettings.metric,
    variant: VariantName = "paper",
    recipe: RecipeName = "imagenet",
    network_input: NetworkInput = None,
    few_biases: FewBiases = None,
    of: Of = "few",
    hidden: Hidden = HIDDEN,
    activation: ActivationName = AlphaNetSettings.activation,
    epochs: RecipeEpochs = None,
    min_epochs: MinEpochs = None,
    epoch_choice: Choice = None,
    batch_size: BatchSize = AlphaNetSettings.batch_size,
    lr: Lr = AlphaNetSettings.learning_rate,
    base_sampling: Sampling = AlphaNetSettings.base_sampling,
    logit_scale: LogitScale = AlphaNetSettings.logit_scale,
    leave_out: LeaveOut = None,
    onto: Onto = None,
    scale: Scale = "1",
    prior_offset: PriorOffset = "0",
    select: SelectBy = "balanced",
    every: Every = False,
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    amp: Precision = AlphaNetSettings.amp,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Learn corrections; every rho and seed is one run of a joint fit.

    Networks always learn on the features' own head, or --base. With --onto the correction goes onto
    another head, in the part --scale, and --prior-offset makes up for the rest.

    Example: ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10
    """
    from ltkit import alphanet
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet")
    settings = AlphaNetSettings(
        batch_size=batch_size, learning_rate=lr, activation=activation, logit_scale=logit_scale,
        amp=amp, hidden=tuple(_options.whole_numbers(hidden, "hidden", once=False)),
        base_sampling=base_sampling, **_schedule(recipe, epochs, min_epochs, epoch_choice),
        **chosen(variant, network_input, few_biases),
    )  # fmt: skip
    rhos, chosen_device = _options.numbers(rho, "rho"), _options.device_of(device)
    part = number_or_auto(scale, "scale", "alpha_scale")
    offset = number_or_auto(prior_offset, "prior_offset", "prior_offset")
    features = _inputs.read_features(path, base, quiet)
    bins = _options.bins_text(bins, features)
    check_output(target, overwrite=overwrite, inputs=(path,) if onto is None else (path, onto))
    choices: list[alphanet.Choice] = []
    correction = alphanet.fit_features(
        features, settings, k=k, metric=metric, rhos=rhos, seeds=seeds, seed=seed,
        of=_options.words(of, "--of", "+"), bins=_options.bins(bins),
        leave_out=_options.class_ids(leave_out, "--leave-out", len(features.classes)),
        onto=onto, scale=part, prior_offset=offset, select=select,
        device=chosen_device, note=_output.note(quiet), chosen=choices.append,
        report=_output.Progress("epochs", quiet, _fitted.QUICK),
    )  # fmt: skip
    _say_choices(choices, select, every, quiet)
    classifiers.write(
        target, correction,
        settings=as_json(settings) | {
            "k": k, "metric": metric, "rho": rho, "seeds": seeds, "seed": seed, "bins": bins,
            "of": of, "leave_out": leave_out,
        } | _composed(correction, choices, scale, prior_offset, select),
        inputs=alphanet.inputs_of(correction, features), command=_output.command_line(),
    )  # fmt: skip
    _fitted.say_result(features, correction, _options.bins(bins), quiet)
    _output.wrote(target, quiet)


def _say_choices(
    choices: "Sequence[alphanet.Choice]", select: Select, every: bool, quiet: bool
) -> None:
    """Report what was chosen for each rho, and the scores of what was tried."""
    for choice in choices:
        about = f" at rho {choice.settings['rho']:g}" if len(choices) > 1 else ""
        _fitted.say_best(
            choice.tried, choice.scores, choice.best, f"{select} accuracy, on val{about}",
            every=every, quiet=quiet,
        )  # fmt: skip


def _composed(
    correction: "Correction", choices: "Sequence[alphanet.Choice]", scale: str, prior_offset: str,
    select: Select,
) -> dict[str, Any]:  # fmt: skip
    """Return what a file says of a composition; nothing of AlphaNet as published."""
    if not correction.composed:
        return {}
    asked = {"scale": scale, "prior_offset": prior_offset}
    if not choices:
        return asked
    tried = [
        {"rho": c.settings["rho"], **parameters, "val": score}
        for c in choices
        for parameters, score in zip(c.tried, c.scores, strict=True)
    ]
    return asked | {"select": select, "tried": tried}


def _schedule(
    recipe: AlphaNetRecipe, epochs: int | None, min_epochs: int | None, choice: EpochChoice | None
) -> dict[str, Any]:
    """Return a recipe's epochs and which of them is kept, with what was given on top.

    Raises:
        InputError: when the first epoch that may be chosen is later than the last epoch.
    """
    given = {"epochs": epochs, "min_epochs": min_epochs, "epoch_choice": choice}
    found = ALPHANET_RECIPES[recipe] | {k: v for k, v in given.items() if v is not None}
    last = found.get("epochs", AlphaNetSettings.epochs)
    if min_epochs is not None and min_epochs > last:
        raise InputError(f"--min-epochs: found {min_epochs}, expected at most --epochs, {last}")
    return found
