"""The family of corrections that a recommendation chooses among, and where each of them is right.

Beside the dimensions of `ltkit.records`: `K` candidates, the first of which is the baseline.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import posthoc, registry
from ltkit.alphanet import fit_features as fit_alphanet
from ltkit.errors import InputError, SettingError, nearest
from ltkit.evaluation import mean_heads, predict_classes
from ltkit.records import Classifier, Correction, FeatureSet, FeatureSplit, Ints
from ltkit.settings import RECOMMENDED, RECOMMENDED_ALPHANET, NeighborSettings

BASELINE, ALPHANET = "baseline", "alphanet"

Fit = Callable[[FeatureSet, Sequence[FeatureSplit | None]], Iterator[Sequence[Correction]]]
"""Fits every setting of a method to features, with each of several validation splits: corrections
of one run each, or of several."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Candidate:
    """A setting of a method; the run's parameters are those that its fit takes.

    offset: whether the log of the prior in use is added to the biases afterwards.
    """

    method: str
    parameters: Mapping[str, Any]
    offset: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What a run of it is described by."""
        return {**self.parameters} | ({"offset": 1} if self.offset else {})


@dataclass(frozen=True, eq=False)
class Family:
    """Candidates, and where they are right on the validation split.

    candidates: K, the baseline first.
    right: (K, N) whether each is right; one that learns from the validation split is fitted without
        a sample's fold for it.
    order: the methods, the simplest first.
    notes: which methods are left out, and why.
    """

    candidates: Sequence[Candidate]
    right: NDArray[np.bool_]
    order: Sequence[str]
    notes: Sequence[str]

    @property
    def method(self) -> Ints:
        """(K,) the place of each candidate's method in the order of simplicity."""
        place = {name: number for number, name in enumerate(self.order)}
        return np.array([place[candidate.method] for candidate in self.candidates])


def methods_of(names: Sequence[str] | None, with_alphanet: bool) -> list[str]:
    """Return the methods to try, the simplest first.

    Args:
        names: of `ltkit posthoc --list`; None: `RECOMMENDED`.
        with_alphanet: whether AlphaNet is one of them.

    Raises:
        SettingError: for an unknown name.
    """
    known = [*registry.names(posthoc), ALPHANET]
    wanted = [*(RECOMMENDED if names is None else names), *([ALPHANET] if with_alphanet else [])]
    for name in wanted:
        if name not in known:
            raise SettingError("methods", f"{name}: unknown method; {nearest(name, known)}")
    places = {name: number for number, name in enumerate((*RECOMMENDED, ALPHANET))}
    return sorted(dict.fromkeys(wanted), key=lambda name: places.get(name, len(RECOMMENDED)))


def gather(
    features: FeatureSet,
    methods: Sequence[str],
    dealt: Ints,
    *,
    strict: bool = False,
    shift: NDArray[np.float64] | None = None,
    bins: Sequence[int] | None = None,
    report: Report = lambda what, done, total: None,
) -> Family:
    """Fit every method's grid, and note where each setting is right on the validation split.

    Nothing else of a setting is kept.

    Args:
        features: with a head and a validation split.
        methods: of `methods_of`.
        dealt: (N,) the fold of each validation sample, for methods that learn from that split.
        strict: whether a method that refuses these features is an error; else it is left out.
        shift: (C,) log of the prior in use, for each setting with and without it.
        bins: bounds of the medium shot group; None: the file's own.
        report: called with what is fitted, how many methods are done, and how many there are.

    Raises:
        InputError: what a method refuses, if strict.
    """
    val, base = features.split("val"), features.classifier()
    (predicted,) = predict_classes(val, base, [Correction.baseline(base)])
    candidates, right, notes = [Candidate(BASELINE, {})], [predicted == val.labels], list[str]()
    order = [BASELINE]
    for number, name in enumerate(methods):
        report("methods", number, len(methods))
        try:
            found, hits = _tried(features, fit_of(name, bins=bins), name, dealt, shift)
        except InputError as error:
            if strict:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        order.append(name)
        candidates += found
        right.append(hits)
    report("methods", len(methods), len(methods))
    return Family(candidates, np.concatenate(right), order, notes)


