"""Figures and tables of a report, as plain Plotly JSON, from what `ltkit.reporting.data` gathers.

An exhibit is a figure or a table, with a caption that says how to read it and the rows of its CSV.
A figure has one view or several, of which the page shows one at a time. Names of classes and files
come from outside: in Plotly's texts, which take tags and entities, they are escaped (`label`).
Traces whose points are classes carry the class ids as ``customdata`` and ``meta`` "class": the page
makes their hover texts, and a click shows the class's card.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ltkit.reporting.data import details
from ltkit.settings import GROUPS, SHOT_GROUPS

COLORS = {"few": "#d1495b", "medium": "#b7791f", "many": "#2a7fb8", "all": "#6b7683"}
"""Legible on white and on near-black."""

BEFORE = "#828d99"
SERIES = (
    "#2a7fb8", "#d1495b", "#2f8f5b", "#8a63c9", "#b7791f", "#13929c", "#c2569b", "#7a7d2a",
)  # fmt: skip

CIVIDIS = ("#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffea46")
"""From low to high; even for readers who see no red or green."""

EVEN = [[t / 5, color] for t, color in enumerate(CIVIDIS)]
ROOT = [[(t / 5) ** 2, color] for t, color in enumerate(CIVIDIS)]
"""By the square root, so that small shares are seen."""

LIGHT = [[0, "#f4f7fa"], [1, "#5fa8d8"]]
"""Behind dark letters."""

INK = "#16202a"

TICKS = [step * 10.0**power for power in range(-4, 8) for step in (1, 2, 5)]

SIGNED = [[0, "#2166ac"], [0.5, "#f2f2f2"], [1, "#b2182b"]]

LABELLED = 60
"""Classes named on an axis, at most."""

DASHES = ("solid", "dash", "longdash", "dot")
SYMBOLS = ("circle", "square", "diamond", "x")
"""Of curves; the last is that of a random control."""

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
class Exhibit:
    """A figure, when it has views, or else a table.

    key: of the page's element and of files.
    caption: how to read it.
    columns, rows: of the CSV, numbers as they are.
    cells: of a table, heading first; lines of a cell are separated by line feeds.
    height: of a figure, in pixels.
    """

    key: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    views: Sequence[View] = ()
    cells: Sequence[Sequence[str]] = ()
    height: int = 440


@dataclass(frozen=True)
class Section:
    """A part of the page: exhibits, or why there is none."""

    key: str
    title: str
    exhibits: Sequence[Exhibit] = ()
    absent: str = ""


def label(text: str, longest: int = 40) -> str:
    r"""Return text as Plotly shows it, letter by letter: no tags, one line, not too long.

    Example:
        >>> label("a<b>\n")
        'a&lt;b&gt;\\n'
    """
    return escape(brief(text, longest), quote=False)


def brief(text: str, longest: int = 60) -> str:
    """Return text on one line, cut where it is longer.

    Example:
        >>> brief("0123456789", longest=4)
        '0123…'
    """
    text = visible(text)
    return text if len(text) <= longest else f"{text[:longest]}…"


def visible(text: str) -> str:
    r"""Return text with control characters, and those that turn the direction, as escapes.

    Example:
        >>> visible("a\u202eb\x1b")
        'a\\u202eb\\x1b'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sections(gathered: Mapping[str, Any]) -> list[Section]:
    """Return the parts of the page, in its order.

    Args:
        gathered: of `ltkit.reporting.data.gather`.
    """
    parts = (
        ("headline", "Accuracy", _headline, None),
        ("classes", "Class by class", _classes, None),
        ("deltas", "Accuracy against ρ", _deltas, "deltas"),
        ("frontier", "Few-shot against overall accuracy", _frontier, None),
        ("flows", "Where predictions went", _flows, "flows"),
        ("alpha", "Learned coefficients", _alpha, "alpha"),
        ("norms", "Classifier norms", _norms, "norms"),
        ("weights", "Loss weights", _weights, "weights"),
        ("confusion", "Confusions", _confusion, "confusion"),
        ("map", "Map of the classes", _map, "map"),
        ("calibration", "Calibration", _calibration, None),
        ("tree", "Tree of groups", _tree, "tree"),
    )
    found = []
    for key, title, make, needed in parts:
        absent = "" if needed is None else gathered[needed].get("absent", "")
        exhibits = [] if absent else make(gathered)
        if isinstance(exhibits, str):
            absent, exhibits = exhibits, []
        found.append(Section(key, title, exhibits, absent))
    return found


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}"


def _hundred(values: Iterable[float | None]) -> list[float | None]:
    return [None if v is None else round(100 * v, 4) for v in values]


