"""Accuracy: the table of ``evaluate``, a figure of it, and grouped accuracies."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.reporting.exhibits import Exhibit, Row, View, visible
from ltkit.reporting.look import axis, bars
from ltkit.reporting.numbers import hundred, percent, span
from ltkit.reporting.source import Source
from ltkit.settings import GROUPS

KEY = "headline"
TITLE = "Accuracy"


def gather(source: Source) -> dict[str, Any]:
    """Return the rows of `evaluate` with the names of settings: in detail, and the others."""
    named = list(zip(source.every_setting, source.scores["rows"], strict=True))
    return {
        **{name: source.scores[name] for name in ("split", "n", "bins", "groups")},
        "detailed": [named[place] for place in source.in_detail],
        "others": [row for place, row in enumerate(named) if place not in source.in_detail],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the tables of `evaluate`, a figure, and grouped accuracies."""
    detailed, others = found["detailed"], found["others"]
    accuracies = [row["accuracy"] for _, row in (*detailed, *others)]
    even = all(a["all"] is None or abs(a["all"] - a["balanced"]) < 1e-9 for a in accuracies)
    columns = GROUPS[:-1] if even else GROUPS
    caption = (
        f"Top-1 accuracy in % on the {found['split']} split, {found['n']} samples; few, "
        f"medium and many by training count (below {found['bins'][0]}, to "
        f"{found['bins'][1]}, above). Second line: 95 % interval for new samples and seeds; after "
        f"Δ the difference from {source.first} with its own, paired interval. ± is the standard "
        "deviation over seeds. Top-5 and ECE (expected calibration error) in %, over all samples."
    )
    sizes = found["groups"]
    heads = [f"{n}\n{sizes[n]} classes" if n in sizes else n for n in columns]
    title = "Networks and their corrections" if source.several else "Baseline and corrections"
    exhibits = [
        _table("headline", title, caption, heads, columns, detailed),
        _figure(detailed),
    ]
    if others:
        about = "Read as the table above."
        exhibits.append(
            _table("settings", "Other settings of the same files", about, heads, columns, others)
        )
    if "grouped" in detailed[0][1]:
        exhibits.append(_grouped(detailed, columns))
    return exhibits


def _table(
    key: str,
    title: str,
    caption: str,
    heads: Sequence[str],
    columns: Sequence[str],
    named: Sequence[tuple[str, Mapping[str, Any]]],
) -> Exhibit:
    csv = ("setting", "runs", "group", "accuracy", "std", "low", "high", "difference",
           "difference_low", "difference_high")  # fmt: skip
    cells = [["setting", *heads, "top-5", "ECE"]]
    cells += [_cells(name, row, columns) for name, row in named]
    values = [line for name, row in named for line in _lines(name, row)]
    return Exhibit(key, title, caption, csv, values, cells=cells)


def _cells(name: str, row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    spread = f"\nmean ± std of {row['runs']} seeds" if row["runs"] > 1 else ""
    cells = [f"{visible(name)}{spread}"]
    for column in columns:
        lines = [percent(row["accuracy"][column])]
        if row["std"] and row["std"][column] is not None:
            lines[0] += f" ± {100 * row['std'][column]:.1f}"
        lines.append(span(row["interval"][column]))
        if "difference" in row and row["difference"][column] is not None:
            lines.append(f"Δ {percent(row['difference'][column], '+')}")
            lines.append(span(row["difference_interval"][column], "+"))
        cells.append("\n".join(filter(None, lines)))
    top5 = row["top5"]["all"] if "top5" in row else None
    return [*cells, percent(top5), percent(row["calibration"].get("all"))]


def _lines(name: str, row: Mapping[str, Any]) -> list[Row]:
    def ends(what: str, group: str) -> Sequence[float | None]:
        return row.get(what, {}).get(group) or (None, None)

    return [
        [
            name, row["runs"], group, row["accuracy"][group], row["std"] and row["std"][group],
            *ends("interval", group), row.get("difference", {}).get(group),
            *ends("difference_interval", group),
        ]
        for group in GROUPS
    ]  # fmt: skip


def _figure(detailed: Sequence[tuple[str, Mapping[str, Any]]]) -> Exhibit:
    present = [g for g in GROUPS[:-1] if detailed[0][1]["accuracy"][g] is not None]
    traces = []
    rows: list[Row] = []
    for place, (name, row) in enumerate(detailed):
        found = [(g, row["accuracy"][g], row["interval"][g] or (None, None)) for g in present]
        error = {
            "type": "data", "symmetric": False, "thickness": 1, "width": 2,
            "array": [100 * (e[1] - v) if e[1] is not None else 0 for _, v, e in found],
            "arrayminus": [100 * (v - e[0]) if e[0] is not None else 0 for _, v, e in found],
        }  # fmt: skip
        heights = hundred(value for _, value, _ in found)
        traces.append(bars(name, heights, present, place, error_y=error))
        rows += [[name, g, value, *ends] for g, value, ends in found]
    return Exhibit(
        "accuracy",
        "Accuracy by shot group",
        "Height: accuracy in %; line: 95 % interval for new samples and seeds. What a rise of few "
        "may cost medium and many is for you to say; all is the mean over images.",
        ("setting", "group", "accuracy", "low", "high"),
        rows,
        [View("", traces, {"barmode": "group", "yaxis": axis("accuracy in %")})],
    )


def _grouped(detailed: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[str]) -> Exhibit:
    about = detailed[0][1]["grouped"]
    how = f" ({about['rule']} rule, level {about['level']})" if "rule" in about else ""
    cells = [["setting", *columns]]
    rows: list[Row] = []
    for name, row in detailed:
        grouped = row["grouped"]
        line = [visible(name)]
        for column in columns:
            std = grouped["std"] and grouped["std"][column]
            within = span(grouped["interval"][column])
            spread = "" if std is None else f" ± {100 * std:.1f}"
            line.append(f"{percent(grouped['accuracy'][column])}{spread}\n{within}".strip())
        cells.append(line)
        rows += [
            [name, g, grouped["accuracy"][g], *(grouped["interval"][g] or (None, None))]
            for g in GROUPS
        ]
    caption = (
        f"A prediction counts when it falls in the true class's group, by {visible(about['by'])}"
        f"{how}. A mean group has {about['mean_group_size']:.1f} classes, so guessing gives "
        f"{100 * about['chance']:.1f} %: a loose group is easy to hit."
    )
    columns_of_csv = ("setting", "group", "accuracy", "low", "high")
    return Exhibit("grouped", "Grouped accuracy", caption, columns_of_csv, rows, cells=cells)
