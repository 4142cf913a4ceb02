"""What the commands of ``ltkit analyze`` print alike, and how they give their results."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltkit.cli import _output, _tables

if TYPE_CHECKING:
    from rich.table import Table


def give(
    document: dict[str, Any],
    show: Callable[[dict[str, Any]], None],
    table: Callable[[dict[str, Any]], tuple[Sequence[str], Sequence[Sequence[Any]]]],
    csv: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    """Write the CSV that is asked for; print the document, or show it to a person.

    Args:
        document: what an analysis found.
        show: prints it in tables.
        table: gives the heading and the rows of its CSV.
        csv: where to.
        json: print it as it is.
        quiet: say nothing of the CSV.
    """
    from ltkit.files.tables import write_csv

    if csv is not None:
        write_csv(csv, *table(document))
        _output.say(f"wrote {csv}", quiet)
    if json:
        _output.print_json(document)
    else:
        show(document)


def table_of(first: str, *columns: str) -> "Table":
    """Return an empty table of a column of texts and columns of numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def percent(value: float | None, std: float | None = None, sign: str = "") -> str:
    """Return a fraction, and its deviation, in per cent."""
    if value is None:
        return "–"
    return f"{100 * value:{sign}.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def correlation(value: float | None, std: float | None = None) -> str:
    """Return a correlation, and its deviation."""
    if value is None:
        return "–"
    return f"{value:+.2f}" + ("" if std is None else f" ± {std:.2f}")


def title(document: dict[str, Any]) -> str:
    """Return what the tables of a document are of."""
    return f"{document['features']}, {document['split']} split"


def setting(row: dict[str, Any]) -> str:
    """Return what a row is called."""
    label = _tables.safe(row["label"])
    return f"{label}\n± std, {row['runs']} seeds" if row["runs"] > 1 else label
