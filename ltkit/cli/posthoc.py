"""``ltkit posthoc``; ``adapt``, which reads a second features file, is in `_adapting`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _adapting, _fitted, _inputs, _options, _output, _paths
from ltkit.settings import Counts, Select

if TYPE_CHECKING:
    from ltkit.files.scratch import Parts
    from ltkit.posthoc import Plan
    from ltkit.records import Correction, FeatureSet
    from ltkit.shards import Shard

PriorFrom = Annotated[
    Counts,
    typer.Option(
        help="Where the training prior is from: the file's counts, or the classifier's mean "
        "softmax over the train split."
    ),
]
Method = Annotated[
    str | None,
    typer.Argument(
        help="Correction method; see --list.",
        show_default=False,
        autocompletion=_options.begun("posthoc", also=[_adapting.METHOD]),
    ),
]
ChosenBy = Annotated[
    Select, typer.Option(help="Accuracy on the validation split to choose parameters by.")
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="CLASSIFIER",
        help="Correct this classifier instead of the file's own head.",
        show_default=False,
    ),
]
Run = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Run of --from, e.g. rho=1; may be repeated."),
]
Sweep = Annotated[
    bool, typer.Option("--sweep", help="Keep every value on the grid, for curves of compare.")
]
Every = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Print the accuracy of every value that was tried; of adapt, each class's share.",
    ),
]


def posthoc(
    method: Method = None,
    feats: _options.Feats = None,
    set_: _options.SetParameter = None,
    select: ChosenBy = "balanced",
    bins: _options.Bins = None,
    counts: PriorFrom = "file",
    seeds: _options.Seeds = 1,
    base: _options.Base = None,
    from_: From = None,
    run: Run = None,
    sweep: Sweep = False,
    to: _adapting.To = None,
    anyway: _adapting.Anyway = False,
    every: Every = False,
    shard: _options.Shard = None,
    resume: _options.Resume = False,
    list_: Annotated[bool, typer.Option("--list", help="List the methods and exit.")] = False,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct a classifier on cached features; parameters not set are chosen on validation data.

    With --sweep every value on the method's grid is kept as a run of <stem>.<method>-sweep.h5;
    ltkit compare draws its curve. --shard divides seeds among processes.

    adapt learns how often classes occur among the images of --to, whose labels it does not look at,
    and refuses images that differ in more than that; docs/production.md.

    Example: ltkit posthoc logit-adjust feats.h5 --set tau=1
    """
    from ltkit import posthoc as methods
    from ltkit.errors import InputError
    from ltkit.files.atomic import check_output
    from ltkit.registry import described

    if list_:
        for line in (*described(methods, "fit"), _adapting.described()):
            typer.echo(line)
        return
    if method is None:
        raise InputError("METHOD: absent; ltkit posthoc --list names them")
    if to is not None or anyway or method == _adapting.METHOD:
        shared = shard is not None or resume
        _adapting.check(method, to, seeds=seeds, sweep=sweep, counts=counts, shared=shared)
        return _adapt(
            feats, str(to), set_, (base, from_, run or []), bins, anyway=anyway, every=every,
            target=output, overwrite=overwrite, quiet=quiet,
        )  # fmt: skip
    wanted = methods.plan(method, _options.parameters(set_), seeds=seeds, sweep=sweep)
    path = _paths.features_path(feats if feats is not None or from_ is None else str(from_), quiet)
    stem = f"{method}-sweep" if sweep else method
    target = _paths.output_path(output, path if from_ is None else from_, stem)
    features = _features(path, base, from_, wanted, quiet)
    bins = _options.bins_text(bins, features)
    check_output(
        target, overwrite=overwrite, inputs=(path,) if from_ is None else (path, from_),
        shared=shard is not None,
    )  # fmt: skip
    start, settings, inputs = _start(features, from_, run or [])
    words: dict[str, Any] = {
        "bins": _options.bins(bins), "start": start, "by_default": True, "counts": counts,
        "report": _output.Progress("steps", quiet, _fitted.QUICK),
    }  # fmt: skip
    asked = {**settings, **inputs, "bins": bins, "counts": counts}
    parts = _parts(target, wanted, asked, shard, resume)
    if shard is not None and parts is not None:
        done = len(methods.fit_shard(features, wanted, parts, **words)), seeds, parts.folder
        return _output.end_of_shard(shard, *done, target, json=False, quiet=quiet)
    found = methods.fit_features(features, wanted, select=select, parts=parts, **words)
    chosen_by = None if sweep else select
    settings |= {"method": method, "select": chosen_by, "bins": bins, "counts": counts}
    _fitted.write(found, target, settings, inputs, select, every=every, quiet=quiet)
    if parts is not None:
        parts.remove()
    if not wanted.on_val:  # what it learned from shows nothing
        _fitted.say_result(features, found.correction, _options.bins(bins), quiet)
    return _output.wrote(target, quiet)


