"""``ltkit alphanet``."""

from typing import Annotated, Literal

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.settings import (
    ALPHANET_VARIANTS,
    AlphaNetSettings,
    Metric,
    NeighborSettings,
    Variant,
)

app = typer.Typer(
    help="AlphaNet: rare classifiers corrected by those of similar frequent classes.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip


@app.callback()
def group() -> None:
    """AlphaNet: rare classifiers corrected by those of similar frequent classes."""


@app.command()
def fit(
    feats: _options.Feats = None,
    k: Annotated[int, typer.Option("--k", help="Neighbours of each class.")] = NeighborSettings.k,
    rho: Annotated[
        str, typer.Option(help="Base samples per few-shot sample; several: 0.5,1,1.5.")
    ] = "1",
    seeds: Annotated[int, typer.Option(help="Runs with different seeds.", min=1)] = 1,
    metric: Annotated[Metric, typer.Option()] = NeighborSettings.metric,
    variant: Annotated[
        Variant, typer.Option(help="The paper's text, or the code that made its numbers.")
    ] = "paper",
    network_input: Annotated[
        Literal["neighbors", "own+neighbors"] | None,
        typer.Option(help="What the network sees; default: the variant's.", show_default=False),
    ] = None,
    few_biases: Annotated[
        Literal["learned", "frozen"] | None,
        typer.Option(
            help="Biases of few-shot classes; default: the variant's.", show_default=False
        ),
    ] = None,
    epochs: Annotated[int, typer.Option()] = AlphaNetSettings.epochs,
    min_epochs: Annotated[
        int, typer.Option(help="First epoch that may be chosen on validation data.")
    ] = AlphaNetSettings.min_epochs,
    batch_size: Annotated[int, typer.Option()] = AlphaNetSettings.batch_size,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = AlphaNetSettings.learning_rate,
    bins: _options.Bins = "20,100",
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Learn the corrections; every rho and seed is a run of one joint fit.

    Example: ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10
    """
    from dataclasses import asdict, replace

    from ltkit import alphanet
    from ltkit import neighbors as search
    from ltkit.class_means import class_means
    from ltkit.errors import InputError
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.records import joined, shot_groups

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet")
    chosen: dict[str, str] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    settings = AlphaNetSettings(
        epochs=epochs, min_epochs=min_epochs, batch_size=batch_size, learning_rate=lr,
        **chosen,  # type: ignore[arg-type]
    )  # fmt: skip
    runs = [
        replace(settings, rho=value, seed=seed + number)
        for value in dict.fromkeys(_options.numbers(rho, "--rho"))
        for number in range(seeds)
    ]

    chosen_device = _options.device_of(device)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,))
    groups = shot_groups(features.classes.train_count, _options.whole_numbers(bins, "--bins"))
    for name, ids in (("few-shot", groups.few), ("base", groups.base)):
        if not len(ids):
            counts = features.classes.train_count
            raise InputError(
                f"{path}: found no {name} class: training counts {counts.min()} to {counts.max()}, "
                f"few below {bins.split(',')[0]}; set other --bins"
            )
    means, _ = class_means(features.split("train"), len(features.classes))
    val = features.splits.get("val")
    if val is None:
        _output.say("note: no validation split, so the last epoch is taken", quiet)
    if k == 1:
        _output.say("note: with k = 1 every alpha is 1 or -1 and nothing is learned", quiet)
    base, train = features.classifier(), features.split("train")
    corrections = []
    # The control draws other neighbours for each seed; otherwise one joint fit has all runs.
    draws = range(seed, seed + seeds) if metric == "random" else [seed]
    for drawn in draws:
        near = search.nearest(means, groups.few, groups.base, NeighborSettings(k, metric, drawn))
        own = [run for run in runs if metric != "random" or run.seed == drawn]
        corrections.append(alphanet.fit(base, near, train, val, own, device=chosen_device))
    correction = joined(corrections)
    classifiers.write(
        target, correction,
        settings=asdict(settings) | {
            "k": k, "metric": metric, "rho": rho, "seeds": seeds, "seed": seed, "bins": bins,
        },
        inputs={"features": features.digest}, command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)
