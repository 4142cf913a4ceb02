"""``ltkit check``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths, _tables
from ltkit.settings import FALSE_ALARM

if TYPE_CHECKING:
    from rich.table import Table


def check(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder that ltkit export --bundle wrote.")
    ],
    feats: _options.Feats = None,
    split: _options.Split = "test",
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", show_default=False,
            help="Judge this figure, as 'accuracy few'; may be repeated. Default: all of them.",
        ),
    ] = None,
    false_alarm: Annotated[
        float,
        _options.setting("false_alarm", "Chance of exit 1 though nothing has changed."),
    ] = FALSE_ALARM,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:  # fmt: skip
    """Measure a bundle again on new labelled features; exit with 1 when a figure fell beyond noise.

    The features are those of the same network on other images: ltkit extract makes them. Every
    digest in the bundle is checked first.

    Example: ltkit check shipped new.h5
    """
    from ltkit import bundles
    from ltkit.files import features as features_file

    held = bundles.read(bundle)
    path = _paths.features_path(feats, quiet)
    features = features_file.read(path)
    document = bundles.check(held, features, split, figures=figure or (), false_alarm=false_alarm)
    document |= {"bundle": str(bundle), "features": str(path)}
    for line in document["notes"]:
        _output.say(f"note: {line}", quiet)
    for name in document["unmeasured"]:
        _output.say(f"note: {name}: no sample here, so it was not measured", quiet)
    if json:
        _output.print_json(document)
    else:
        made = document["made_on"]
        title = (
            f"{path}, {split} split, {document['n']} samples, beside {made['n']} of {made['split']}"
        )
        _output.print_fitting(partial(_table, document), title)
    for row in document["rows"]:
        if row["fell"]:
            _output.say(
                f"{row['figure']} fell from {_tables.percent(row['before'])} to "
                f"{_tables.percent(row['now'])} %, beyond noise"
            )
    if document["fell"]:
        raise typer.Exit(1)


def _table(document: dict[str, Any], look: _output.Look) -> "Table":
    """Return a table with a row for each figure."""
    table = _tables.table_of("figure", ["when made", "now", "difference", "fell"], look)
    table.columns[
        0
    ].header = f"figure\n{100 * (1 - document['false_alarm']):g} % intervals, together"
    for row in document["rows"]:
        difference = _tables.cell(
            {"of": row["difference"]}, {"of": row["interval"]}, None, "of", "+", look
        )
        table.add_row(
            _tables.safe(row["figure"]), _tables.percent(row["before"]),
            _tables.percent(row["now"]), difference, "yes" if row["fell"] else "no",
        )  # fmt: skip
    return table
