"""What flows between commands: features, heads, classifiers, neighbours, corrections, images.

Dimension key, used in every docstring and comment:
`N` samples, `B` block or batch, `D` feature size, `C` classes, `F` few-shot classes,
`K` neighbours, `E` experts, `R` changed rows of a classifier, `S` runs (seed x rho x k).

Records check their shapes once, on construction; inside, code trusts them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.settings import BINS

Floats = NDArray[Any]
Ints = NDArray[np.int64]
Normalize = Literal["none", "features", "cosine"]

SPLITS = ("train", "val", "test")
SHOT_GROUPS = ("few", "medium", "many")


class Rows(Protocol):
    """(N, ...) values that are read in blocks; a NumPy array is one, so is a file's dataset."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as stored."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read the rows of a contiguous slice."""


def blocks(count: int, size: int) -> Iterator[slice]:
    """Cut ``range(count)`` into consecutive slices of at most `size`.

    Example:
        >>> [(s.start, s.stop) for s in blocks(5, 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


BLOCK_BYTES = 1 << 20
"""A block of a file has about a MiB: the unit of checksums and of resuming."""

STREAM_BLOCKS = 8
"""Blocks read at a time: enough for a matrix product to run at full speed."""


def block_rows(row_bytes: int) -> int:
    """Return how many rows make a block of about `BLOCK_BYTES`, at least one."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


MIDDLING = (1e-12, 1e12)
"""Lengths of float32 rows whose squares are surely neither lost nor infinite."""


def lengths(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the L2 norms over the last axis, which stays, however small or large numbers are.

    Example:
        >>> lengths(np.float32([[3e-30, 4e-30]])).round(32).tolist()
        [[5.000000015855384e-30]]
    """
    with np.errstate(over="ignore", under="ignore"):
        norms: NDArray[Any] = np.linalg.norm(rows, axis=-1, keepdims=True)
        odd = ~((norms >= MIDDLING[0]) & (norms <= MIDDLING[1]))
        if odd.any():
            exact = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
            norms = np.where(odd, exact, norms).astype(norms.dtype)
    return norms


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Divide by the L2 norms over the last axis, however small or large numbers are; zeros stay.

    Example:
        >>> unit_rows(np.float32([[3e-30, 4e-30], [0, 0]])).round(2).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms = lengths(rows)
    odd = ~((norms >= MIDDLING[0]) & (norms <= MIDDLING[1]))
    unit: NDArray[Any] = rows / np.where(odd, 1, norms).astype(norms.dtype)
    if odd.any():
        which = odd[..., 0]
        exact = rows[which].astype(np.float64)
        exact_norms = np.linalg.norm(exact, axis=-1, keepdims=True)
        unit[which] = exact / np.where(exact_norms > 0, exact_norms, 1)
    return unit


PRODUCTS = (1e-20, 1e30)
"""Of the largest feature times the largest weight: where sums of products are safe in float32."""


def products(features: NDArray[Any], weight: Floats) -> NDArray[Any]:
    """Return the (B, R) products ``features @ weight.T``.

    In float32, unless its range could cut off what float64 holds: there the products of finite
    numbers are finite, and tiny ones are not lost.

    Args:
        features: (B, D) float32.
        weight: (R, D) float32.

    Example:
        >>> [f"{p:.3g}" for p in products(np.float32([[1e30]]), np.float32([[1e30], [2]]))[0]]
        ['1e+60', '2e+30']
    """
    most = _largest(features) * _largest(weight)
    if PRODUCTS[0] <= most <= PRODUCTS[1] or most == 0:
        return np.asarray(features @ weight.T)
    return np.asarray(features.astype(np.float64) @ weight.T.astype(np.float64))


def shifted(logits: NDArray[Any], bias: Floats) -> NDArray[Any]:
    """Return (B, R) products and the biases added up, in float64 where float32 may not hold it."""
    if _largest(bias) > PRODUCTS[1]:
        logits = logits.astype(np.float64)
    return np.asarray(logits + bias)


def _largest(values: NDArray[Any]) -> float:
    """Return the largest absolute value, 0 where there is none; NaN where there is one."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier: the common coin that every method takes and gives.

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
    """The last layer as the model holds it.

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
        """Return a head of this form with the logits of a linear classifier: `fold` undone.

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
                    f"have lengths {lengths.min():.3g} to {lengths.max():.3g}; use --to npz"
                )
        bias = np.broadcast_to(classifier.bias, (self.experts, self.num_classes))
        return Head(
            weight.reshape(self.weight.shape), bias.reshape(self.bias.shape), self.scale,
            self.normalize,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FeatureSplit:
    """The cached features of one split.

    features: (N, D) float32 or float16.
    labels: (N,) int64 in 0..C-1.
    ids: (N,) what each image was called, or None.
    """

    features: Rows
    labels: Ints
    ids: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if len(self.features.shape) != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(f"features {self.features.shape}, labels {self.labels.shape}")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def slices(self) -> Iterator[slice]:
        """Cut the split into consecutive slices of a few MiB, whole blocks of a file."""
        row_bytes = self.features.shape[1] * self.features.dtype.itemsize
        return blocks(len(self), STREAM_BLOCKS * block_rows(row_bytes))

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any], Ints]]:
        """Yield (rows, features (B, D), labels (B,)) slice by slice."""
        for rows in self.slices():
            yield rows, self.features[rows], self.labels[rows]


