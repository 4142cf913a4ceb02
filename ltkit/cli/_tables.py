"""How commands draw tables: cells, intervals, bars."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ltkit.cli import _output

if TYPE_CHECKING:
    from rich.table import Table


def table_of(
    first: str,
    columns: Iterable[str],
    look: _output.Look,
    scale: tuple[float, float] | None = None,
) -> "Table":
    """Return an empty table for figures with 95 % intervals, with bars on a given scale."""
    from rich import box
    from rich.table import Table

    bar = ""
    if look.bars and scale is not None:
        bar = f"\nbar {' to '.join(f'{100 * end:.0f}' for end in scale)}"
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column(f"{first}\n95 % interval{bar}", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=look.narrow)
    return table


def scale_of(
    found: Iterable[dict[str, Any]], columns: Iterable[str], most: float = 1.0
) -> tuple[float, float]:
    """Return one scale for the bars of all rows: around 0 for differences, else up to `most`."""
    names = tuple(columns)
    every = [row["interval"][name] for row in found for name in names]
    signed = any(min(ends) < 0 for ends in every if ends is not None)
    low, high = _output.scale_of(every, signed)
    return low, min(high, most)


def files(document: dict[str, Any]) -> str:
    """Return the features files that a document speaks of."""
    return ", ".join(document.get("networks", [document["features"]]))


def safe(text: str) -> str:
    """Return text for a table cell, without markup."""
    from rich.markup import escape

    return escape(_output.printable(text))


def percent(value: float | None) -> str:
    """Return a fraction in %, or a dash for none."""
    return "–" if value is None else f"{100 * value:.1f}"


def cell(
    values: dict[str, float | None],
    intervals: dict[str, list[float] | None],
    deviations: dict[str, float | None] | None,
    name: str,
    sign: str = "",
    look: _output.Look = _output.PLAIN,
    scale: tuple[float, float] | None = None,
) -> str:
    """Return a fraction in % with its deviation, its interval below, and a bar on a scale."""
    value, interval = values[name], intervals[name]
    if value is None:
        return "–"
    deviation = deviations[name] if deviations else None
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    shown = f"{100 * value:{sign}.1f}{spread}"
    if interval is None:
        return f"{shown}\nno interval"
    ends = look.interval(*(f"{100 * v:{sign}.1f}" for v in interval))
    return f"{shown}\n{ends}{'' if scale is None else look.bar(interval, scale)}"


def of_sweep(
    settings: Sequence[dict[str, Any]], few: Sequence[float | None], look: _output.Look
) -> str:
    """Return lines on the settings that a row was chosen of: how many, their knob, their curve.

    Args:
        settings: of one correction.
        few: the few-shot accuracy of each.
        look: with bars, the curve is drawn.
    """
    from ltkit.evaluation import knob_of

    count, knob = len(settings), knob_of(settings)
    if knob is None:
        return f"\nbest of {count} settings"
    points = sorted(zip((s[knob] for s in settings), few, strict=True))
    span = look.interval(f"{points[0][0]:g}", f"{points[-1][0]:g}")
    heights = [100 * height for _, height in points if height is not None]
    if not heights:
        return f"\nbest of {count}, {knob} {span}"
    curve = f"{_output.sparkline(heights)} " if look.bars else ""
    ends = look.interval(f"{heights[0]:.0f}", f"{heights[-1]:.0f}")
    return f"\nbest of {count}, {knob} {span}\nfew {curve}{ends}{'' if look.narrow else ' %'}"


def about_pairs(document: dict[str, Any]) -> str:
    """Return the title of a table of confused pairs."""
    return (
        f"pairs that {document['of']} confuses most: % of the true class's samples (others: points "
        "from there)"
    )


def of_pairs(document: dict[str, Any], most: int) -> "Table":
    """Return the table of the most confused pairs, with so many settings at most.

    Args:
        document: with of, settings, and the pairs of `ltkit.evaluation.confusion`.
        most: settings.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("class (training images)\n  taken for", overflow="fold")
    for name in document["settings"][:most]:
        table.add_column(safe(name), justify="right")
    for pair in document["pairs"]:
        cells = [
            percent(share) + ("" if name == document["of"] else f" ({100 * change:+.1f})")
            for name, share, change in zip(
                document["settings"], pair["share"], pair["change"], strict=True
            )
        ]
        table.add_row(f"{_named(pair['true'])}\n  {_named(pair['predicted'])}", *cells[:most])
    return table


def _named(one: dict[str, Any]) -> str:
    return safe(f"{one['name']} ({one['train_count']})")
