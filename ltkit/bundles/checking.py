"""Whether a bundle does on new labelled features what it did when it was made."""

from collections.abc import Mapping, Sequence
from math import hypot
from typing import Any

from scipy.stats import norm

from ltkit.bundles.contents import Bundle, head_digest
from ltkit.bundles.measuring import Figures, class_shares, measure, place
from ltkit.errors import InputError, listed
from ltkit.records import FeatureSet
from ltkit.settings import FALSE_ALARM, RANGES

SCHEMA = "ltkit.check/1"


def check(
    bundle: Bundle,
    features: FeatureSet,
    split: str = "test",
    *,
    figures: Sequence[str] = (),
    false_alarm: float = FALSE_ALARM,
) -> dict[str, Any]:
    """Measure a bundle's figures on new features, and say which fell beyond noise.

    Both measurements have noise. A figure fell when the interval of the difference, by Newcombe's
    combination of the two intervals, is below 0 altogether; it is so wide that all figures together
    raise a false alarm with a chance of at most `false_alarm`.

    Args:
        bundle: what is checked.
        features: labelled ones, of its model.
        split: of them.
        figures: those that are judged, as ``accuracy few``; none: all of the bundle's.
        false_alarm: the chance.

    Returns:
        The document of ``ltkit check --json``.

    Raises:
        InputError: for features of another model, or a figure that the bundle has not or that
            cannot be measured.
        SettingError: when the chance is out of its range.

    Source:
        Newcombe, Statistics in Medicine 17 (1998), method 10; Bonferroni's correction.
    """
    RANGES["false_alarm"].check(false_alarm, "false_alarm")
    before = bundle.manifest.content
    classifier = bundle.classifier(features)
    found, document = measure(features, split, classifier, bundle.rules, before["bins"])
    judged = _judged(before["figures"], found, figures, bundle, f"{features.source}: {split}")
    wide = float(norm.isf(false_alarm / len(judged)) / norm.isf((1 - 0.95) / 2))
    rows = [
        {"figure": name, **_compared(before["figures"][name], found[name], wide)} for name in judged
    ]
    return {
        "schema": SCHEMA, "bundle": str(bundle.folder), "features": features.source,
        "split": split, "n": document["n"], "false_alarm": false_alarm,
        "made_on": {name: before[name] for name in ("split", "n")},
        "notes": _notes(bundle, features, split), "rows": rows,
        "fell": [row["figure"] for row in rows if row["fell"]],
        "unmeasured": [name for name in before["figures"] if name not in found],
    }  # fmt: skip


def _notes(bundle: Bundle, features: FeatureSet, split: str) -> list[str]:
    """Return what is taken for granted, or makes a comparison less than it seems."""
    before, notes = bundle.manifest.content, list[str]()
    if not (before["head"] and head_digest(features)):
        notes.append(f"nothing says that {features.source} is of the bundle's network")
    if features.digest and (features.digest, split) == (
        bundle.manifest.inputs.get("features"),
        before["split"],
    ):
        notes.append("these are the images that the bundle was measured on")
    shares = class_shares(features, split)
    there, then = (sum(share > 0 for share in of) for of in (shares, before["prior"]))
    if there < then:
        notes.append(
            f"{there} of the {then} classes with images then have any here: balanced figures and "
            "those of groups are means over them"
        )
    return notes


def _judged(
    before: Mapping[str, Any], found: Figures, wanted: Sequence[str], bundle: Bundle, where: str
) -> list[str]:
    """Return the names of the figures to compare.

    Raises:
        InputError: when one that was asked for is not there, or none is.
    """
    for name in wanted:
        if name not in before:
            raise InputError(
                f"--figure: found {name[:60]}, expected one of the bundle's: {listed(before)}"
            )
        if name not in found:
            raise InputError(f"{where}: found no sample for {name}; leave it out of --figure")
    judged = list(wanted) or sorted((name for name in before if name in found), key=place)
    if not judged:
        raise InputError(
            f"{where}: has no figure in common with {bundle.folder}; name a split with more samples"
        )
    return judged


def _compared(before: Mapping[str, Any], now: Mapping[str, Any], wide: float) -> dict[str, Any]:
    """Return a figure then and now, with the interval of the difference.

    Args:
        before: value and 95 % interval.
        now: the same.
        wide: by how much wider than for 95 % the interval is.

    Example:
        >>> one = {"value": 0.5, "interval": [0.4, 0.6]}
        >>> other = {"value": 0.3, "interval": [0.27, 0.33]}
        >>> _compared(one, other, 1.0)["interval"]  # 0.1 and 0.03 are 0.104 together
        [-0.304403, -0.095597]
    """
    value = now["value"] - before["value"]
    below = hypot(now["value"] - now["interval"][0], before["interval"][1] - before["value"])
    above = hypot(now["interval"][1] - now["value"], before["value"] - before["interval"][0])
    ends = [round(value - wide * below, 6), round(value + wide * above, 6)]
    return {
        "before": before["value"], "now": now["value"], "difference": value, "interval": ends,
        "fell": ends[1] < 0,
    }  # fmt: skip