@dataclass(frozen=True, eq=False)
class ClassTable:
    """What is known of the classes of a dataset.

    train_count: (C,) int64 training images per class, what decides the shot groups.
    names, wnids, coarse: (C,) names, WordNet ids and superclass names, or None.
    """

    train_count: Ints
    names: tuple[str, ...] | None = None
    wnids: tuple[str, ...] | None = None
    coarse: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check that every column has C entries."""
        for column in (self.names, self.wnids, self.coarse):
            if column is not None and len(column) != len(self):
                raise ValueError(f"{len(column)} entries for {len(self)} classes")

    def __len__(self) -> int:
        """C."""
        return len(self.train_count)

    def name(self, class_id: int) -> str:
        """Return a class's name, or its number where there are no names."""
        return str(class_id) if self.names is None else self.names[class_id]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The contents of a features file."""

    splits: Mapping[str, FeatureSplit]
    classes: ClassTable
    head: Head | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    source: str = "features"

    def split(self, name: str) -> FeatureSplit:
        """Return a split.

        Raises:
            InputError: when the file has no such split; the message lists those present.
        """
        if name not in self.splits:
            present = ", ".join(self.splits) or "none"
            raise InputError(
                f"{self.source}: no split {name}; there are: {present}; choose one of them, or add "
                "it to the data and extract again"
            )
        return self.splits[name]

    def classifier(self) -> Classifier:
        """Return the file's own head in its linear form.

        Raises:
            InputError: when the file has no head.
        """
        if self.head is None:
            raise InputError(f"{self.source}: head: absent; extract or import with a classifier")
        return self.head.fold()

    @property
    def feature_size(self) -> int:
        """D."""
        return int(next(iter(self.splits.values())).features.shape[1])


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other classes of each class of interest.

    few_class: (F,) int64 class ids, ascending.
    base_class: (F, K) int64 class ids, nearest first, ties by class id.
    distance: (F, K) float32 in the metric's unit, ascending.
    """

    few_class: Ints
    base_class: Ints
    distance: Floats
    metric: str = "euclidean"

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = (len(self.few_class), *self.base_class.shape[1:])
        if self.base_class.shape != shape or self.distance.shape != shape:
            raise ValueError(f"neighbours {self.base_class.shape}, distances {self.distance.shape}")

    @property
    def k(self) -> int:
        """K."""
        return int(self.base_class.shape[1])


