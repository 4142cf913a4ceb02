"""``ltkit alphanet``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.errors import InputError
from ltkit.settings import (
    ALPHANET_VARIANTS,
    Activation,
    AlphaNetSettings,
    BaseSampling,
    EpochChoice,
    Metric,
    NeighborSettings,
    Select,
    Variant,
    as_json,
)

if TYPE_CHECKING:
    from ltkit.records import FeatureSet, ShotGroups
    from ltkit.studies import Study

app = typer.Typer(
    help="AlphaNet: rare classifiers corrected by those of similar frequent classes.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip

Seeds = Annotated[int, typer.Option(help="Runs with different seeds.", min=1)]
VariantName = Annotated[
    Variant, typer.Option(help="The paper's text, or the code that made its numbers.")
]
NetworkInput = Annotated[
    Literal["neighbors", "own+neighbors"] | None,
    typer.Option(help="What the network sees; default: the variant's.", show_default=False),
]
FewBiases = Annotated[
    Literal["learned", "frozen"] | None,
    typer.Option(help="Biases of few-shot classes; default: the variant's.", show_default=False),
]
Of = Annotated[str, typer.Option(help="Which classes are corrected: few, or medium+few.")]
Hidden = Annotated[str, typer.Option(help="Sizes of the hidden layers.")]
Epochs = Annotated[int, typer.Option()]
MinEpochs = Annotated[int, typer.Option(help="First epoch that may be chosen on validation data.")]
Choice = Annotated[
    EpochChoice, typer.Option(help="The best epoch on validation data, or the last.")
]
BatchSize = Annotated[int, typer.Option()]
Lr = Annotated[float, typer.Option(help="Learning rate.")]
Sampling = Annotated[
    BaseSampling, typer.Option(help="Whether base classes or base samples are equally likely.")
]
LogitScale = Annotated[float, typer.Option(help="Factor of all logits in training.")]
ActivationName = Annotated[Activation, typer.Option()]
LeaveOut = Annotated[
    str | None,
    typer.Option(help="Ids of classes that the fit must not know of.", show_default=False),
]

HIDDEN = ",".join(map(str, AlphaNetSettings.hidden))


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
    seeds: Seeds = 1,
    metric: Annotated[Metric, typer.Option()] = NeighborSettings.metric,
    variant: VariantName = "paper",
    network_input: NetworkInput = None,
    few_biases: FewBiases = None,
    of: Of = "few",
    hidden: Hidden = HIDDEN,
    activation: ActivationName = AlphaNetSettings.activation,
    epochs: Epochs = AlphaNetSettings.epochs,
    min_epochs: MinEpochs = AlphaNetSettings.min_epochs,
    epoch_choice: Choice = AlphaNetSettings.epoch_choice,
    batch_size: BatchSize = AlphaNetSettings.batch_size,
    lr: Lr = AlphaNetSettings.learning_rate,
    base_sampling: Sampling = AlphaNetSettings.base_sampling,
    logit_scale: LogitScale = AlphaNetSettings.logit_scale,
    leave_out: LeaveOut = None,
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
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet")
    settings = AlphaNetSettings(
        epochs=epochs, min_epochs=min_epochs, batch_size=batch_size, learning_rate=lr,
        hidden=tuple(_options.whole_numbers(hidden, "--hidden")), activation=activation,
        epoch_choice=epoch_choice, base_sampling=base_sampling, logit_scale=logit_scale,
        **_chosen(variant, network_input, few_biases),
    )  # fmt: skip
    runs = _runs(settings, rho, seeds, seed)
    chosen_device = _options.device_of(device)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,))
    wanted, _ = _study(features, of, bins, leave_out)
    if "val" not in features.splits and epoch_choice == "best":
        _output.say("note: no validation split, so the last epoch is taken", quiet)
    if k == 1:
        _output.say("note: with k = 1 every alpha is 1 or -1 and nothing is learned", quiet)
    correction = wanted.fit(runs, k, metric, chosen_device)
    classifiers.write(
        target, correction,
        settings=as_json(settings) | {
            "k": k, "metric": metric, "rho": rho, "seeds": seeds, "seed": seed, "bins": bins,
            "of": of, "leave_out": leave_out,
        },
        inputs={"features": features.digest}, command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)


@app.command()
def sweep(
    feats: _options.Feats = None,
    k: Annotated[str, typer.Option("--k", help="Neighbours of each class, several.")] = "1,5,10",
    rho: Annotated[
        str, typer.Option(help="Base samples per few-shot sample, several.")
    ] = "0.1,0.25,0.5,0.75,1,1.25,1.5,2,3",
    metric: Annotated[
        str, typer.Option(help="Of the neighbours, several: euclidean,cosine,random,wordnet.")
    ] = "euclidean",
    seeds: Seeds = 10,
    variant: VariantName = "paper",
    of: Of = "few",
    select: Annotated[
        Select, typer.Option(help="What the setting is chosen by, on the validation split.")
    ] = "balanced",
    at_most_loss: Annotated[
        float | None,
        typer.Option(
            help="Only settings that lose at most so many points of overall accuracy.",
            min=0,
            show_default=False,
        ),
    ] = None,
    epochs: Epochs = AlphaNetSettings.epochs,
    bins: _options.Bins = "20,100",
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    csv: Annotated[
        Path | None, typer.Option(help="Write the table to a CSV file.", show_default=False)
    ] = None,
    output: _options.Output = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Fit many settings, score them on the validation split, keep the best one.

    The output has the runs of the chosen setting; finished fits are kept beside it until all are
    done, and --resume takes them.

    Example: ltkit alphanet sweep feats.h5 --k 5,10 --rho 0.5,1,2 --select few --at-most-loss 0.5
    """
    import shutil

    from ltkit import studies
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output, write_text

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet-sweep")
    settings = AlphaNetSettings(epochs=epochs, **_chosen(variant, None, None))
    runs = _runs(settings, rho, seeds, seed)
    metrics = [_options.one_of(name, METRICS, "--metric") for name in metric.split(",")]
    ks = list(dict.fromkeys(_options.whole_numbers(k, "--k")))
    chosen_device = _options.device_of(device)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,))
    wanted, groups = _study(features, of, bins, None)
    asked = as_json(settings) | {
        "rho": rho, "seeds": seeds, "seed": seed, "bins": bins, "of": of,
    }  # fmt: skip
    folder = target.with_name(f"{target.name}.parts")
    if folder.exists() and not resume:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    points, baseline, files = studies.sweep(
        wanted, ks, list(dict.fromkeys(metrics)), runs, groups,  # type: ignore[arg-type]
        folder=folder, identity=_plain(asked | {"features": features.digest}), resume=resume,
        device=chosen_device, report=lambda line: _output.say(line, quiet),
    )  # fmt: skip
    loss = None if at_most_loss is None else at_most_loss / 100
    best = studies.choose(points, baseline, select, loss)
    rows = [_row(point, point is best) for point in (baseline, *points)]
    file = files[points.index(best) * len(files) // len(points)]
    correction = studies.only(classifiers.read(file)[0], best)
    classifiers.write(
        target, correction,
        settings=asked | {
            "k": best.k, "metric": best.metric, "rho": best.rho, "select": select,
            "at_most_loss": at_most_loss, "tried": rows,
        },
        inputs={"features": features.digest}, command=_output.command_line(),
    )  # fmt: skip
    if csv is not None:
        write_text(csv, _csv(rows))
        _output.say(f"wrote {csv}", quiet)
    shutil.rmtree(folder)
    _output.say(
        f"chosen by {select} accuracy on val: k {best.k}, {best.metric}, rho {best.rho:g}", quiet
    )
    if json:
        _output.print_json(
            {
                "schema": "ltkit.alphanet-sweep/1", "features": str(path), "split": "val",
                "select": select, "at_most_loss": at_most_loss, "output": str(target), "rows": rows,
            }
        )  # fmt: skip
        return
    for line in _table(rows):
        typer.echo(line)
    _output.say(f"wrote {target}", quiet)


@app.command()
def apply(
    fitted: Annotated[Path, typer.Argument(metavar="FIT", help="What alphanet fit wrote.")],
    feats: Annotated[
        str, typer.Argument(metavar="FEATS", help="Features with the classes to correct.")
    ],
    of: Annotated[
        str | None,
        typer.Option(
            help="Ids of the classes to correct; default: the rare ones that the fit left out.",
            show_default=False,
        ),
    ] = None,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct classes that were not there at fit time, with the networks of the fit.

    A new class needs its mean feature (training samples in FEATS) and its row of the head.

    Example: ltkit alphanet apply feats.alphanet.h5 feats.h5
    """
    import numpy as np

    from ltkit import alphanet
    from ltkit.files import classifiers, hdf5
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet-applied")
    check_output(target, overwrite=overwrite, inputs=(path, fitted))
    correction, _ = classifiers.read(fitted)
    features, settings = features_file.read(path), hdf5.read(fitted, hdf5.CLASSIFIER).settings
    wanted, groups = _study(features, "few", str(settings.get("bins", "20,100")), None)
    if of is None:
        ids = np.setdiff1d(groups.few, correction.class_id)
        if not len(ids):
            raise InputError(
                f"{fitted}: corrects all {len(groups.few)} rare classes of {path}; name others "
                "with --of"
            )
    else:
        ids = _class_ids(of, "--of", len(features.classes))
    run = correction.runs[0] if correction.runs else {}
    if not {"k", "metric", "network_input", "activation"} <= run.keys():
        raise InputError(f"{fitted}: was not written by alphanet fit, so it has no networks")
    chosen = type(wanted)(features, ids, wanted.among, wanted.absent, wanted.means)
    near = chosen.neighbors(int(run["k"]), run["metric"], int(run["seed"]))
    applied = alphanet.apply(correction, features.classifier(), near)
    classifiers.write(
        target, applied, settings={"of": ids.tolist()},
        inputs={"features": features.digest, "fit": hdf5.header(fitted)["digest"]},
        command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)


METRICS = ("euclidean", "cosine", "random", "wordnet")


def _chosen(variant: Variant, network_input: str | None, few_biases: str | None) -> dict[str, Any]:
    """Return what a variant sets, with what was asked for one by one."""
    chosen: dict[str, Any] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    return chosen


def _runs(settings: AlphaNetSettings, rho: str, seeds: int, seed: int) -> list[AlphaNetSettings]:
    from dataclasses import replace

    return [
        replace(settings, rho=value, seed=seed + number)
        for value in dict.fromkeys(_options.numbers(rho, "--rho"))
        for number in range(seeds)
    ]


def _study(
    features: "FeatureSet", of: str, bins: str, leave_out: str | None
) -> tuple["Study", "ShotGroups"]:
    """Return the features with the classes to correct and their possible neighbours."""
    import numpy as np

    from ltkit import studies
    from ltkit.records import members, shot_groups

    groups = shot_groups(features.classes.train_count, _options.whole_numbers(bins, "--bins"))
    corrected = np.sort(np.concatenate([members(groups, part, "--of") for part in of.split("+")]))
    among = np.setdiff1d(groups.base, corrected)
    for name, ids in (("few-shot" if of == "few" else of, corrected), ("base", among)):
        if not len(ids):
            counts = features.classes.train_count
            raise InputError(
                f"{features.source}: found no {name} class: training counts {counts.min()} to "
                f"{counts.max()}, few below {bins.split(',')[0]}; set other --bins"
            )
    absent = np.arange(0)
    if leave_out is not None:
        absent = _class_ids(leave_out, "--leave-out", len(features.classes))
        outside = np.setdiff1d(absent, corrected)
        if len(outside):
            raise InputError(
                f"--leave-out: class {outside[0]} is not among the corrected classes ({of})"
            )
    return studies.study(features, corrected, among, absent), groups


def _class_ids(text: str, option: str, count: int) -> Any:
    import numpy as np

    ids = np.unique(_options.whole_numbers(text, option))
    if ids[0] < 0 or ids[-1] >= count:
        raise InputError(f"{option}: found {text}, expected class ids from 0 to {count - 1}")
    return ids


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a file gives them back."""
    import json

    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


GROUPS = ("few", "medium", "many", "all", "balanced")


def _row(point: Any, chosen: bool) -> dict[str, Any]:
    return {
        "k": point.k, "metric": point.metric, "rho": point.rho, "seeds": point.seeds,
        "accuracy": dict(point.accuracy), "std": dict(point.std), "chosen": chosen,
    }  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table, in %, of the validation split."""

    def cell(row: dict[str, Any], group: str) -> str:
        value, deviation = row["accuracy"][group], row["std"][group]
        if value is None:
            return "–"
        return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation else "")

    lines = [f"{'metric':<10}{'k':>4}{'rho':>7}" + "".join(f"{g:>14}" for g in GROUPS)]
    for row in rows:
        knobs = f"{row['metric']:<10}{row['k']:>4}{row['rho']:>7g}"
        name = knobs if row["k"] else f"{'baseline':<21}"
        marks = "  chosen" if row["chosen"] else ""
        lines.append(name + "".join(f"{cell(row, g):>14}" for g in GROUPS) + marks)
    return lines


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{group}{suffix}" for group in GROUPS for suffix in ("", "_std")]
    writer.writerow(["metric", "k", "rho", "seeds", *columns, "chosen"])
    for row in rows:
        values = [row[part][group] for group in GROUPS for part in ("accuracy", "std")]
        shown = ["" if value is None else repr(value) for value in values]
        writer.writerow(
            [row["metric"], row["k"], row["rho"], row["seeds"], *shown, int(row["chosen"])]
        )
    return text.getvalue()
