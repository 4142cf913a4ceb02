"""``ltkit posthoc``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.settings import Select

if TYPE_CHECKING:
    from ltkit.records import Classifier, FeatureSet


def posthoc(
    method: Annotated[
        str | None, typer.Argument(help="Which correction; see --list.", show_default=False)
    ] = None,
    feats: _options.Feats = None,
    set_: _options.SetParameter = None,
    select: Annotated[
        Select, typer.Option(help="What parameters are chosen by, on the validation split.")
    ] = "balanced",
    bins: _options.Bins = "20,100",
    seeds: _options.Seeds = 1,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CLASSIFIER",
            help="Correct this classifier instead of the file's own head.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Which run of --from, as rho=1."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Keep all that would be tried, for compare's curves.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the methods and exit.")] = False,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct a classifier on cached features; parameters not set are chosen on validation data.

    With --sweep every value on the method's grid is kept as a run of <stem>.<method>-sweep.h5;
    ltkit compare draws its curve.

    Example: ltkit posthoc logit-adjust feats.h5 --set tau=1
    """
    from itertools import product

    from ltkit import evaluation
    from ltkit import posthoc as methods
    from ltkit.errors import InputError
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.records import Correction, joined, shot_groups
    from ltkit.registry import defaults, described, load, parameters_of

    if list_:
        for line in described(methods, "fit"):
            typer.echo(line)
        return
    if method is None:
        raise InputError("METHOD: absent; ltkit posthoc --list names them")
    module = load(methods, method)
    given = parameters_of(module.fit, _options.parameters(set_), method)
    if seeds > 1 and "seed" not in defaults(module.fit):
        raise InputError(f"--seeds: {method} draws nothing at random; leave --seeds out")
    grid: dict[str, tuple[Any, ...]] = getattr(module, "GRID", {})
    free = {k: values for k, values in grid.items() if k not in given}
    if sweep and not free:
        raise InputError(
            f"--sweep: found no parameter of {method} to try, beyond --set; its grid has "
            f"{', '.join(grid) or 'none'}; leave --sweep out"
        )
    path = _paths.features_path(feats if feats is not None or from_ is None else str(from_), quiet)
    stem = f"{method}-sweep" if sweep else method
    target = _paths.output_path(output, path if from_ is None else from_, stem)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,) if from_ is None else (path, from_))
    base, name, settings, inputs = _start(features, from_, run or [], method)
    train, counts = features.splits.get("train"), features.classes.train_count

    tried = [dict(zip(free, values, strict=True)) for values in product(*free.values())]
    val = features.splits.get("val")
    if free and not sweep and val is None:
        first = next(iter(free))
        raise InputError(
            f"{path}: no validation split to choose {first} on; set it with --set {first}=..., or "
            "keep all with --sweep"
        )
    every = defaults(module.fit) | given
    runs = [every | p | _seed(every, n) for p in tried for n in range(seeds)]
    fitted = _fit(module, base, train, counts, runs)
    settings |= {"method": method, "select": None if sweep else select, "bins": bins}
    correction = joined([Correction.whole(name, *fit) for fit in zip(fitted, runs, strict=True)])
    if free and not sweep and val is not None:
        groups = shot_groups(counts, _options.bins(bins))
        (found,) = evaluation.predict_classes(val, base, [correction])
        every_score = [
            evaluation.objective(p, val.labels, base.num_classes, groups, select) for p in found
        ]
        of = [range(n, n + seeds) for n in range(0, len(runs), seeds)]
        best, scores = evaluation.best(every_score, of)
        scale = _output.scale_of([scores])
        for parameters, value in zip(tried, scores, strict=True):
            line = f"{_shown(parameters)}: {select} accuracy {value:.4f} on val"
            bar = _output.interval_bar(value, value, scale, 25) if sys.stderr.isatty() else ""
            _output.say(f"{line:<50} {bar}".rstrip(), quiet)
        _output.say(f"chosen: {_shown(tried[best])}", quiet)
        settings |= {"tried": tried, "val": scores}
        correction = correction.only(of[best])
    classifiers.write(
        target, correction, settings=settings, inputs=inputs, command=_output.command_line()
    )
    _output.wrote(target, quiet)


def _start(
    features: "FeatureSet", from_: Path | None, run: list[str], method: str
) -> "tuple[Classifier, str, dict[str, Any], dict[str, str]]":
    """Return the classifier to correct, the result's name, and what is kept of where it is from.

    Raises:
        InputError: when ``--from`` was not fitted on these features, or has no such run.
    """
    from ltkit.errors import InputError

    inputs = {"features": features.digest}
    if from_ is None:
        if run:
            raise InputError("--run: names a run of --from, which is absent")
        return features.classifier(), method, {}, inputs

    from ltkit.exports import checkpoint as exporting
    from ltkit.files import classifiers, hdf5

    before = classifiers.read_for(from_, features)
    number = exporting.pick(before, _options.settings(run, "--run"))
    settings = {"from": {"method": before.method, "run": dict(before.runs[number])}}
    inputs["from"] = hdf5.header(from_)["digest"]
    base = before.classifier(features.classifier(), number)
    return base, f"{before.method}+{method}", settings, inputs


def _fit(
    module: ModuleType, base: "Classifier", train: Any, counts: Any, runs: Sequence[dict[str, Any]]
) -> "list[Classifier]":
    """Return the classifier of each run, fitted together where the method can."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        if hasattr(module, "fit_many"):
            together: list[Classifier] = module.fit_many(base, train, counts, runs)
            return together
        return [module.fit(base, train, counts, **parameters) for parameters in runs]


def _seed(parameters: dict[str, Any], number: int) -> dict[str, int]:
    return {"seed": parameters["seed"] + number} if "seed" in parameters else {}


def _shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items())