@dataclass(frozen=True, eq=False)
class Correction:
    """What a method changed in a classifier, in one or more runs.

    class_id: (R,) int64 changed classes, ascending.
    weight: (S, R, D) float32; bias: (S, R) float32, in the linear form of `Classifier`.
    runs: S dictionaries, what made each run (rho, seed, k, tau, ...).
    normalize_features: as in `Classifier`.
    extra: arrays a method keeps beside (alphas, logs), each with S as first axis.
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

    def misfit(self, num_classes: int, feature_size: int) -> str | None:
        """Say why it is no correction of a classifier of that many classes and features.

        Returns:
            What was found and expected; None where it fits.
        """
        size, most = self.weight.shape[2], int(self.class_id.max(initial=-1))
        near = self.extra.get("neighbor")
        if near is not None and near.dtype.kind in "iu":
            most = max(most, int(near.max(initial=0)))
        if size == feature_size and most < num_classes:
            return None
        return (
            f"found {size} features and class ids up to {most}, expected {feature_size} and at "
            f"most {num_classes - 1}"
        )

    def classifier(self, base: Classifier, run: int) -> Classifier:
        """Return the corrected classifier of one run; other rows are `base`'s, bit for bit."""
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


@dataclass(frozen=True, eq=False)
class ShotGroups:
    """The classes of each shot group, by training count.

    few, medium, many: class ids, ascending; `base` is medium + many.
    """

    few: Ints
    medium: Ints
    many: Ints

    @property
    def base(self) -> Ints:
        """Medium and many."""
        return np.sort(np.concatenate([self.medium, self.many]))

    def items(self) -> list[tuple[str, Ints]]:
        """Return (name, class ids) in the order few, medium, many."""
        return [(name, getattr(self, name)) for name in SHOT_GROUPS]


def shot_groups(class_counts: Ints, bins: Sequence[int] = BINS) -> ShotGroups:
    """Group classes by training count: few < bins[0], many > bins[1], medium between.

    Args:
        class_counts: (C,) training images per class.
        bins: the least and the greatest count of medium.

    Raises:
        InputError: when the bins are not two ascending counts.

    Example:
        >>> groups = shot_groups(np.array([101, 100, 20, 19]))
        >>> [ids.tolist() for _, ids in groups.items()]
        [[3], [1, 2], [0]]
    """
    if len(bins) != 2 or not 0 < bins[0] <= bins[1]:
        raise InputError(
            f"--bins: found {','.join(map(str, bins))}, expected two counts, as 20,100"
        )
    low, high = bins
    return ShotGroups(
        few=np.flatnonzero(class_counts < low).astype(np.int64),
        medium=np.flatnonzero((class_counts >= low) & (class_counts <= high)).astype(np.int64),
        many=np.flatnonzero(class_counts > high).astype(np.int64),
    )


def members(groups: ShotGroups, name: str, option: str) -> Ints:
    """Return the class ids of ``few``, ``medium``, ``many``, ``base`` or ``all``, ascending.

    Raises:
        InputError: for another name; the message says which option it was given to.
    """
    if name == "all":
        return np.sort(np.concatenate([groups.few, groups.base]))
    if name not in (*SHOT_GROUPS, "base"):
        raise InputError(f"{option}: found {name}, expected few, medium, many, base or all")
    ids: Ints = getattr(groups, name)
    return ids


class Images(Protocol):
    """N images of one size, read in blocks; a uint8 array is one."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Read (B, H, W, channels) uint8 images.

        Raises:
            InputError: for an image that cannot be read; the message names it.
        """


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """The images of one split.

    labels: (N,) int64; ids: (N,) what each image is called.
    """

    images: Images
    labels: Ints
    ids: NDArray[np.str_]

    def __post_init__(self) -> None:
        """Check the lengths."""
        if not len(self.images) == len(self.labels) == len(self.ids):
            raise ValueError(f"{len(self.images)} images, {len(self.labels)} labels")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in splits, with what training and extraction need to know of them.

    mean, std: per channel, of pixel values in 0..1: the field's usual normalisation.
    crop_padding, flip: the usual training augmentation (pixels; whether to mirror).
    record: what makes the dataset repeatable (spec, validation rule, index digest).
    """

    splits: Mapping[str, ImageSplit]
    classes: ClassTable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool
    record: Mapping[str, Any]

    def split(self, name: str) -> ImageSplit:
        """Return a split.

        Raises:
            InputError: when there is no such split; the message lists those present.
        """
        if name not in self.splits:
            raise InputError(
                f"{self.record['spec']}: no split {name}; there are: {', '.join(self.splits)}"
            )
        return self.splits[name]
