"""In production: sets with a wanted coverage, whom to hand over, other class frequencies."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltkit import abstention, prediction_sets
from ltkit.errors import InputError
from ltkit.evaluation import priors
from ltkit.records import Correction
from ltkit.reporting.exhibits import Exhibit, Row, View, label, visible
from ltkit.reporting.look import COLORS, axis, series_color
from ltkit.reporting.numbers import hundred, number, percent, span
from ltkit.reporting.source import Source
from ltkit.settings import COVERAGE, SHOT_GROUPS, SetThreshold

KEY = "production"
TITLE = "Sets, abstention, other class frequencies"

MOST = 20_000_000
"""Logits of a split above which a page would wait for long."""

THRESHOLDS: Sequence[SetThreshold] = ("marginal", "fuzzy", "class-wise")
"""Those that are compared: from all images, from classes about as rare, from the class alone."""

DASHES = {"max-softmax": "dot", "plug-in": "solid"}


def gather(source: Source) -> dict[str, Any]:
    """Return sets and abstention of what would be shipped, and all settings under other priors.

    That is the first setting in detail, if it is one head on the features of the page, or else the
    model's own head.
    """
    features = source.subject.features
    split = source.scores["split"]
    rows = sum(len(of) for name, of in features.splits.items() if name in ("val", split))
    place, correction = _shipped(source)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "sets": lambda: _sets(source, correction, split),
        "abstention": lambda: _abstention(source, correction, split),
        "priors": lambda: _priors(source, split),
    }
    found: dict[str, Any] = {"setting": source.every_setting[place]}
    for name, made in parts.items():
        try:
            if name != "priors" and rows * len(features.classes) > MOST:
                raise InputError("too many images for a page; ltkit conformal and analyze print it")
            found[name] = made()
        except InputError as error:
            found[name] = {"absent": str(error)}
    if all("absent" in found[name] for name in parts):
        raise InputError(found["sets"]["absent"])
    return found


def _shipped(source: Source) -> tuple[int, Correction | None]:
    """Return the position of the setting that sets are made of, and its one run, if it has any."""
    for place in source.detailed[:1]:
        case = source.subject.cases[place]
        if len(case.runs) == 1 and case.entry.network is None:
            return 1 + place, case.entry.correction.only(case.runs)
    return 0, None


def _sets(source: Source, correction: Correction | None, split: str) -> dict[str, Any]:
    rows, notes = [], list[str]()
    for threshold in THRESHOLDS:
        wanted = prediction_sets.Wanted(
            score="softmax", threshold=threshold, split=split if split == "test" else "val",
            bins=source.subject.bins,
        )  # fmt: skip
        document = prediction_sets.conformal(source.subject.features, correction, wanted).document
        rows.append(document["rows"][0])
        notes = document["notes"]
    kept = (
        "threshold",
        "guaranteed",
        "coverage",
        "coverage_interval",
        "size",
        "worst_class",
        "always",
    )
    return {
        "split": document["split"], "notes": notes,
        "rows": [{name: row[name] for name in kept} for row in rows],
    }  # fmt: skip


def _abstention(source: Source, correction: Correction | None, split: str) -> dict[str, Any]:
    features = source.subject.features
    classifier = features.classifier() if correction is None else features.corrected(correction)
    document = abstention.risk_coverage(
        features, classifier, split=split, bins=source.subject.bins
    ).document
    return {name: document[name] for name in ("split", "notes", "methods", "difference")}


def _priors(source: Source, split: str) -> dict[str, Any]:
    """Return each setting's accuracy under forward, even and backward priors."""
    shares = priors.shifts(source.subject.features, split)
    by_class = [source.accuracy[place] for place in range(len(source.settings))]
    return {
        "priors": list(shares),
        "accuracy": [list(row.values()) for row in priors.shifted_accuracies(by_class, shares)],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the table of sets, the curves of abstention, and accuracy by prior."""
    drawn = []
    if "absent" not in found["sets"]:
        drawn.append(_sets_table(found["sets"], found["setting"]))
    if "absent" not in found["abstention"]:
        drawn.append(_curves(found["abstention"], found["setting"]))
    if "absent" not in found["priors"]:
        drawn.append(_shifts(found["priors"], source))
    return drawn


def _notes(found: Mapping[str, Any]) -> str:
    return "".join(f" Note: {note}." for note in found["notes"])


def _sets_table(found: Mapping[str, Any], setting: str) -> Exhibit:
    groups = [name for name in SHOT_GROUPS if found["rows"][0]["coverage"][name] is not None]
    heads = ["thresholds", *groups, "all", "mean size", "guaranteed"]
    cells, rows = [heads], list[Row]()
    for row in found["rows"]:
        covered = [
            f"{percent(row['coverage'][name])}\n{span(row['coverage_interval'][name])}"
            for name in (*groups, "all")
        ]
        cells.append([row["threshold"], *covered, f"{row['size']['all']:.1f}", row["guaranteed"]])
        rows += [
            [row["threshold"], name, number(row["coverage"][name]),
             *(row["coverage_interval"][name] or (None, None)), number(row["size"][name])]
            for name in (*groups, "all")
        ]  # fmt: skip
    return Exhibit(
        "sets", f"Sets that have the true class in {100 * COVERAGE:g} %",
        f"Coverage of sets of classes in %, on {found['split']}, of {visible(setting)}; thresholds "
        "on softmax probabilities are calibrated on val. Those of all images together (marginal) "
        f"can leave out rare classes.{_notes(found)}",
        ("thresholds", "of", "coverage", "low", "high", "mean_size"), rows, cells=cells,
    )  # fmt: skip


def _curves(found: Mapping[str, Any], setting: str) -> Exhibit:
    traces, rows = [], list[Row]()
    for method in found["methods"]:
        points = method["points"]
        for of in ("balanced", *SHOT_GROUPS):
            errors = [point["risk"].get(of) for point in points]
            if all(error is None for error in errors):
                continue
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "name": f"{of}, {method['method']}",
                    "x": hundred(point["budget"] for point in points), "y": hundred(errors),
                    "line": {"color": COLORS.get(of, COLORS["all"]),
                             "dash": DASHES[method["method"]]},
                    "hovertemplate": "%{x:.0f} % handed over: %{y:.1f} % wrong"
                                     "<extra>%{fullData.name}</extra>",
                }
            )  # fmt: skip
            rows += [
                [method["method"], of, point["budget"], number(error)]
                for point, error in zip(points, errors, strict=True)
            ]
    layout = {"xaxis": axis("% of images handed over"), "yaxis": axis("% wrong of the answers")}
    gain = found["difference"]
    return Exhibit(
        "abstention", "Error among the answers, by how much is handed over",
        f"On {found['split']}, of {visible(setting)}. Dotted: hand over what has a small softmax "
        "maximum. Full: costs of shot groups, found on val for the balanced error, which is the "
        f"grey line; its mean changes by {percent(gain['area']['balanced'], '+')} points "
        f"[{span(gain['area_interval']['balanced'], '+')}].{_notes(found)}",
        ("rejector", "of", "handed_over", "error"), rows, [View("", traces, layout)],
    )  # fmt: skip


def _shifts(found: Mapping[str, Any], source: Source) -> Exhibit:
    names = found["priors"]
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": label(setting),
            "x": names, "y": hundred(accuracy), "line": {"color": series_color(place)},
            "hovertemplate": "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        }
        for place, (setting, accuracy) in enumerate(
            zip(source.settings, found["accuracy"], strict=True)
        )
    ]  # fmt: skip
    rows: list[Row] = [
        [setting, prior, number(value)]
        for setting, accuracy in zip(source.settings, found["accuracy"], strict=True)
        for prior, value in zip(names, accuracy, strict=True)
    ]
    layout = {"xaxis": axis("", type="category"), "yaxis": axis("accuracy in %")}
    return Exhibit(
        "priors", "Accuracy where classes are as frequent as said",
        "forward:50: as in training, the most frequent class 50 times as frequent as the rarest; "
        "backward:50: the reverse. No setting is best everywhere: ltkit posthoc adapt follows the "
        "frequencies of images without labels.",
        ("setting", "prior", "accuracy"), rows, [View("", traces, layout)],
    )  # fmt: skip
