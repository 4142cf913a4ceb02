"""``ltkit alphanet``."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltkit import numerals
from ltkit.cli import _options, _output, _paths, compare, evaluate
from ltkit.errors import FormatError, InputError
from ltkit.settings import (
    ALPHANET_VARIANTS,
    GROUPS,
    RANGES,
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
    from rich.table import Table

    from ltkit.evaluation import Entry
    from ltkit.evaluation.analysis import ClassChange
    from ltkit.records import ClassTable, Correction, FeatureSet, ShotGroups
    from ltkit.studies import Study

app = typer.Typer(
    help="AlphaNet: rare classifiers corrected by those of similar frequent classes.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip

RHO = RANGES["rho"].span

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
Hidden = Annotated[
    str, typer.Option(help=f"Sizes of the hidden layers, each {RANGES['hidden'].span}.")
]
Epochs = Annotated[int, _options.setting("epochs")]
MinEpochs = Annotated[
    int | None,
    _options.setting(
        "min_epochs",
        "First epoch that may be chosen on validation data. Default: "
        f"{AlphaNetSettings.min_epochs}, or the last where there are fewer.",
        show_default=False,
    ),
]
Choice = Annotated[
    EpochChoice, typer.Option(help="The best epoch on validation data, or the last.")
]
BatchSize = Annotated[int, _options.setting("batch_size")]
Lr = Annotated[float, _options.setting("learning_rate", "Learning rate.")]
Sampling = Annotated[
    BaseSampling, typer.Option(help="Whether base classes or base samples are equally likely.")
]
LogitScale = Annotated[float, _options.setting("logit_scale", "Factor of all logits in training.")]
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
    k: _options.Neighbours = NeighborSettings.k,
    rho: Annotated[
        str, typer.Option(help=f"Base samples per few-shot sample, {RHO}; several: 0.5,1,1.5.")
    ] = "1",
    seeds: _options.Seeds = 1,
    metric: Annotated[Metric, typer.Option()] = NeighborSettings.metric,
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
        epochs=epochs, min_epochs=_min_epochs(min_epochs, epochs), batch_size=batch_size,
        learning_rate=lr,
        hidden=tuple(_options.whole_numbers(hidden, "hidden", once=False)), activation=activation,
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
    if (wanted.means[wanted.among] == wanted.means[wanted.among[0]]).all():
        _output.say("note: all class means are the same, so no class is nearer than another", quiet)
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
        str, typer.Option(help=f"Base samples per few-shot sample, several, each {RHO}.")
    ] = "0.1,0.25,0.5,0.75,1,1.25,1.5,2,3",
    metric: Annotated[
        str, typer.Option(help="Of the neighbours, several: euclidean,cosine,random,wordnet.")
    ] = "euclidean",
    seeds: _options.Seeds = 10,
    variant: VariantName = "paper",
    of: Of = "few",
    select: Annotated[
        Select, typer.Option(help="What the setting is chosen by, on the validation split.")
    ] = "balanced",
    at_most_loss: Annotated[
        float | None,
        _options.setting(
            "at_most_loss",
            "Only settings that lose at most so many points of overall accuracy.",
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
    from ltkit import studies
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.files.scratch import Parts

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet-sweep")
    settings = AlphaNetSettings(epochs=epochs, **_chosen(variant, None, None))
    runs = _runs(settings, rho, seeds, seed)
    metrics = [
        _options.one_of(name, METRICS, "--metric") for name in _options.words(metric, "--metric")
    ]
    ks = _options.whole_numbers(k, "k")
    chosen_device = _options.device_of(device)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,))
    if csv is not None:
        check_output(csv, overwrite=overwrite, inputs=(path, target))
    wanted, groups = _study(features, of, bins, None)
    asked = as_json(settings) | {
        "rho": rho, "seeds": seeds, "seed": seed, "bins": bins, "of": of,
    }  # fmt: skip
    parts = Parts(
        target.with_name(f"{target.name}.parts"),
        _plain(asked | {"features": features.digest}), resume=resume,
    )  # fmt: skip
    points, baseline, files = studies.sweep(
        wanted, ks, metrics, runs, groups,  # type: ignore[arg-type]
        parts=parts, device=chosen_device, report=lambda line: _output.say(line, quiet),
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
        _write_csv(csv, rows)
        _output.say(f"wrote {csv}", quiet)
    parts.remove()
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
    if _output.for_people():
        _output.print_fitting(partial(_rich_table, rows, select), f"{path}, val split")
    else:
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
    if "network.0" not in correction.extra:
        raise InputError(
            f"{fitted}: was not written by alphanet fit, so it has no networks; name a fit"
        )
    run, bins = correction.runs[0], settings.get("bins", "20,100")
    if not isinstance(bins, str):
        raise FormatError(f"{fitted}: settings: bins: found {bins!r:.60}, expected text; fit again")
    wanted, groups = _study(features, "few", bins, None)
    if of is None:
        ids = np.setdiff1d(groups.few, correction.class_id)
        if not len(ids):
            raise InputError(
                f"{fitted}: corrects all {len(groups.few)} rare classes of {path}; name others "
                "with --of"
            )
    else:
        ids = _class_ids(of, "--of", len(features.classes))
    chosen = type(wanted)(features, ids, wanted.among, wanted.absent, wanted.means)
    near = chosen.neighbors(run["k"], run["metric"], run["seed"])
    applied = alphanet.apply(correction, features.classifier(), near)
    classifiers.write(
        target, applied, settings={"of": ids.tolist()},
        inputs={"features": features.digest, "fit": hdf5.header(fitted)["digest"]},
        command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)


@app.command()
def show(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FEATS] [FIT]",
            help="Features file, and what alphanet fit wrote; default: the only fit beside FEATS.",
            show_default=False,
        ),
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME_OR_ID",
            show_default=False,
            help="Which class; may be repeated; default: those whose accuracy changed most.",
        ),
    ] = None,
    most: Annotated[
        int, _options.setting("most", "How many of those, 0 for all corrected classes.")
    ] = 10,
    rho: Annotated[
        float | None,
        _options.setting("rho", "Which rho, where there are several.", show_default=False),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A single run, as seed=0; may be repeated."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Say what a fit made of classes: the combination learned, accuracy, and mistakes.

    Of several seeds, means and standard deviations; random neighbours differ from seed to seed, and
    a coefficient is then 0 in the runs without that neighbour.

    \b
    --json prints fractions in 0..1, null where there is none:
      rows       class, name, train_count, samples, combination (class, name, alpha, std, runs; the
                 class's own row has coefficient 1), bias and accuracy (before, after, std),
                 mistakes (class, name, before, after, std: samples), most frequent first

    Example: ltkit alphanet show feats.h5 feats.alphanet.h5 --class wolf --rho 1
    """  # fmt: skip # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation import analysis, predict_classes
    from ltkit.files import features as features_file
    from ltkit.records import Correction

    path, named = compare._inputs(files or [], quiet)
    features = features_file.read(path)
    entry = _only_fit(path, evaluate.read_entries(path, features, named, quiet))
    correction, classes = entry.correction, features.classes
    runs = _runs_of(entry, rho, run or [])
    wanted = [_class_of(text, features, correction, entry.file) for text in class_ or []]
    data, base = features.split(split), features.classifier()
    (before,), after = predict_classes(data, base, [Correction.baseline(base), correction])
    changes = analysis.class_changes(
        correction, runs, base, before, after[runs], data.labels, wanted or correction.class_id
    )
    if not wanted:
        changes.sort(key=lambda c: -abs(c.accuracy[1:].mean() - c.accuracy[0]) if c.samples else 0)
        changes = changes[: most or None]
    rows = [_shown(change, classes) for change in changes]
    settings = {k: v for k, v in correction.runs[runs[0]].items() if run or k != "seed"}
    if json:
        _output.print_json(
            {
                "schema": "ltkit.alphanet-show/1", "features": str(path), "fit": entry.file,
                "split": split, "settings": settings, "runs": len(runs), "rows": rows,
            }
        )  # fmt: skip
        return
    told = ("metric", "k", "rho", *(["seed"] if run else []))
    knobs = ", ".join(
        f"{name} {v}" if isinstance(v := settings[name], str) else f"{name} {v:g}" for name in told
    )
    over = f", mean ± std over {len(runs)} seeds" if len(runs) > 1 else ""
    typer.echo(_output.printable(f"{entry.file}: {knobs}{over}; {path}, {split} split"))
    for row in rows:
        for line in _in_words(row, int(settings["k"])):
            typer.echo(_output.printable(line))


