"""How the commands of ``ltkit analyze`` print and write their results."""

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
    """Write the CSV if asked for; print the document as JSON or as tables.

    Args:
        document: the result of an analysis.
        show: prints it as tables.
        table: returns the heading and the rows of its CSV.
        csv: the CSV file.
        json: print the document itself.
        quiet: do not report the CSV.
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
    """Return an empty table with one text column and number columns."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def percent(value: float | None, std: float | None = None, sign: str = "") -> str:
    """Return a fraction with its deviation, in per cent."""
    if value is None:
        return "–"
    return f"{100 * value:{sign}.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def correlation(value: float | None, std: float | None = None) -> str:
    """Return a correlation with its deviation."""
    if value is None:
        return "–"
    return f"{value:+.2f}" + ("" if std is None else f" ± {std:.2f}")


def title(document: dict[str, Any]) -> str:
    """Return the title of a document's tables."""
    return f"{_tables.files(document)}, {document['split']} split"


def setting(row: dict[str, Any]) -> str:
    """Return the name of a row."""
    label = _tables.safe(row["label"])
    return f"{label}\n± std, {row['runs']} seeds" if row["runs"] > 1 else label
