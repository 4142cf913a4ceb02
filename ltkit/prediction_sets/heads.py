"""Whose scores calibrate: heads that have not seen the image, as far as they can be had.

Images that a head has learned from look surer than new ones, and sets calibrated on them are too
small. A post-hoc method that learns from val is fitted anew without each fold, which scores that
fold. What was chosen on val, or by other means, is told in a note.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ltkit import posthoc, registry
from ltkit.records import Classifier, Correction, FeatureSet, Ints

_UNKNOWN = (
    "{name} may have been learned or chosen on val, which calibrates: coverage of new images can "
    "be lower than wanted; calibrate on images that it has not seen"
)

KEPT = ("baseline", "keep")
"""Corrections that leave the head as it is."""


def by_fold(
    features: FeatureSet, correction: Correction, fold: Ints, settings: Mapping[str, Any]
) -> tuple[list[Classifier], str | None]:
    """Return the classifier that scores each fold of val, and a note on what it has seen.

    Args:
        features: with a head or a base, and val.
        correction: of it, in one run.
        fold: (N,) number of each val image's fold, from 0.
        settings: of the correction's file, which say what was chosen; empty where it has none.

    Raises:
        InputError: when the method refuses a part of val.
    """
    whole = [features.corrected(correction)] * (int(fold.max()) + 1)
    name, coverage = _plain(correction.method), "coverage of new images"
    if name in KEPT:
        return whole, None
    wanted = posthoc.plan(name) if name in registry.names(posthoc) else None
    headless = features.head is None and features.base is None
    if wanted is None or (wanted.on_val and headless):
        return whole, _UNKNOWN.format(name=name)
    if wanted.on_val:
        note = f"{name} learned from val: each fold is scored by a head fitted without it"
        anew = _fitted_anew(features, replace(correction, method=name), fold)
        return anew, f"{note}; {coverage} is near, not proven"
    grid = set(wanted.tried[0])
    if not grid or (settings and "tried" not in settings and "choice" not in settings):
        return whole, None
    some = f"among {len(settings['tried'])} " if "tried" in settings else ""
    note = f"{', '.join(sorted(grid))} of {name} may be chosen {some}on val, which calibrates"
    return whole, f"{note}: {coverage} can be lower by some tenths of a point"


def note_of_base(name: str) -> str | None:
    """Return a note on what stands for the head, if it has seen val; it is not fitted anew.

    Args:
        name: of its method.

    Example:
        >>> note_of_base("ncm"), note_of_base("bias")[:46]
        (None, 'bias may have been learned or chosen on val, w')
    """
    first, *more = _plain(name).split("+")
    if first in registry.names(posthoc) and (more or _of_val(posthoc.plan(first))):
        return _UNKNOWN.format(name=name)
    return None


def _plain(name: str) -> str:
    """Return a method's name without the word that it was recommended."""
    return re.sub(r"^recommended \((.*)\)$", r"\1", name)


def _of_val(wanted: posthoc.Plan) -> bool:
    """Return whether a method learns from val, or has parameters that are chosen there."""
    return wanted.on_val or bool(wanted.tried[0])


def _fitted_anew(features: FeatureSet, correction: Correction, fold: Ints) -> list[Classifier]:
    """Return a head for each fold, fitted to the others with the settings of a correction."""
    val, name = features.split("val"), correction.method
    known = registry.defaults(registry.load(posthoc, name).fit)
    wanted = posthoc.plan(name, {k: v for k, v in correction.runs[0].items() if k in known})
    vals = [val.at(np.flatnonzero(fold != number)) for number in range(int(fold.max()) + 1)]
    every = posthoc.fit_each(features, wanted, vals)
    return [features.corrected(fits[0]) for fits in every]