METRICS = ("euclidean", "cosine", "random", "wordnet")

NAMED = 3
"""Classes named of those that a class is mistaken for, and files in a message."""


def _only_fit(path: Path, entries: "list[Entry]") -> "Entry":
    """Return the one AlphaNet fit among corrections."""
    fits = [
        entry for entry in entries
        if {"alpha", "neighbor"} <= entry.correction.extra.keys()
        and all({"metric", "k", "rho", "seed"} <= run.keys() for run in entry.correction.runs)
    ]  # fmt: skip
    if len(fits) == 1:
        return fits[0]
    if not fits:
        looked = _named(entries) or "no correction beside it"
        raise InputError(
            f"{path}: found {looked}, expected what alphanet fit wrote; fit one, or name it"
        )
    raise InputError(f"{path}: found {len(fits)} fits, expected one; name it: {_named(fits)}")


def _named(entries: "list[Entry]") -> str:
    """Return the files of some entries, and how many more there are."""
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return f"{', '.join(entry.file for entry in entries[:NAMED])}{more}"


def _runs_of(entry: "Entry", rho: float | None, run: list[str]) -> list[int]:
    """Return the runs of one setting, or the single one asked for."""
    from ltkit import exporting
    from ltkit.evaluation import settings_of

    if run:
        wanted = _options.settings(run, "--run") | ({} if rho is None else {"rho": rho})
        return [exporting.pick(entry.correction, wanted)]
    found = [
        (settings, runs)
        for settings, runs in settings_of(entry.correction)
        if rho is None or settings["rho"] == rho
    ]
    if len(found) != 1:
        rhos = dict.fromkeys(f"{r['rho']:g}" for r in entry.correction.runs)
        asked = "several rho" if rho is None else f"no rho {rho:g}"
        raise InputError(f"{entry.file}: found {asked}; choose one with --rho: {', '.join(rhos)}")
    return found[0][1]


