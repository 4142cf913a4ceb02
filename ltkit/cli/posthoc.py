"""``ltkit posthoc``."""

from typing import Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.settings import Select


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
    list_: Annotated[bool, typer.Option("--list", help="List the methods and exit.")] = False,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct a classifier on cached features; parameters not set are chosen on validation data.

    Example: ltkit posthoc logit-adjust feats.h5 --set tau=1
    """
    from functools import partial
    from itertools import product

    from ltkit import evaluation
    from ltkit import posthoc as methods
    from ltkit.cli._methods import described, load, parameters_of
    from ltkit.errors import InputError
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.records import shot_groups

    if list_:
        for line in described(methods, "fit"):
            typer.echo(line)
        return
    if method is None:
        raise InputError("METHOD: absent; ltkit posthoc --list names them")
    module = load(methods, method)
    given = parameters_of(module.fit, set_ or [], method)
    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, method)
    features = features_file.read(path)
    check_output(target, overwrite=overwrite, inputs=(path,))
    base, train = features.classifier(), features.splits.get("train")
    counts = features.classes.train_count
    fit = partial(module.fit, base, train, counts)

    settings: dict[str, Any] = {"method": method, "select": select, "bins": bins}
    grid: dict[str, tuple[Any, ...]] = getattr(module, "GRID", {})
    free = {name: values for name, values in grid.items() if name not in given}
    if free:
        val = features.splits.get("val")
        if val is None:
            name = next(iter(free))
            raise InputError(
                f"{path}: no validation split to choose {name} on; set it with --set {name}=..."
            )
        score = partial(
            evaluation.objective,
            labels=val.labels,
            num_classes=base.num_classes,
            groups=shot_groups(counts, _options.whole_numbers(bins, "--bins")),
            select=select,
        )
        tried = [given | dict(zip(free, v, strict=True)) for v in product(*free.values())]
        best, scores = evaluation.choose([(p, fit(**p)) for p in tried], val, score)
        for parameters, value in zip(tried, scores, strict=True):
            _output.say(f"{_shown(parameters)}: {select} accuracy {value:.4f} on val", quiet)
        given = tried[best]
        _output.say(f"chosen: {_shown(given)}", quiet)
        settings |= {"tried": tried, "val": scores}
    correction = evaluation.as_correction(method, fit(**given), [given])
    classifiers.write(
        target, correction, settings=settings, inputs={"features": features.digest},
        command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)


def _shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items())
