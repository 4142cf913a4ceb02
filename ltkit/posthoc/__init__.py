"""Post-hoc corrections, one file each: a classifier in, a classifier out.

``fit(base, train, class_counts, **parameters) -> Classifier``; a module may have

- ``GRID``, parameter name to the values that are tried on validation data when the user gives none,
  and that are all kept in a sweep;
- ``fit_many(base, train, class_counts, tried) -> list[Classifier]``, where fitting many settings
  together costs less than one after the other. Each of `tried` has every parameter of ``fit``;
- ``REPORTS = True``, where fitting takes epochs or many passes: a last argument of ``fit_many``,
  or of ``fit_folds``, is called after each step or pass;
- ``ANEW = True``, where nothing of the base is used but its form: such a method gives a whole
  classifier of features that have no head;
- ``HEAD_ONLY = True``, where a class's row is corrected without images of it: such a method is
  fitted among all classes, others among those that have training images;
- ``ON_VAL = True``, where the method learns from the validation split, which is then given to it in
  the place of train; its parameters are chosen on the samples of each fold that it did not learn
  from;
- ``fit_folds(base, train, class_counts, tried, vals) -> Iterator[list[Classifier]]`` in such a
  method, where it learns from both splits: `fit` takes the validation split as a fourth argument,
  and `fit_folds` several of them, for which it does once what they share;
- ``PRIOR = True``, where training counts serve for nothing but the prior, which may be estimated;
- ``MEAN = True``, where the file's moving mean of the training features is a fourth argument of
  ``fit``, None where there is none;
- ``ENSEMBLE = True``, where the classifier to start from is a fourth argument of ``fit``, None
  without one, and the base stays the features' own head; of ``fit_many``, it follows `tried`.

`plan` and `fit_features` fit a method on a features file and choose unset parameters; calling the
method's module does both.

What several of them need is here, for they know nothing of each other.
"""

import importlib
import sys
from collections.abc import Iterable
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, nearest
from ltkit.numerals import Range
from ltkit.posthoc._by_seed import check_seeds as check_seeds
from ltkit.posthoc._calling import Method, Methods
from ltkit.posthoc._features import Fitted as Fitted
from ltkit.posthoc._features import fit_each as fit_each
from ltkit.posthoc._features import fit_features as fit_features
from ltkit.posthoc._features import fit_shard as fit_shard
from ltkit.posthoc._plan import Plan as Plan
from ltkit.posthoc._plan import plan as plan
from ltkit.records import FeatureSplit, Ints, ShotGroups, class_prior, shot_groups

sys.modules[__name__].__class__ = Methods


def __getattr__(name: str) -> Method:
    """Import a method that is requested by name."""
    try:
        found = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no method {name!r}") from None
    if not isinstance(found, Method):
        raise AttributeError(f"module {__name__!r} has no method {name!r}")
    return found


def check_range(name: str, value: float, least: float = -inf, most: float = inf) -> None:
    """Reject a parameter that is not a finite number in a range, both ends included.

    Raises:
        InputError: naming the parameter.
    """
    Range(least, most).check(value, name)


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Reject a parameter that is not one of the known words.

    Raises:
        InputError: naming the nearest words.
    """
    known = list(known)
    if value not in known:
        raise InputError(f"{name}: found {value!r}, unknown; {nearest(value, known)}")


def groups_within(class_counts: NDArray[Any], few_below: int, many_above: int) -> ShotGroups:
    """Return the shot groups of a method that takes their bounds as parameters.

    Args:
        class_counts: (C,) training images per class.
        few_below: least count of the medium shot group.
        many_above: its greatest count.

    Raises:
        InputError: when the bounds are not ascending counts.
    """
    if not 0 < few_below <= many_above:
        raise InputError(
            f"few_below: found {few_below}, expected from 1 to many_above, {many_above}"
        )
    return shot_groups(class_counts, (few_below, many_above))


SIZES = (1e-6, 1e6)
"""Range of the largest feature, logit or weight with which gradient descent can learn."""


def check_size(what: str, largest: float, way_out: str) -> None:
    """Reject numbers of a size at which gradient descent learns nothing, or diverges.

    Args:
        what: what the numbers are.
        largest: their largest absolute value; all zeros are accepted.
        way_out: advice for the message.

    Raises:
        InputError: naming the size.
    """
    if largest and not SIZES[0] <= largest <= SIZES[1]:
        raise InputError(
            f"{what}: found {largest:.2g} as the largest, expected {SIZES[0]:g} to {SIZES[1]:g}; "
            f"{way_out}"
        )


def check_train(train: FeatureSplit | None, num_classes: int) -> FeatureSplit:
    """Return the train split of a method that learns from every class's samples.

    Raises:
        InputError: when there is no train split, or a class has no sample in it.
    """
    if train is None:
        raise InputError("no train split, whose samples this method learns from; extract it")
    empty = np.flatnonzero(np.bincount(train.labels, minlength=num_classes) == 0)
    if len(empty):
        raise InputError(
            f"class {empty[0]}: no training sample; {len(empty)} such classes; extract the train "
            "split, or choose a method that needs none"
        )
    return train


def check_val(val: FeatureSplit | None) -> FeatureSplit:
    """Return the validation split of a method that learns from it.

    Raises:
        InputError: when there is none, or it is empty.
    """
    if val is None or not len(val):
        raise InputError(
            "no val split, whose samples this method learns from; extract it, or choose a method "
            "that learns from train"
        )
    return val


def log_prior(class_counts: Ints) -> NDArray[np.float64]:
    """Return the (C,) log of each class's training frequency.

    Raises:
        InputError: when a class has no training image.
    """
    empty = np.flatnonzero(class_counts == 0)
    if len(empty):
        raise InputError(
            f"class {empty[0]}: no training image, so no log prior; {len(empty)} such classes"
        )
    logs: NDArray[np.float64] = np.log(class_counts / class_counts.sum())
    return logs


def log_target(target: str, class_counts: Ints) -> NDArray[np.float64]:
    """Return the (C,) log frequency of each class in the classifier's use.

    Args:
        target: as `ltkit.records.class_prior` says it: ``uniform``, ``train``, ``inverse``,
            ``forward:50``, ``backward:50``, C positive numbers, or a file.
        class_counts: (C,) training images per class.

    Raises:
        InputError: when the target is none of these; when it depends on the training counts and a
            class has none; when a class has no share.

    Example:
        >>> np.exp(log_target("inverse", np.array([3, 1]))).round(3).tolist()
        [0.25, 0.75]
        >>> np.exp(log_target("4,1", np.array([3, 1]))).round(3).tolist()
        [0.8, 0.2]
    """
    if target in ("train", "inverse"):
        log_prior(class_counts)  # refuses a class without images
    shares = class_prior(target, class_counts, name="target")
    if not shares.all():
        raise InputError(
            f"target: found a share of 0 for class {np.argmin(shares)}, expected {len(shares)} "
            "positive ones, one per class"
        )
    logs: NDArray[np.float64] = np.log(shares)
    return logs