def _series(place: int) -> str:
    """Return the colour of a setting in detail; 0 is the baseline."""
    return SERIES[(place - 1) % len(SERIES)] if place else BEFORE


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, **more}


def _log(title: str) -> dict[str, Any]:
    """Return a logarithmic axis, its ticks written out."""
    ticks = {"tickvals": TICKS, "ticktext": [f"{tick:g}" for tick in TICKS]}
    return _axis(title, type="log", minor={"ticks": ""}, **ticks)


def _headline(gathered: Mapping[str, Any]) -> list[Exhibit]:
    """Return the table of `evaluate`, a figure of it, and grouped accuracies."""
    document = gathered["evaluate"]
    rows, settings = document["rows"], gathered["settings"]
    named = list(zip(settings["label"], rows, strict=True))
    detailed = [named[place] for place in settings["detailed"]]
    others = [pair for place, pair in enumerate(named) if place not in settings["detailed"]]
    sizes = document["groups"]
    even = all(
        r["accuracy"]["all"] is None or abs(r["accuracy"]["all"] - r["accuracy"]["balanced"]) < 1e-9
        for r in rows
    )
    columns = GROUPS[:-1] if even else GROUPS
    caption = (
        f"Top-1 accuracy in % on the {document['split']} split, {document['n']} samples; few, "
        f"medium and many by training count (below {document['bins'][0]}, to "
        f"{document['bins'][1]}, above). Second line: 95 % interval over test samples; after Δ the "
        "difference from the baseline with its own, paired interval. ± is the standard deviation "
        "over seeds. Top-5 and ECE (expected calibration error) in %, over all samples."
    )
    heads = [f"{n}\n{sizes[n]} classes" if n in sizes else n for n in columns]
    csv = ("setting", "runs", "group", "accuracy", "std", "low", "high", "difference",
           "difference_low", "difference_high")  # fmt: skip
    found = []
    for key, title, part, about in (
        ("headline", "Baseline and corrections", detailed, caption),
        ("settings", "Other settings of the same files", others, "Read as the table above."),
    ):
        if part:
            cells = [["setting", *heads, "top-5", "ECE"]]
            cells += [_headline_cells(name, row, columns) for name, row in part]
            values = [line for name, row in part for line in _headline_rows(name, row)]
            found.append(Exhibit(key, title, about, csv, values, cells=cells))
    found.insert(1, _headline_figure(detailed))
    if "grouped" in rows[0]:
        found.append(_grouped(detailed, columns))
    return found


