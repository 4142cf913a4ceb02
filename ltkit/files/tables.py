"""CSV tables: the only writer of them, for spreadsheets and for programs.

Every file is UTF-8 with LF line ends, one line per row, and a heading first; numbers are bare,
absent ones empty; text is never a formula to a spreadsheet, and control characters in it are
escapes, as on the screen.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ltkit.errors import printable
from ltkit.files.atomic import write_text

Cell = str | float | int | np.number | None

FORMULA = re.compile(r"(?:^|;)\s*(?=[=+\-@＝＋－＠])")
"""Where a formula would start; in some countries a semicolon also starts a cell."""


def text_cell(text: str) -> str:
    """Return text on one line that no spreadsheet reads as a formula.

    Example:
        >>> text_cell("=cmd()"), text_cell("cat"), text_cell("a;-b"), text_cell("a-b")
        ("'=cmd()", 'cat', "a;'-b", 'a-b')
    """
    return FORMULA.sub(lambda start: f"{start[0]}'", printable(text))


def as_csv(heading: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int | None = 6) -> str:
    r"""Return the text of a table.

    Args:
        heading: names of the columns.
        rows: as many cells each; None and NaN are empty.
        digits: decimal places of fractions; None for all that a float has.

    Example:
        >>> as_csv(["name", "=x"], [["cat", 0.5], ["@dog", None]])
        "name,'=x\ncat,0.500000\n'@dog,\n"
    """

    def cell(value: Cell) -> str:
        if isinstance(value, str):
            return text_cell(value)
        if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
            return ""
        if isinstance(value, float | np.floating):
            return repr(float(value)) if digits is None else f"{value:.{digits}f}"
        return str(int(value))

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(text_cell, heading))
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def write_csv(
    path: Path, heading: Sequence[str], rows: Iterable[Sequence[Cell]], digits: int | None = 6
) -> None:
    """Write a whole table; see `as_csv`."""
    write_text(path, as_csv(heading, rows, digits))