def _class_of(text: str, features: "FeatureSet", correction: "Correction", file: str) -> int:
    """Return the corrected class of a name or id; what could be both is the name."""
    from ltkit.errors import nearest

    names, count = features.classes.names or (), len(features.classes)
    same = [c for c, name in enumerate(names) if name == text]
    if not same and text.isascii() and text.isdigit() and int(text) < count:
        same = [int(text)]
    if not same:
        hint = nearest(text, set(names)) if names else f"ids are 0 to {count - 1}"
        if hint.startswith("there are"):
            hint = f"expected a class name or an id from 0 to {count - 1}"
        raise InputError(f"--class: found {text!r}; {hint}")
    if len(same) > 1:
        raise InputError(
            f"--class: found {len(same)} classes named {text!r}; give one's id: "
            f"{', '.join(map(str, same))}"
        )
    if same[0] not in correction.class_id:
        as_those = "".join(f", as {features.classes.name(int(c))}" for c in correction.class_id[:1])
        raise InputError(
            f"--class: {text!r} is not among the {len(correction.class_id)} classes that {file} "
            f"corrects{as_those}"
        )
    return same[0]


def _shown(change: "ClassChange", classes: "ClassTable") -> dict[str, Any]:
    """Return a class's row for JSON."""
    import numpy as np

    from ltkit.evaluation.analysis import mean_and_std

    def three(values: Any) -> dict[str, float | None]:
        mean, std = mean_and_std(values[1:])
        parts = {"before": values[0], "after": mean, "std": std}
        return {name: None if np.isnan(v) else float(v) for name, v in parts.items()}

    mean, std = mean_and_std(change.alpha)
    combination = [
        {
            "class": int(c), "name": classes.name(int(c)), "alpha": float(mean[m]),
            "std": None if np.isnan(std[m]) else float(std[m]), "runs": int(change.used[m]),
        }
        for m, c in enumerate(change.neighbor)
    ]  # fmt: skip
    mistakes = [
        {"class": int(c), "name": classes.name(int(c))} | three(change.mistakes[:, w])
        for w, c in enumerate(change.mistaken)
    ]
    return {
        "class": change.class_id, "name": classes.name(change.class_id),
        "train_count": int(classes.train_count[change.class_id]), "samples": change.samples,
        "combination": combination, "bias": three(change.bias),
        "accuracy": three(change.accuracy),
        "mistakes": sorted(mistakes, key=lambda m: -max(m["before"], m["after"])),
    }  # fmt: skip


def _in_words(row: dict[str, Any], terms: int) -> list[str]:
    """Return the lines about a class: the largest `terms` of its combination, and mistakes."""

    def spread(std: float | None, form: str, factor: float = 1) -> str:
        return "" if std is None else f" ± {factor * std:{form}}"

    ordered = sorted(row["combination"], key=lambda part: -abs(part["alpha"]))
    own = "".join(
        f" {'-' if part['alpha'] < 0 else '+'} {abs(part['alpha']):.2f}"
        f"{spread(part['std'], '.2f')} {part['name']}"
        for part in ordered[:terms]
    )
    more = f" and {len(ordered) - terms} more" if len(ordered) > terms else ""
    bias, accuracy = row["bias"], row["accuracy"]
    right = "no sample in this split"
    if row["samples"]:
        right = (
            f"accuracy {100 * accuracy['before']:.1f} -> {100 * accuracy['after']:.1f}"
            f"{spread(accuracy['std'], '.1f', 100)} % of {row['samples']}"
        )
    lines = [
        f"{row['name']} ({row['train_count']} training samples): {right}",
        f"  {row['name']} = own{own}{more}; bias {bias['before']:.2f} -> {bias['after']:.2f}"
        f"{spread(bias['std'], '.2f')}",
    ]
    for when in ("before", "after"):
        worst = sorted(row["mistakes"], key=lambda m: -m[when])[:NAMED]
        told = [
            f"{m['name']} {m[when]:.0f}"
            if when == "before" or m["std"] is None
            else f"{m['name']} {m[when]:.1f}{spread(m['std'], '.1f')}"
            for m in worst
            if m[when]
        ]
        if told:
            lines.append(f"  mistaken {when} for {', '.join(told)}")
    return lines