def _headline_cells(name: str, row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    spread = f"\nmean ± std of {row['runs']} seeds" if row["runs"] > 1 else ""
    cells = [f"{visible(name)}{spread}"]
    for column in columns:
        lines = [_percent(row["accuracy"][column])]
        if row["std"] and row["std"][column] is not None:
            lines[0] += f" ± {100 * row['std'][column]:.1f}"
        lines.append(_span(row["interval"][column]))
        if "difference" in row and row["difference"][column] is not None:
            lines.append(f"Δ {_percent(row['difference'][column], '+')}")
            lines.append(_span(row["difference_interval"][column], "+"))
        cells.append("\n".join(filter(None, lines)))
    top5 = row["top5"]["all"] if "top5" in row else None
    return [*cells, _percent(top5), _percent(row["calibration"].get("all"))]


def _span(interval: Sequence[float] | None, sign: str = "") -> str:
    return "" if interval is None else " to ".join(_percent(v, sign) for v in interval)


def _headline_rows(name: str, row: Mapping[str, Any]) -> list[Row]:
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


def _headline_figure(detailed: Sequence[tuple[str, Mapping[str, Any]]]) -> Exhibit:
    present = [g for g in GROUPS[:-1] if detailed[0][1]["accuracy"][g] is not None]
    traces, rows = [], []
    for place, (name, row) in enumerate(detailed):
        bars = [(g, row["accuracy"][g], row["interval"][g] or (None, None)) for g in present]
        traces.append({
            "type": "bar", "name": label(name), "x": present,
            "y": _hundred(value for _, value, _ in bars), "marker": {"color": _series(place)},
            "error_y": {
                "type": "data", "symmetric": False, "thickness": 1, "width": 2,
                "array": [100 * (e[1] - v) if e[1] is not None else 0 for _, v, e in bars],
                "arrayminus": [100 * (v - e[0]) if e[0] is not None else 0 for _, v, e in bars],
            },
            "hovertemplate": "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        })  # fmt: skip
        rows += [[name, g, value, *ends] for g, value, ends in bars]
    return Exhibit(
        "accuracy",
        "Accuracy by shot group",
        "Height: accuracy in %; line: 95 % interval over test samples. A correction is worth "
        "having when the rise of few is not paid for by a fall of all.",
        ("setting", "group", "accuracy", "low", "high"),
        rows,
        [View("", traces, {"barmode": "group", "yaxis": _axis("accuracy in %")})],
    )  # fmt: skip


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
            spread = "" if std is None else f" ± {100 * std:.1f}"
            span = _span(grouped["interval"][column])
            line.append(f"{_percent(grouped['accuracy'][column])}{spread}\n{span}".strip())
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


def _classes(gathered: Mapping[str, Any]) -> list[Exhibit]:
    """Return accuracies against training count, and against neighbour distance where known."""
    classes = gathered["classes"]
    counts = classes["train_count"]
    zero = "; classes without training images stand at 0.5" if min(counts) == 0 else ""
    found = [
        _scatter(
            gathered, "by-count", "Accuracy against training images",
            {c: max(n, 0.5) for c, n in enumerate(counts)},
            _log("training images"), "train_count",
            "A mark is a class: grey rings before, filled marks after the correction. Rare classes "
            f"are at the left{zero}.",
        )
    ]  # fmt: skip
    near = gathered["neighbors"]
    if "absent" in near:
        return found
    related = "; ".join(
        f"{visible(row['label'])} {row['r']:+.2f}"
        + ("" if row["change"] is None else f" (change {row['change']:+.2f})")
        for row in near["spearman"]
        if row["r"] is not None
    )
    found.append(
        _scatter(
            gathered, "by-distance", "Accuracy against distance to the nearest base classes",
            dict(zip(near["class"], near["mean"], strict=True)),
            _axis(f"mean {near['metric']} distance to {near['k']} neighbours"), "distance",
            "A class at the left has frequent classes close by, which it is easily taken for."
            + (f" Spearman's r of distance and accuracy over few-shot classes: {related}."
               if related else ""),
        )
    )  # fmt: skip
    return found


def _scatter(
    gathered: Mapping[str, Any],
    key: str,
    title: str,
    position: Mapping[int, float],
    axis: Mapping[str, Any],
    column: str,
    caption: str,
) -> Exhibit:
    """Return class accuracies against something known of the classes, a view a correction."""
    classes, names = gathered["classes"], details(gathered)
    accuracy = classes["accuracy"]
    there = [c for c in position if accuracy[0][c] is not None]
    values = classes["train_count"] if column == "train_count" else position

    def trace(ids: Sequence[int], row: Sequence[float | None], **more: Any) -> dict[str, Any]:
        return {
            "type": "scatter", "mode": "markers", "meta": "class", "customdata": ids,
            "x": [position[c] for c in ids], "y": _hundred(row[c] for c in ids), **more,
        }  # fmt: skip

    before = trace(
        there, accuracy[0], name="baseline",
        marker={"color": BEFORE, "symbol": "circle-open", "size": 7},
    )  # fmt: skip
    views = []
    after = list(enumerate(zip(names, accuracy, strict=True)))[1:]
    for place, (name, row) in after or [(0, (names[0], None))]:
        traces = [before]
        for group in SHOT_GROUPS if row else ():
            ids = [c for c in there if classes["group"][c] == group]
            if ids:
                marker = {"color": COLORS[group], "size": 7, "opacity": 0.85}
                traces.append(trace(ids, row, name=group, marker=marker))
        views.append(View(
            name, traces,
            {"xaxis": axis, "yaxis": _axis("accuracy in %"), "hovermode": "closest"},
            place,
        ))  # fmt: skip
    return Exhibit(
        key, title,
        f"{caption} Point at a mark for the class, choose it for its card below.",
        ("class", "name", "group", "samples", column, *names),
        [[c, classes["name"][c], classes["group"][c], classes["samples"][c], values[c],
          *(row[c] for row in accuracy)] for c in there],
        views,
    )  # fmt: skip


def _deltas(gathered: Mapping[str, Any]) -> list[Exhibit]:
    traces, rows = [], []
    curves = sorted(gathered["deltas"]["curves"], key=lambda c: c["metric"] == "random")
    for place, curve in enumerate(curves):
        place = 3 if curve["metric"] == "random" else place % 3
        for group in ("few", "medium", "many", "all"):
            if group not in curve["change"]:
                continue
            change, std = curve["change"][group], curve["std"][group]
            several = [value is not None for value in std]
            traces.append({
                "type": "scatter", "mode": "lines+markers", "x": curve["rho"],
                "y": _hundred(change), "name": f"{group}, {label(curve['name'])}",
                "line": {"color": COLORS[group], "dash": DASHES[place]},
                "marker": {"color": COLORS[group], "symbol": SYMBOLS[place]},
                "error_y": {"type": "data", "visible": any(several), "thickness": 1, "width": 3,
                            "array": [100 * value if value else 0 for value in std]},
                "hovertemplate": "ρ %{x}: %{y:+.2f} points<extra>%{fullData.name}</extra>",
            })  # fmt: skip
            rows += [
                [curve["name"], rho, runs, group, c, s]
                for rho, runs, c, s in zip(curve["rho"], curve["runs"], change, std, strict=True)
            ]
    return [
        Exhibit(
            "deltas", "Change of accuracy against ρ",
            "Points of accuracy gained over the baseline, mean over seeds with its standard "
            "deviation. A smaller ρ hears the frequent classes less: few rises, many falls. "
            "Dotted lines, where given, are fits with random neighbours, the control: a gain "
            "beyond theirs comes of the neighbours being near.",
            ("curve", "rho", "runs", "group", "change", "std"), rows,
            [View("", traces, {"xaxis": _axis("ρ"), "yaxis": _axis("change in points")})],
        )
    ]  # fmt: skip


def _frontier(gathered: Mapping[str, Any]) -> list[Exhibit] | str:
    compared = gathered["compare"]
    if compared is None:
        return "no correction to draw; make one with ltkit posthoc or ltkit alphanet fit"
    if compared["frontier"] is None:
        return "no few-shot class in this split"
    traces: list[dict[str, Any]] = []
    rows: list[Row] = []
    for place, method in enumerate(compared["methods"]):
        points, color = method["points"], _series(place)
        symbol = "diamond" if place == 0 else "circle"
        traces.append({
            "type": "scatter", "mode": "markers", "name": label(method["name"]),
            "legendgroup": str(place), "x": _hundred(p["accuracy"]["all"] for p in points),
            "y": _hundred(p["accuracy"]["few"] for p in points),
            "text": [label(p["label"]) for p in points],
            "marker": {"color": color, "symbol": symbol, "size": 10 if place == 0 else 8},
            "hovertemplate": "%{text}<br>overall %{x:.2f} %, few %{y:.2f} %<extra></extra>",
        })  # fmt: skip
        walk = sorted((p["accuracy"]["all"], p["accuracy"]["few"]) for p in points if p["on_curve"])
        if len(walk) > 1:
            traces.append({
                "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
                "legendgroup": str(place), "line": {"color": color, "width": 1.5},
                "x": _hundred(x for x, _ in walk), "y": _hundred(y for _, y in walk),
            })  # fmt: skip
        rows += [
            [p["label"], p["runs"], p["accuracy"]["all"], p["accuracy"]["few"],
             int(p["on_curve"]), p["dominated_by"]]
            for p in points
        ]  # fmt: skip
    traces = [*traces[1:], traces[0]]  # the baseline above the settings that equal it
    chosen = compared["frontier"]["chosen_on"]
    return [
        Exhibit(
            "frontier", "Every setting of every correction",
            "Up and to the right is better. A line joins a method's settings worth having, chosen "
            f"on the {chosen} split: mixing two of them reaches every point between. A method is "
            "ahead where its line is above the others' at the same overall accuracy.",
            ("setting", "runs", "all", "few", "on_curve", "dominated_by"), rows,
            [View("", traces, {"xaxis": _axis("overall accuracy in %"), "hovermode": "closest",
                               "yaxis": _axis("few-shot accuracy in %")})],
            height=480,
        )
    ]  # fmt: skip


def _flows(gathered: Mapping[str, Any]) -> list[Exhibit]:
    flows = gathered["flows"]
    words = {"correct": "correct", "neighbor": "a neighbour", "other": "other"}
    statuses = [words[status] for status in flows["statuses"]]
    size = len(statuses)
    shades = ("#2f8f5b", "#b7791f", "#828d99")
    views, rows = [], []
    for row in flows["rows"]:
        links = [
            (b, a, row["count"][b][a]) for b in range(size) for a in range(size)
            if row["count"][b][a]
        ]  # fmt: skip
        sides = (
            [sum(line) for line in row["count"]],
            [sum(column) for column in zip(*row["count"], strict=True)],
        )
        shares = [[n / max(sum(side), 1e-9) for n in side] for side in sides]
        views.append(View(
            f"{row['samples']}, {row['by']}: {row['label']}",
            [{
                "type": "sankey", "valueformat": ",.0f", "arrangement": "fixed",
                "node": {
                    "label": [f"{status} {100 * share:.1f} %" for side in shares
                              for status, share in zip(statuses, side, strict=True)],
                    "color": [*shades, *shades], "pad": 18, "thickness": 16,
                    "x": [0.001] * size + [0.999] * size,
                    "y": [max(y, 0.001) for side in shares for y in _middles(side)],
                },
                "link": {
                    "source": [b for b, _, _ in links], "target": [size + a for _, a, _ in links],
                    "value": [n for _, _, n in links],
                    "color": [f"{shades[b]}66" for b, _, _ in links],
                },
            }],
            {"margin": {"l": 8, "r": 8, "t": 12, "b": 24}},
        ))  # fmt: skip
        rows += [
            [row["label"], row["samples"], row["by"], row["n"], statuses[b], statuses[a],
             row["count"][b][a], row["std"][b][a]]
            for b in range(size)
            for a in range(size)
        ]  # fmt: skip
    return [
        Exhibit(
            "flows", "Predictions before and after",
            "Left: predictions of the baseline, right: after the correction; the width is the "
            "number of test samples, a mean over seeds, and % their share. A neighbour is a wrong "
            "class near the true one. Rare classes are saved where a band runs from a neighbour to "
            "correct.",
            ("setting", "samples", "neighbors", "n", "before", "after", "count", "std"),
            rows, views,
        )
    ]  # fmt: skip


def _middles(shares: Sequence[float], gap: float = 0.05) -> list[float]:
    """Return where the middles of boxes are that stand below each other, from 0 to 1.

    Example:
        >>> _middles([0.5, 0.5], gap=0.2)
        [0.2, 0.8]
    """
    room, top, found = 1 - gap * (len(shares) - 1), 0.0, []
    for share in shares:
        found.append(round(top + room * share / 2, 4))
        top += room * share + gap
    return found


def _alpha(gathered: Mapping[str, Any]) -> list[Exhibit] | str:
    classes = gathered["classes"]
    views, rows = [], []
    tallest = 0
    for fit in gathered["alpha"]["rows"]:
        pairs = zip(fit["class"], fit["neighbor"], fit["alpha"], strict=True)
        lines = sorted(pairs, key=lambda line: -classes["train_count"][line[0]])
        rows += [
            [fit["label"], c, classes["name"][c], rank, other, classes["name"][other], value]
            for c, near, alphas in lines
            for rank, (other, value) in enumerate(zip(near, alphas, strict=True), start=1)
        ]
        if not fit["same"]:  # the runs of a random control have neighbours of their own
            continue
        tallest = max(tallest, len(lines))
        ticks: dict[str, Any] = {"autorange": "reversed", "showticklabels": False}
        if len(lines) <= LABELLED:
            ticks = {"autorange": "reversed", "tickvals": list(range(len(lines))),
                     "ticktext": [label(classes["name"][c], 16) for c, _, _ in lines]}  # fmt: skip
        most = max(abs(v) for _, _, alphas in lines for v in alphas)
        views.append(View(
            fit["label"],
            [{
                "type": "heatmap", "z": [alphas for _, _, alphas in lines], "meta": "alpha",
                "x": list(range(1, 1 + len(lines[0][1]))), "y": list(range(len(lines))),
                "customdata": [[[c, other] for other in near] for c, near, _ in lines],
                "colorscale": SIGNED, "zmid": 0, "zmin": -most, "zmax": most,
                "colorbar": {"title": {"text": "α̃"}, "thickness": 12},
            }],
            {"yaxis": _axis("few-shot class", **ticks), "xaxis": _axis("neighbour, nearest first",
                                                                       dtick=1)},
        ))  # fmt: skip
    if not views:
        return "the fits in detail have random neighbours, other ones in each run"
    return [
        Exhibit(
            "alpha", "What each rare class takes from its neighbours",
            "A row is a few-shot class, most training images first, a column its nearest base "
            "classes. Red: the neighbour's classifier is added to its own, blue: taken off; "
            "absolute values of a row sum to 1. Means over seeds.",
            ("setting", "class", "name", "rank", "neighbor", "neighbor_name", "alpha"),
            rows, views, height=min(900, 160 + 16 * tallest),
        )
    ]  # fmt: skip


def _lines(
    curves: Iterable[tuple[str, Sequence[float]]], ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a line for each curve over the classes, by their place in the order of counts."""
    return [
        {
            "type": "scatter", "mode": "lines", "name": label(name), "meta": "value",
            "x": list(range(1, 1 + len(ids))), "y": list(values), "customdata": list(ids),
            "line": {"color": _series(place), "width": 1.5 if place else 3.5},
        }
        for place, (name, values) in enumerate(curves)
    ]  # fmt: skip


def _norms(gathered: Mapping[str, Any]) -> list[Exhibit]:
    norms, names, classes = gathered["norms"], details(gathered), gathered["classes"]
    ids = norms["class"]
    traces = _lines(zip(names, norms["norm"], strict=True), ids)
    scale = "log" if min(map(min, norms["norm"])) > 0 else "linear"
    return [
        Exhibit(
            "norms", "Length of each class's classifier",
            "Classes from most to fewest training images; height: the L2 norm of the class's row. "
            "A trained head falls towards the rare classes, whose logits are then too small. "
            "Methods scale their rows differently: compare shapes. One that changes biases only "
            "has the baseline's curve, drawn wide.",
            ("rank", "class", "name", "train_count", *names),
            [[rank, c, classes["name"][c], classes["train_count"][c],
              *(row[rank - 1] for row in norms["norm"])] for rank, c in enumerate(ids, start=1)],
            [View("", traces, {"xaxis": _axis("class, by training images"),
                               "yaxis": _axis("norm", type=scale), "hovermode": "closest"})],
        )
    ]  # fmt: skip


def _weights(gathered: Mapping[str, Any]) -> list[Exhibit]:
    weights, classes = gathered["weights"], gathered["classes"]
    ids, curves = weights["class"], weights["curves"]
    traces = _lines([("", ()), *((c["name"], c["weight"]) for c in curves)], ids)[1:]
    return [
        Exhibit(
            "weights", "What a training sample weighs, by loss",
            "Classes from most to fewest training images; height, on a log scale: the weight of "
            "one sample, its mean over classes being 1. Smooth curves follow the counts; swrm "
            "also looks at the classes around.",
            ("rank", "class", "name", "train_count", *(c["name"] for c in curves)),
            [[rank, c, classes["name"][c], classes["train_count"][c],
              *(curve["weight"][rank - 1] for curve in curves)]
             for rank, c in enumerate(ids, start=1)],
            [View("", traces, {"xaxis": _axis("class, by training images"), "hovermode": "closest",
                               "yaxis": _log("weight")})],
        )
    ]  # fmt: skip


def _shares(table: Sequence[Sequence[float]]) -> list[list[float | None]]:
    """Return each row's shares in %; None for a row without samples."""
    return [
        [round(100 * n / sum(row), 2) if sum(row) else None for n in row] for row in table
    ]  # fmt: skip


def _confusion(gathered: Mapping[str, Any]) -> list[Exhibit]:
    confusion, names, classes = gathered["confusion"], details(gathered), gathered["classes"]
    per_cell, cells, groups = confusion["per_cell"], confusion["cells"], confusion["groups"]
    together = f" A row is {per_cell} classes together." if per_cell > 1 else ""
    matrix_views, matrix_rows = [], []
    group_views, group_rows = [], []
    for name, table, by_group in zip(names, confusion["count"], confusion["by_group"], strict=True):
        matrix_views.append(View(
            name,
            [{
                "type": "heatmap", "z": _shares(table), "meta": "cell", "colorscale": ROOT,
                "zmin": 0, "zmax": 100, "colorbar": {"title": {"text": "%"}, "thickness": 12},
                "x0": (1 + per_cell) / 2, "dx": per_cell, "y0": (1 + per_cell) / 2, "dy": per_cell,
            }],
            {
                "xaxis": _axis("predicted class, by training images", showgrid=False),
                "yaxis": _axis("true class", autorange="reversed", showgrid=False),
            },
        ))  # fmt: skip
        first = [members[0] for members in cells]
        matrix_rows += [
            [name, first[t], first[p], n]
            for t, row in enumerate(table) for p, n in enumerate(row) if n
        ]  # fmt: skip
        shares = _shares(by_group)
        group_views.append(View(
            name,
            [{
                "type": "heatmap", "z": shares, "x": groups, "y": groups, "zmin": 0, "zmax": 100,
                "colorscale": LIGHT, "showscale": False,
                "texttemplate": "%{z:.1f} %", "textfont": {"color": INK},
                "hovertemplate": "true %{y}, predicted %{x}: %{z:.2f} %<extra></extra>",
            }],
            {"xaxis": _axis("predicted"), "yaxis": _axis("true class", autorange="reversed")},
        ))  # fmt: skip
        group_rows += [
            [name, groups[t], groups[p], n, shares[t][p]]
            for t, row in enumerate(by_group) for p, n in enumerate(row)
        ]  # fmt: skip
    return [
        Exhibit(
            "confusion-groups", "Confusion of shot groups",
            "A row holds the samples of a group's classes, and the shares of them predicted as a "
            "class of each group. Much weight in the last column of the first row: rare classes "
            "are taken for frequent ones.",
            ("setting", "true", "predicted", "count", "percent"), group_rows, group_views,
            height=340,
        ),
        Exhibit(
            "confusion", "Confusion of classes",
            "Rows: true classes, columns: predicted ones, both from most to fewest training images;"
            f" brightness: share of the row's samples, by its square root.{together} Bright "
            "columns at the left swallow rare classes. Drag to zoom in, double-click to go back.",
            ("setting", "true", "predicted", "count"), matrix_rows, matrix_views, height=560,
        ),
        _pairs(confusion["pairs"], names, classes),
    ]  # fmt: skip


def _pairs(
    pairs: Sequence[Mapping[str, Any]], names: Sequence[str], classes: Mapping[str, Any]
) -> Exhibit:
    heads = ["true class", "training images", "predicted as", "training images"]
    cells = [[*heads, *map(visible, names)]]
    rows = []
    for pair in pairs:
        t, p = pair["true"], pair["predicted"]
        of = [(classes["name"][c], classes["train_count"][c]) for c in (t, p)]
        cells.append([
            brief(of[0][0]), str(of[0][1]), brief(of[1][0]), str(of[1][1]),
            *(f"{round(n, 1):g} of {classes['samples'][t]}" for n in pair["count"]),
        ])  # fmt: skip
        rows.append([t, of[0][0], p, of[1][0], classes["samples"][t], *pair["count"]])
    return Exhibit(
        "pairs", "Most confused pairs",
        "Pairs that the baseline confuses most: test samples of the true class predicted as the "
        "other, and how many each correction leaves (means over seeds).",
        ("true", "true_name", "predicted", "predicted_name", "samples", *names), rows, cells=cells,
    )  # fmt: skip


def _map(gathered: Mapping[str, Any]) -> list[Exhibit]:
    found, classes = gathered["map"], gathered["classes"]
    views = []
    for name in sorted(found["points"], reverse=True):  # t-SNE first
        at = dict(zip(found["class"], found["points"][name], strict=True))
        ends = [[at[a], at[b], (None, None)] for a, b in found["lines"]]
        traces: list[dict[str, Any]] = [{
            "type": "scatter", "mode": "lines", "hoverinfo": "skip", "name": "to neighbours",
            "line": {"color": BEFORE, "width": 0.6}, "opacity": 0.6,
            "x": [p[0] for line in ends for p in line], "y": [p[1] for line in ends for p in line],
        }]  # fmt: skip
        for group in reversed(SHOT_GROUPS):
            ids = [c for c in found["class"] if classes["group"][c] == group]
            if ids:
                traces.append({
                    "type": "scatter", "mode": "markers", "name": group, "meta": "class",
                    "customdata": ids, "x": [at[c][0] for c in ids], "y": [at[c][1] for c in ids],
                    "marker": {"color": COLORS[group], "size": 8},
                })  # fmt: skip
        shares = found["explained"] if name == "PCA" else ()
        titles = [f"{name} {i + 1}" for i in range(2)]
        titles = [f"{t}, {100 * s:.0f} %" for t, s in zip(titles, shares, strict=False)] or titles
        axes = dict(zip(("xaxis", "yaxis"), map(_axis, titles), strict=False))
        setting = min(1, len(details(gathered)) - 1)
        views.append(View(name, traces, {**axes, "hovermode": "closest"}, setting))
    return [
        Exhibit(
            "map", "Class means in the plane",
            "A mark is a class at its mean training feature, lines run from few-shot classes to "
            "their nearest base classes. In t-SNE neighbourhoods mean something, distances and "
            "axes do not; PCA keeps large distances and loses small ones.",
            ("class", "name", "group", *(f"{n} {i}" for n in found["points"] for i in (1, 2))),
            [[c, classes["name"][c], classes["group"][c],
              *(v for points in found["points"].values() for v in points[place])]
             for place, c in enumerate(found["class"])],
            views, height=560,
        )
    ]  # fmt: skip


def _calibration(gathered: Mapping[str, Any]) -> list[Exhibit]:
    settings, every = gathered["settings"], gathered["evaluate"]["rows"]
    traces, rows = [], []
    for place, number in enumerate(settings["detailed"]):
        name, errors = settings["label"][number], every[number]["calibration"]
        traces.append({
            "type": "bar", "name": label(name), "x": list(errors),
            "y": _hundred(errors.values()), "marker": {"color": _series(place)},
            "hovertemplate": "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        })  # fmt: skip
        rows += [[name, group, value] for group, value in errors.items()]
    return [
        Exhibit(
            "calibration", "Expected calibration error by shot group",
            "How far the largest softmax probability is from the accuracy, on average over 15 bins "
            "of it; 0 is perfect. A model that is calibrated overall may still be far too sure of "
            "its predictions for rare classes.",
            ("setting", "group", "calibration_error"), rows,
            [View("", traces, {"barmode": "group", "yaxis": _axis("ECE in %")})],
        ),
        _reliability(gathered["reliability"], details(gathered)),
    ]  # fmt: skip


def _reliability(found: Mapping[str, Any], names: Sequence[str]) -> Exhibit:
    views, rows = [], []
    for place, (name, groups) in enumerate(zip(names, found["rows"], strict=True)):
        traces: list[dict[str, Any]] = [{
            "type": "scatter", "mode": "lines", "name": "as sure as right", "hoverinfo": "skip",
            "x": [0, 100], "y": [0, 100], "line": {"color": BEFORE, "dash": "dot", "width": 1},
        }]  # fmt: skip
        for group, bins in groups.items():
            total = sum(bins["samples"])
            there = [b for b, samples in enumerate(bins["samples"]) if samples]
            shares = [bins["samples"][b] / total for b in there]
            traces.append({
                "type": "scatter", "mode": "lines+markers", "name": group,
                "x": _hundred(bins["confidence"][b] for b in there),
                "y": _hundred(bins["accuracy"][b] for b in there),
                "line": {"color": COLORS[group], "width": 1},
                "marker": {"color": COLORS[group],
                           "size": [round(4 + 26 * share**0.5, 1) for share in shares]},
                "text": [f"{bins['samples'][b]:.0f} samples" for b in there],
                "hovertemplate": "sure %{x:.1f} %, right %{y:.1f} %, %{text}"
                                 "<extra>%{fullData.name}</extra>",
            })  # fmt: skip
            rows += [
                [name, group, b / found["bins"], (b + 1) / found["bins"], bins["samples"][b],
                 bins["confidence"][b], bins["accuracy"][b]] for b in there
            ]  # fmt: skip
        axes = {"xaxis": _axis("confidence in %", range=[-2, 102]),
                "yaxis": _axis("accuracy in %", range=[-4, 104])}  # fmt: skip
        views.append(View(name, traces, {**axes, "hovermode": "closest"}, place))
    return Exhibit(
        "reliability", "Confidence and accuracy",
        "A mark is the predictions of like confidence (largest softmax probability) in a shot "
        "group, its area their number. On the dotted line a model is right as often as it says; "
        "below it, it is too sure, above it, too careful. Small marks are few samples, and jump.",
        ("setting", "group", "from", "to", "samples", "confidence", "accuracy"), rows, views,
    )  # fmt: skip


def _tree(gathered: Mapping[str, Any]) -> list[Exhibit]:
    tree, names = gathered["tree"], details(gathered)
    leaf = [node.startswith("class ") for node in tree["node"]]
    ids = [node or "root" for node in tree["node"]]
    parents = ["" if parent is None else parent or "root" for parent in tree["parent"]]
    views = []
    for name, accuracy in zip(names, tree["accuracy"], strict=True):
        values = _hundred(accuracy)
        views.append(View(
            name,
            [{
                "type": "icicle", "ids": ids, "labels": [label(n, 30) for n in tree["name"]],
                "parents": parents, "values": tree["classes"], "branchvalues": "total",
                "maxdepth": 5, "sort": False,
                "customdata": [int(n.removeprefix("class ")) if is_class else None
                               for n, is_class in zip(tree["node"], leaf, strict=True)],
                "meta": "tree", "text": [_percent(v) for v in accuracy],
                "marker": {"colors": values, "colorscale": EVEN, "cmin": 0, "cmax": 100,
                           "colorbar": {"title": {"text": "%"}, "thickness": 12}},
                "hovertemplate": "%{label}: %{text} %, %{value} classes<extra></extra>",
                "tiling": {"orientation": "v"},
            }],
            {"margin": {"l": 8, "r": 8, "t": 12, "b": 12},
             "uniformtext": {"minsize": 11, "mode": "hide"}},
        ))  # fmt: skip
    return [
        Exhibit(
            "tree", f"Accuracy by group: {tree['kind']}",
            "A box is a group of classes, as wide as it has classes, with its parts below; colour: "
            "the mean accuracy of its classes. Choose a box to go in, the top one to go back.",
            ("node", "name", "parent", "classes", *names),
            [[ids[i], tree["name"][i], parents[i], tree["classes"][i],
              *(row[i] for row in tree["accuracy"])] for i in range(len(ids))],
            views, height=560,
        )
    ]  # fmt: skip
