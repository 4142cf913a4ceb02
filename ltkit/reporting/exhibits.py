"""Exhibits: figures (as plain Plotly JSON) and tables, with captions and the rows of their CSVs.

A figure has one view or several, of which the page shows one at a time. Names of classes and files
come from outside: in Plotly's texts, which take tags and entities, they are escaped (`label`).
Traces whose points are classes carry the class ids as ``customdata`` and ``meta`` "class": the page
makes their hover texts, and a click shows the class's card.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

Row = Sequence[Any]


@dataclass(frozen=True)
class View:
    """One picture of a figure.

    name: what it is called where there are several.
    traces, layout: of Plotly.
    setting: which of the settings in detail its classes are described by; 0 is the baseline.
    """

    name: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    setting: int = 0


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    text: lines are separated by line feeds.
    mark: what it is shown as: ``gain``, ``loss``, ``noise``, or ``lead`` for a row's head; texts
        say the same, so that no reader needs the colour.
    picture: a data URL, shown above the text.
    """

    text: str
    mark: str = ""
    picture: str = ""


@dataclass(frozen=True)
class Exhibit:
    """A figure, if it has views, or else a table.

    key: name of the page's element and of files.
    caption: how to read it.
    columns, rows: of the CSV, numbers as they are.
    cells: of a table, heading first; texts stand for cells without a mark.
    height: of a figure, in pixels.
    """

    key: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    views: Sequence[View] = ()
    cells: Sequence[Sequence[str | Cell]] = ()
    height: int = 440


@dataclass(frozen=True)
class Section:
    """A part of the page: its exhibits, or why there are none.

    found: the data that the exhibits are drawn from.
    question: of the page, that it helps to answer.
    """

    key: str
    title: str
    found: Mapping[str, Any] = field(default_factory=dict)
    exhibits: Sequence[Exhibit] = ()
    absent: str = ""
    question: str = ""


def label(text: str, longest: int = 40) -> str:
    r"""Return text that Plotly shows literally: without tags, on one line, not too long.

    Example:
        >>> label("a<b>\n")
        'a&lt;b&gt;\\n'
    """
    return escape(brief(text, longest), quote=False)


def brief(text: str, longest: int = 60) -> str:
    """Return text on one line, shortened if it is long.

    Example:
        >>> brief("0123456789", longest=4)
        '0123…'
    """
    text = visible(text)
    return text if len(text) <= longest else f"{text[:longest]}…"


def visible(text: str) -> str:
    r"""Return text with control characters and direction marks as escapes.

    Example:
        >>> visible("a\u202eb\x1b")
        'a\\u202eb\\x1b'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