def _adapt(
    feats: str | None, to: str, set_: list[str] | None,
    starts: tuple[Path | None, Path | None, list[str]], bins: str | None, *, anyway: bool,
    every: bool, target: Path | None, overwrite: bool, quiet: bool,
) -> None:  # fmt: skip
    """Read what ``adapt`` starts from, and adapt it."""
    from ltkit.files.atomic import check_output

    base, from_, run = starts
    wanted = _adapting.settings(set_)
    path = _paths.features_path(feats if feats is not None or from_ is None else str(from_), quiet)
    target = _paths.output_path(target, path if from_ is None else from_, _adapting.METHOD)
    named = (path,) if from_ is None else (path, from_)
    other, split = _adapting.named(to)
    check_output(target, overwrite=overwrite, inputs=(*named, other))
    features = _inputs.read_features(path, base, quiet, named[1:])
    start, said, inputs = _start(features, from_, run)
    _adapting.adapt(
        features, other, split, wanted, start, _options.bins(bins), target, said, inputs,
        anyway=anyway, every=every, quiet=quiet,
    )  # fmt: skip


def _parts(
    target: Path, wanted: "Plan", asked: dict[str, Any], shard: "Shard | None", resume: bool
) -> "Parts | None":
    """Return where the fits of each seed are kept; None where a run is neither shared nor resumed.

    Raises:
        SettingError: for a plan that has a single seed.
    """
    if shard is None and not resume:
        return None
    from ltkit.files.scratch import Parts, plain
    from ltkit.posthoc import check_seeds

    check_seeds(wanted)
    asked = asked | {
        "method": wanted.name, "every": dict(wanted.every), "tried": list(map(dict, wanted.tried)),
        "seeds": wanted.seeds, "sweep": wanted.sweep,
    }  # fmt: skip
    beside = target.with_name(f"{target.name}.parts")
    return Parts(beside, plain(asked), resume=resume, shard=shard)


def _features(
    path: Path, base: Path | None, from_: Path | None, wanted: "Plan", quiet: bool
) -> "FeatureSet":
    """Read the features; where they have no head, with a base if one is needed."""
    from ltkit.files import classifiers
    from ltkit.files import features as features_file

    features = features_file.read(path)
    if base is None and features.head is None:
        if from_ is None:
            needed = not wanted.anew
        else:
            start = classifiers.read_for(from_, features, whole=True)
            needed = wanted.ensemble or not start.is_whole(len(features.classes))
        if not needed:
            return features
    return _inputs.read_features(path, base, quiet, () if from_ is None else (from_,))


def _start(
    features: "FeatureSet", from_: Path | None, run: list[str]
) -> "tuple[tuple[Correction, int] | None, dict[str, Any], dict[str, str]]":
    """Return the run to start from, and what is recorded of its origin.

    Raises:
        InputError: when ``--from`` was not fitted on these features, or has no such run.
    """
    from ltkit.errors import InputError

    inputs = features.inputs
    if from_ is None:
        if run:
            raise InputError("--run: names a run of --from, which is absent")
        return None, {}, inputs

    from ltkit.evaluation import pick
    from ltkit.files import classifiers, hdf5

    before = classifiers.read_for(from_, features)
    number = pick(before, _options.settings(run, "--run"))
    settings = {"from": {"method": before.method, "run": dict(before.runs[number])}}
    return (before, number), settings, inputs | {"from": hdf5.header(from_)["digest"]}
