"""What a command says of a correction that it has fitted: what was tried, its accuracy on val."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltkit.cli import _output
from ltkit.settings import Select

if TYPE_CHECKING:
    from ltkit.evaluation import OnVal
    from ltkit.posthoc import Fitted
    from ltkit.records import Correction, FeatureSet

QUICK = 1.0
"""Fits of fewer seconds have no line of progress."""

LISTED = 8
"""Most settings that are listed one by one."""

WIDTH = 31
"""Most characters of a curve."""


def write(
    found: "Fitted", target: Path, settings: dict[str, Any], inputs: Mapping[str, str],
    select: Select, *, every: bool, quiet: bool,
) -> None:  # fmt: skip
    """Say what was assumed and chosen, and write the correction with what was tried."""
    from ltkit.files import classifiers

    for line in found.notes:
        _output.say(f"note: {line}", quiet)
    if found.chosen is not None:
        say_choice(found, select, every, quiet)
        settings = settings | {"tried": list(found.tried), "val": list(found.scores)}
    classifiers.write(
        target, found.correction, settings=settings, inputs=inputs, command=_output.command_line()
    )


def say_choice(found: "Fitted", select: Select, every: bool, quiet: bool) -> None:
    """Report the scores of what was tried on val, and what was chosen."""
    chosen = found.chosen or {}
    what = f"{select} accuracy, on {'folds of val' if found.by_folds else 'val'}"
    best = list(found.tried).index(chosen)
    say_best(found.tried, found.scores, best, what, every=every, quiet=quiet)


def say_best(
    tried: Sequence[Mapping[str, Any]], scores: Sequence[float], best: int, what: str, *,
    every: bool, quiet: bool,
) -> None:  # fmt: skip
    """Report the scores of what was tried, as `say_tried` does, and what was chosen."""
    say_tried(tried, scores, best, what, every=every, quiet=quiet)
    _output.say(f"chosen: {_shown(tried[best])}", quiet)


def say_tried(
    tried: Sequence[Mapping[str, Any]], scores: Sequence[float], best: int, what: str, *,
    every: bool, quiet: bool,
) -> None:  # fmt: skip
    """Report the score of each tried setting; of many, of the ends of the curve and the best.

    Args:
        tried: settings.
        scores: of each of them.
        best: the one with the highest.
        what: what is scored, and on what, as ``balanced accuracy, on val``.
        every: whether all are listed, however many there are.
        quiet: whether nothing is said.
    """
    if every or len(tried) <= LISTED:
        for line in _listed(tried, scores, what):
            _output.say(line, quiet)
        return
    named = {best: f" (best of {len(tried)})"}
    curve = ""
    if len(tried[0]) == 1:
        named = {0: "", len(tried) - 1: ""} | named
        if _output.for_people(sys.stderr):
            curve = f"  {_output.sparkline(scores, WIDTH)}"
    points = [f"{100 * scores[n]:.1f} at {_shown(tried[n])}{named[n]}" for n in sorted(named)]
    _output.say(f"{what.replace(',', '')}: {', '.join(points)}{curve}", quiet)


def _listed(tried: Sequence[Mapping[str, Any]], scores: Sequence[float], what: str) -> list[str]:
    scale = _output.scale_of([scores])
    kind, _, where = what.partition(", ")
    lines = []
    for parameters, value in zip(tried, scores, strict=True):
        bar = ""
        if _output.for_people(sys.stderr):
            bar = _output.interval_bar(value, value, scale, 25)
        lines.append(f"{f'{_shown(parameters)}: {kind} {value:.4f} {where}':<50} {bar}".rstrip())
    return lines


def _shown(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items())


def say_result(
    features: "FeatureSet", correction: "Correction", bins: Sequence[int] | None, quiet: bool
) -> None:
    """Report a correction's accuracy on val beside the own head's; of many settings, the best's."""
    from ltkit.evaluation import knob_of, on_val

    if quiet or (found := on_val(features, correction, bins)) is None:
        return
    knob = knob_of(found.settings)
    if len(found.settings) > LISTED and knob is not None:
        order = sorted(range(len(found.settings)), key=lambda n: found.settings[n][knob])
        say_tried(
            [{knob: found.settings[n][knob]} for n in order], [found.scores[n] for n in order],
            order.index(found.best), "balanced accuracy, on val", every=False, quiet=quiet,
        )  # fmt: skip
    _output.say(_result(correction.method, found), quiet)


def _result(method: str, found: "OnVal") -> str:
    """Return, in one line, what was fitted and its accuracy on val."""
    from ltkit.evaluation import label

    count, runs = len(found.settings), found.runs[found.best]
    name = method
    if count > 1:
        name = label(method, found.settings[found.best], found.settings)
        name += f", best of {count} by balanced accuracy"
    name += f", mean of {runs} seeds" if runs > 1 else ""
    accuracy, own = found.accuracies[found.best], found.own
    groups = [group for group in ("few", "all") if accuracy[group] is not None]
    values = ", ".join(f"{group} {_percent(accuracy[group])}" for group in groups)
    beside = "" if own is None else f" (baseline {', '.join(_percent(own[g]) for g in groups)})"
    return f"{name}: {values} on val{beside}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