def _chosen(variant: Variant, network_input: str | None, few_biases: str | None) -> dict[str, Any]:
    """Return what a variant sets, with what was asked for one by one."""
    chosen: dict[str, Any] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    return chosen


def _min_epochs(given: int | None, epochs: int) -> int:
    """Return the first epoch that may be chosen.

    Raises:
        InputError: when it is one that never comes.
    """
    if given is not None and given > epochs:
        raise InputError(f"--min-epochs: found {given}, expected at most --epochs, {epochs}")
    return AlphaNetSettings.min_epochs if given is None else given


def _runs(settings: AlphaNetSettings, rho: str, seeds: int, seed: int) -> list[AlphaNetSettings]:
    from dataclasses import replace

    return [
        replace(settings, rho=value, seed=seed + number)
        for value in _options.numbers(rho, "rho")
        for number in range(seeds)
    ]


def _study(
    features: "FeatureSet", of: str, bins: str, leave_out: str | None
) -> tuple["Study", "ShotGroups"]:
    """Return the features with the classes to correct and their possible neighbours."""
    import numpy as np

    from ltkit import studies
    from ltkit.records import members, shot_groups

    groups = shot_groups(features.classes.train_count, _options.bins(bins))
    parts = _options.words(of, "--of", "+")
    corrected = np.sort(np.concatenate([members(groups, part, "--of") for part in parts]))
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

    known = numerals.Range(0, count - 1, whole=True)
    return np.sort(np.array(numerals.numbers(text, option, known, example="3,5"), np.int64))


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a file gives them back."""
    import json

    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def _row(point: Any, chosen: bool) -> dict[str, Any]:
    return {
        "k": point.k, "metric": point.metric, "rho": point.rho, "seeds": point.seeds,
        "accuracy": dict(point.accuracy), "std": dict(point.std), "chosen": chosen,
    }  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table, in %, of the validation split."""
    lines = [f"{'metric':<10}{'k':>4}{'rho':>7}" + "".join(f"{g:>14}" for g in GROUPS)]
    for row in rows:
        knobs = f"{row['metric']:<10}{row['k']:>4}{row['rho']:>7g}"
        name = knobs if row["k"] else f"{'baseline':<21}"
        marks = "  chosen" if row["chosen"] else ""
        lines.append(name + "".join(f"{_cell(row, g):>14}" for g in GROUPS) + marks)
    return lines


def _cell(row: dict[str, Any], group: str) -> str:
    value, deviation = row["accuracy"][group], row["std"][group]
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation else "")


def _rich_table(rows: Sequence[dict[str, Any]], select: str, look: _output.Look) -> "Table":
    """Return the table for people, with bars of what the setting was chosen by."""
    from rich import box
    from rich.table import Table

    def ends(row: dict[str, Any]) -> list[float] | None:
        value, std = row["accuracy"][by], row["std"][by] or 0.0
        return None if value is None else [max(value - std, 0.0), value + std]

    by = select if select in GROUPS else "balanced"
    same = all(row["accuracy"]["all"] == row["accuracy"]["balanced"] for row in rows)
    groups = GROUPS[:-1] if same else GROUPS
    scale = _output.scale_of(map(ends, rows))
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("metric")
    for name in ("k", "rho", *groups):
        table.add_column(name, justify="right")
    table.add_column(f"{by} ± std\nbar 0 to {100 * scale[1]:.0f}", no_wrap=True)
    for row in rows:
        knobs = [row["metric"], str(row["k"]), f"{row['rho']:g}"]
        cells = [_cell(row, group) for group in groups]
        if look.narrow:  # deviations are in the bar
            cells = [cell.split(" ± ")[0] for cell in cells]
        table.add_row(
            *(knobs if row["k"] else ["baseline", "", ""]), *cells,
            look.bar(ends(row), scale).strip() + " *" * row["chosen"],
            style="bold" if row["chosen"] else "",
        )  # fmt: skip
    return table


def _write_csv(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    from ltkit.files.tables import write_csv

    columns = [f"{group}{suffix}" for group in GROUPS for suffix in ("", "_std")]
    table = [
        [
            row["metric"], row["k"], row["rho"], row["seeds"],
            *(row[part][group] for group in GROUPS for part in ("accuracy", "std")),
            int(row["chosen"]),
        ]
        for row in rows
    ]  # fmt: skip
    write_csv(target, ["metric", "k", "rho", "seeds", *columns, "chosen"], table, digits=None)
