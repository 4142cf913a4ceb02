"""Classifiers: the common linear form, a model's own head, and a method's changes to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.records.arrays import Floats, Ints, products, shifted, unit_rows

Normalize = Literal["none", "features", "cosine"]

NEVER = -1e30
"""Bias of a class that is never predicted: below every logit, and finite in float32."""

LEARNED = "learned/"
"""Before the names of the arrays that AlphaNet learned, in a composition of them with a head."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier, the form that every method takes and returns.

    ``logits = prepare(features) @ weight.T + bias``. A head with a scale, cosine rows or several
    experts folds into this form (`Head.fold`), so methods need not know of them.

    weight: (C, D) float32, D over all experts.
    bias: (C,) float32.
    normalize_features: each expert's part of a feature vector is divided by its L2 norm first.
    experts: E, into how many equal parts D falls; 1 but for multi-expert heads.
    """

    weight: Floats
    bias: Floats
    normalize_features: bool = False
    experts: int = 1

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")
        if self.weight.shape[1] % self.experts:
            raise ValueError(f"{self.weight.shape[1]} features do not divide into {self.experts}")

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.weight.shape[0])

    @property
    def feature_size(self) -> int:
        """D."""
        return int(self.weight.shape[1])

    @property
    def told(self) -> NDArray[np.bool_]:
        """(C,) whether a class is ever predicted; if none is, all.

        Beside the logits of the others any difference is small.
        """
        told: NDArray[np.bool_] = self.bias > NEVER
        return told if told.any() else ~told

    def prepare(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return the (B, D) float32 features that `weight` acts on."""
        features = features.astype(np.float32, copy=False)
        if not self.normalize_features:
            return features
        parts = features.reshape(len(features), self.experts, -1)  # (B, E, D / E)
        prepared: NDArray[np.float32] = unit_rows(parts)
        return prepared.reshape(features.shape)

    def logits(self, features: NDArray[Any]) -> NDArray[Any]:
        """Return (B, C) logits of (B, D) features as stored."""
        return shifted(products(self.prepare(features), self.weight), self.bias)


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer as stored in the model.

    Per expert e: ``z_e = scale * f'_e @ w'_e.T + bias_e``, where with ``normalize="cosine"``
    features and rows are divided by their L2 norms, with ``"features"`` only the features, with
    ``"none"`` neither. The model's logits are the mean of ``z_e`` over experts.

    weight: (C, D) float32, or (E, C, D / E) for E experts.
    bias: (C,) or (E, C) float32.
    """

    weight: Floats
    bias: Floats
    scale: float = 1.0
    normalize: Normalize = "none"

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.weight.ndim not in (2, 3) or self.bias.shape != self.weight.shape[:-1]:
            raise ValueError(f"weight {self.weight.shape} and bias {self.bias.shape} do not fit")

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.weight.shape[-2])

    @property
    def feature_size(self) -> int:
        """D, over all experts."""
        return int(self.weight.shape[-1]) * self.experts

    @property
    def experts(self) -> int:
        """E, 1 for an ordinary head."""
        return int(self.weight.shape[0]) if self.weight.ndim == 3 else 1

    def fold(self) -> Classifier:
        """Return the linear classifier with the same logits.

        Raises:
            InputError: when its numbers are too large for float32.

        Example:
            >>> head = Head(np.float32([[3, 4]]), np.float32([0]), scale=10, normalize="cosine")
            >>> head.fold().weight.tolist()  # 10 * (3, 4) / 5
            [[6.0, 8.0]]
        """
        weight = self.weight.reshape(self.experts, self.num_classes, -1).astype(np.float32)
        if self.normalize == "cosine":
            weight = unit_rows(weight)
        with np.errstate(over="ignore"):
            weight = weight * np.float32(self.scale / self.experts)  # (E, C, D / E)
        if not np.isfinite(weight).all():
            raise InputError(
                f"head: found rows that float32 does not hold at scale {self.scale:g}; divide the "
                "rows by a number, and multiply the features with it"
            )
        return Classifier(
            np.ascontiguousarray(weight.transpose(1, 0, 2).reshape(self.num_classes, -1)),
            self.bias.reshape(self.experts, -1).astype(np.float32).mean(axis=0),
            normalize_features=self.normalize != "none",
            experts=self.experts,
        )

    def holding(self, classifier: Classifier) -> "Head":
        """Return a head of this form with a linear classifier's logits: the inverse of `fold`.

        Raises:
            InputError: when this form cannot hold it: a cosine head whose rows' lengths would have
                to differ, or which has no bias; a head that normalises features when the
                classifier does not, or the other way round.

        Example:
            >>> head = Head(np.float32([[3, 4]]), np.float32([0]), scale=10, normalize="cosine")
            >>> head.holding(head.fold()).weight.round(4).tolist()
            [[0.6000000238418579, 0.800000011920929]]
        """
        if classifier.normalize_features != (self.normalize != "none"):
            raise InputError(
                f"head: its form is {self.normalize!r}, the classifier's is "
                f"{'features' if classifier.normalize_features else 'none'!r}; use --to npz"
            )
        parts = classifier.weight.reshape(self.num_classes, self.experts, -1).transpose(1, 0, 2)
        weight = parts * np.float32(self.experts / self.scale)  # (E, C, D / E)
        if self.normalize == "cosine":
            lengths = np.linalg.norm(weight, axis=2)
            if np.abs(lengths - 1).max() > 1e-3 or classifier.bias.any():
                raise InputError(
                    "head: a cosine head holds rows of one length and no bias, the corrected rows "
                    f"have lengths {lengths.min():.3g} to {lengths.max():.3g}; use --to npz, or "
                    "--directions, which writes where they point"
                )
        bias = np.broadcast_to(classifier.bias, (self.experts, self.num_classes))
        return Head(
            weight.reshape(self.weight.shape), bias.reshape(self.bias.shape), self.scale,
            self.normalize,
        )  # fmt: skip

    def directions(self, classifier: Classifier) -> Classifier:
        """Return what a cosine head holds of a linear classifier: of each expert's rows, where to.

        Raises:
            SettingError: when the head holds rows as they are, or a class is never predicted, which
                a bias alone says.

        Example:
            >>> head = Head(np.float32([[1, 0]]), np.float32([0]), 10, "cosine")
            >>> wanted = Classifier(np.float32([[3, 4]]), np.float32([7]), True)
            >>> head.directions(wanted).weight.tolist(), head.directions(wanted).bias.tolist()
            ([[6.0, 8.0]], [0.0])
        """
        if self.normalize != "cosine":
            raise SettingError("directions", "this head holds rows of any length; leave it out")
        if not classifier.told.all():
            said = f"class {int(np.argmin(classifier.told))} is never predicted, which a bias says"
            raise SettingError("directions", f"{said}, and this head has none; use --to npz")
        parts = classifier.weight.reshape(self.num_classes, self.experts, -1)
        rows = unit_rows(parts) * np.float32(self.scale / self.experts)
        weight = rows.reshape(classifier.weight.shape).astype(np.float32)
        return Classifier(weight, np.zeros_like(classifier.bias), True, self.experts)


@dataclass(frozen=True, eq=False)
class Correction:
    """A method's changes to a classifier, in one or more runs.

    class_id: (R,) int64 changed classes, ascending.
    weight: (S, R, D) float32; bias: (S, R) float32, in the linear form of `Classifier`.
    runs: S dictionaries, what made each run (rho, seed, k, tau, ...).
    normalize_features: as in `Classifier`.
    extra: further arrays of a method (alphas, logs), each with S as first axis.
    """

    method: str
    class_id: Ints
    weight: Floats
    bias: Floats
    runs: tuple[Mapping[str, Any], ...]
    normalize_features: bool = False
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = (len(self.runs), len(self.class_id))
        if self.weight.shape[:2] != shape or self.bias.shape != shape:
            raise ValueError(
                f"weight {self.weight.shape}, bias {self.bias.shape}, runs x rows {shape}"
            )

    @classmethod
    def baseline(cls, base: Classifier) -> "Correction":
        """Return a correction that leaves a classifier unchanged, in one run."""
        weight, bias = base.weight[None, :0], base.bias[None, :0]
        return cls("baseline", np.arange(0), weight, bias, ({},), base.normalize_features)

    def only(self, runs: Sequence[int]) -> "Correction":
        """Return a correction with some of the runs; itself where that is all of them, in order."""
        rows = list(runs)
        if rows == list(range(len(self.runs))):
            return self
        return replace(
            self,
            weight=self.weight[rows],
            bias=self.bias[rows],
            runs=tuple(self.runs[run] for run in rows),
            extra={name: values[rows] for name, values in self.extra.items()},
        )

    @classmethod
    def whole(
        cls, method: str, classifier: Classifier, run: Mapping[str, Any] | None = None
    ) -> "Correction":
        """Return a classifier as a correction of every class, in one run.

        Raises:
            InputError: when its numbers are not finite.
        """
        weight, bias = classifier.weight, classifier.bias
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise InputError(
                f"{method}: gives numbers that are not finite; choose other parameters"
            )
        ids = np.arange(classifier.num_classes)
        return cls(
            method, ids, weight[None], bias[None], (run or {},), classifier.normalize_features
        )

    @property
    def composed(self) -> bool:
        """Whether AlphaNet's correction was added, in part, to a head or under a prior offset."""
        return f"{LEARNED}class_id" in self.extra

    @property
    def learned(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that AlphaNet learned; other methods have none.

        Those of a composition are apart, since other coefficients act than were learned, and it may
        have rows of more classes: who looks for ``alpha`` among its arrays must find none.

        Example:
            >>> row, ids = np.zeros((1, 1, 2), np.float32), np.array([0])
            >>> whole = Correction("m", ids, row, row[:, :, 0], ({},), extra={"learned/alpha": row})
            >>> whole.learned.keys()
            dict_keys(['learned/alpha'])
            >>> whole = replace(whole, extra={**whole.extra, "learned/class_id": ids[None]})
            >>> sorted(whole.learned)
            ['alpha', 'class_id']
        """
        if not self.composed:
            return self.extra
        return {
            name.removeprefix(LEARNED): values
            for name, values in self.extra.items()
            if name.startswith(LEARNED)
        }

    @property
    def learned_class(self) -> Ints:
        """(F,) the classes that `learned` speaks of."""
        return self.learned["class_id"][0] if self.composed else self.class_id

    def misfit(self, num_classes: int, feature_size: int) -> str | None:
        """Return why it does not fit a classifier with that many classes and features.

        Returns:
            What was found and expected; None if it fits.
        """
        size, most = self.weight.shape[2], int(self.class_id.max(initial=-1))
        near = self.learned.get("neighbor")
        if near is not None and near.dtype.kind in "iu":
            most = max(most, int(near.max(initial=0)))
        if size == feature_size and most < num_classes:
            return None
        return (
            f"found {size} features and class ids up to {most}, expected {feature_size} and at "
            f"most {num_classes - 1}"
        )

    def is_whole(self, num_classes: int) -> bool:
        """Say whether it has the row of every class, so that it is a classifier without a base."""
        return len(self.class_id) == num_classes

    def classifier(self, base: Classifier, run: int) -> Classifier:
        """Return one run's corrected classifier; other rows are `base`'s, bit for bit."""
        weight, bias = base.weight.copy(), base.bias.copy()
        weight[self.class_id] = self.weight[run]
        bias[self.class_id] = self.bias[run]
        return Classifier(weight, bias, self.normalize_features, base.experts)


def joined(corrections: Sequence[Correction]) -> Correction:
    """Return the runs of several corrections of the same classes as one correction."""
    first = corrections[0]
    if any(not np.array_equal(c.class_id, first.class_id) for c in corrections):
        raise ValueError("corrections change different classes")
    return Correction(
        first.method,
        first.class_id,
        np.concatenate([c.weight for c in corrections]),
        np.concatenate([c.bias for c in corrections]),
        tuple(run for c in corrections for run in c.runs),
        first.normalize_features,
        {name: np.concatenate([c.extra[name] for c in corrections]) for name in first.extra},
    )
