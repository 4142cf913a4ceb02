"""``ltkit report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _inputs, _options, _output
from ltkit.settings import REPLICATES, NeighborSettings

if TYPE_CHECKING:
    from ltkit.reporting.making import Report


def report(
    files: _options.FeatsOfNetworks = None,
    classifier: _options.Classifiers = None,
    base: _options.Base = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output page.")] = Path(
        "report.html"
    ),
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Dataset's folder, for pictures of the classes.",
            show_default=False,
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write the figures as SVG, PDF and PNG.",
            show_default=False,
        ),
    ] = None,
    split: _options.Split = "test",
    group: Annotated[
        str,
        typer.Option(
            help="Grouped accuracy: none, wordnet, coarse, or a file of class<TAB>group; auto "
            "takes the first of wordnet and coarse that the classes have."
        ),
    ] = "auto",
    rule: _options.Rule = "path",
    level: _options.Level = 4,
    k: _options.Neighbours = NeighborSettings.k,
    bins: _options.Bins = None,
    replicates: _options.Replicates = REPLICATES,
    seed: _options.Seed = 0,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write an offline HTML page with figures of a model and its corrections.

    For a file with several settings, the one with the best balanced accuracy on the validation
    split is shown class by class; the others are in the tables. Sections without data say what they
    need. Features files of other networks on the same test set are shown beside the first.

    Example: ltkit report feats.h5 -o report.html
    """
    from ltkit.files.atomic import check_output
    from ltkit.reporting import making

    path, named = _inputs.features_and_named(files, quiet, classifier)
    features, entries = _inputs.read_judged(path, base, named, quiet, split)
    own = () if features.base is None else (Path(features.base.source),)
    read = (path, *own, *(Path(entry.file) for entry in entries))
    check_output(output, overwrite=overwrite, inputs=read)
    made = making.make(
        features, split, entries, read=read, images=images, group=group, rule=rule, level=level,
        bins=_options.bins(bins), k=k, replicates=replicates, seed=seed,
        command=_output.command_line(), report=_output.Progress("sections", quiet),
    )  # fmt: skip
    _output.say_of_choice(made.compared, quiet)
    drawn = made.write(output, figures)
    _output.say(f"{output}: {_summary(made)}", quiet)
    _output.wrote(output, quiet)
    if figures is not None:
        _output.say(f"wrote {len(drawn)} files in {figures}", quiet)


def _summary(made: "Report") -> str:
    """Return, in one line, what a page shows."""
    corrections = len(made.compared["methods"]) - 1 if made.compared else 0
    drawn = sum(not part.absent for part in made.parts)
    networks = len(made.compared["networks"]) if made.compared else 1
    others = f"{networks} networks, " * (networks > 1)
    corrections -= networks - 1
    return (
        f"{others}{corrections} correction{'s' * (corrections != 1)}, {drawn} of "
        f"{len(made.parts)} sections have data, {len(made.text.encode()) / 1e6:.1f} MB"
    )