def _tried(
    features: FeatureSet,
    fitting: tuple[Fit, bool],
    name: str,
    dealt: Ints,
    shift: NDArray[np.float64] | None,
) -> tuple[list[Candidate], NDArray[np.bool_]]:
    """Return a method's settings and the (K, N) validation samples that each is right on."""
    fit, on_val = fitting
    val, base = features.split("val"), features.classifier()
    runs, places, hits = list[Mapping[str, Any]](), list[Ints](), list[NDArray[np.bool_]]()
    for corrections, rows in _fits(features, fit, dealt if on_val else None):
        runs = [run for correction in corrections for run in correction.runs]
        both = [*corrections, *([] if shift is None else shifted(corrections, base, shift))]
        some = val if len(rows) == len(val) else val.at(rows)
        places.append(rows)
        hits.append(np.concatenate(predict_classes(some, base, both)) == some.labels)
    right = np.concatenate(hits, axis=1)[:, np.argsort(np.concatenate(places))]
    plain = [Candidate(name, run) for run in runs]
    return plain + [replace(c, offset=True) for c in plain if shift is not None], right


def _fits(
    features: FeatureSet, fit: Fit, dealt: Ints | None
) -> Iterator[tuple[Sequence[Correction], Ints]]:
    """Yield corrections, and the validation samples to judge each on."""
    val = features.split("val")
    if dealt is None:
        yield next(fit(features, [val])), np.arange(len(val))
        return
    folds = range(int(dealt.max(initial=0)) + 1)
    others = [val.at(np.flatnonzero(dealt != fold)) for fold in folds]
    for fold, corrections in zip(folds, fit(features, others), strict=True):
        yield corrections, np.flatnonzero(dealt == fold)


def fit_of(
    name: str, parameters: Mapping[str, Any] | None = None, bins: Sequence[int] | None = None
) -> tuple[Fit, bool]:
    """Return what fits a method, and whether it learns from the validation split.

    Args:
        name: of the method.
        parameters: of one setting; None: every setting on the method's grid.
        bins: bounds of the medium shot group; None: the file's own.
    """
    if name == ALPHANET:
        return partial(_alphanet, parameters, bins), True
    grid = getattr(registry.load(posthoc, name), "GRID", {})
    given = {} if parameters is None else parameters
    wanted = posthoc.plan(name, given, sweep=any(knob not in given for knob in grid))
    return (
        lambda features, vals: posthoc.fit_each(features, wanted, vals, bins=bins),
        wanted.on_val,
    )


def _alphanet(
    parameters: Mapping[str, Any] | None,
    bins: Sequence[int] | None,
    features: FeatureSet,
    vals: Sequence[FeatureSplit | None],
) -> Iterator[list[Correction]]:
    """Fit AlphaNet with one rho or several, each the mean of its heads over seeds."""
    known = RECOMMENDED_ALPHANET
    rhos = known["rhos"] if parameters is None else (float(parameters["rho"]),)
    k = min(NeighborSettings.k, len(features.groups(bins).base))
    for val in vals:
        part = (
            features if val is None else replace(features, splits={**features.splits, "val": val})
        )
        fits = fit_alphanet(part, k=k, rhos=rhos, seeds=known["seeds"], bins=bins)
        yield [mean_heads(fits)]


def shifted(
    corrections: Sequence[Correction], base: Classifier, shift: NDArray[np.float64]
) -> list[Correction]:
    """Return corrections with (C,) numbers added to the biases of all classes, one for each run.

    The rows of corrections of every class stay where they are.
    """
    moved = []
    for correction in corrections:
        whole = correction.is_whole(base.num_classes)
        for number, run in enumerate(correction.runs):
            found = correction.classifier(base, number)
            rows = correction.weight[number] if whole else found.weight
            bias = (found.bias + shift).astype(np.float32)
            found = replace(found, weight=rows, bias=bias)
            moved.append(Correction.whole(correction.method, found, run))
    return moved
