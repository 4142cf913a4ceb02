"""Features and corrections, read, extracted or made of arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltkit.errors import InputError
from ltkit.face.arrays import COMMAND, Array, Split, numbers, single, whole_numbers
from ltkit.records import (
    SPLITS,
    ClassTable,
    FeatureSet,
    FeatureSplit,
    Head,
    Ints,
)
from ltkit.settings import (
    ExtractSettings,
    LoadSettings,
    ViewSettings,
)

if TYPE_CHECKING:
    import torch


def read(path: str | Path) -> FeatureSet:
    """Read a features file; see ``ltkit extract`` and ``ltkit import``.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, or another kind of file.
    """
    from ltkit.files import features

    return features.read(Path(path))


def extract(
    model: "str | Path | torch.nn.Module",
    data: str | Path | Mapping[str, Iterable[Any]],
    output: str | Path,
    *,
    root: str | Path | None = None,
    load: LoadSettings | None = None,
    view: ViewSettings | None = None,
    settings: ExtractSettings | None = None,
    transform: Callable[..., Any] | str | None = None,
    classes: str | Path | None = None,
    head: str | None = None,
    class_names: Sequence[str] | None = None,
    train_counts: Array | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> FeatureSet:
    """Extract features, as ``ltkit extract`` does; of a model in memory, from batches of anything.

    Args:
        model: a checkpoint's path, or a model in memory.
        data: for a path, a dataset as ``--data`` takes it; for a model, split to its batches:
            (inputs, labels) pairs, or mappings with ``labels``.
        output: the features file to write.
        root: where the dataset's images are.
        load: what is said of a checkpoint that does not say it itself.
        view: what is said of how its network sees the pictures.
        settings: batch size, stored type and the like.
        transform: of a checkpoint's images, a function from a PIL image to the network's input.
        classes: a file of the classes' names in the order of the head.
        head: of a model in memory, its last layer's name; None: the one that gives its output.
        class_names: of a model in memory, the C names.
        train_counts: of a model in memory, (C,) training images; None: those of the train split.
        device: ``cpu`` or ``cuda[:i]``.
        overwrite: whether an existing output may be replaced.

    Raises:
        InputError: when model and data do not fit, or the output exists.
        FormatError: when the checkpoint is damaged or unsafe.
    """
    from ltkit.files.atomic import check_output
    from ltkit.sources import extraction
    from ltkit.sources.batches import extract_batches
    from ltkit.sources.preparation import prepare

    target, chosen = Path(output), settings or ExtractSettings()
    check_output(target, overwrite=overwrite)
    if isinstance(data, Mapping):
        if isinstance(model, str | Path):
            raise InputError(
                f"data: found batches for {model}, expected a dataset for a checkpoint"
            )
        counts = None if train_counts is None else whole_numbers(train_counts)
        names = None if class_names is None else tuple(map(str, class_names))
        extract_batches(
            model, data, target, head=head, class_names=names, train_counts=counts, device=device,
            dtype=chosen.dtype, command=COMMAND,
        )  # fmt: skip
        return read(target)
    if not isinstance(model, str | Path):
        said = "data: found a dataset for a model in memory, expected batches of each split"
        raise InputError(said)
    made = prepare(
        Path(model), str(data), None if root is None else Path(root), wanted=load, view=view,
        transform=transform, classes=None if classes is None else Path(classes),
    )  # fmt: skip
    splits = [name for name in SPLITS if name in made.dataset.splits]
    extraction.extract(
        made.model, made.dataset, splits, target, chosen, seen=made.seen, device=device,
        command=COMMAND,
    )  # fmt: skip
    return read(target)


def features(
    train: Split | None = None,
    val: Split | None = None,
    test: Split | None = None,
    *,
    weight: Array | None = None,
    bias: Array | None = None,
    class_names: Sequence[str] | None = None,
    wnids: Sequence[str] | None = None,
    train_counts: Array | None = None,
) -> FeatureSet:
    """Build features from arrays, with an optional last layer, as ``ltkit import`` does.

    Args:
        train: (N, D) features and (N,) labels from 0.
        val: the same for the validation split, on which parameters are chosen.
        test: the same for the test split.
        weight: (C, D) rows of the last layer.
        bias: (C,), zeros if absent.
        class_names: C names.
        wnids: C WordNet ids.
        train_counts: (C,) training images per class, which decide the shot groups; counted in
            `train` if absent.

    Raises:
        InputError: when arrays do not fit each other, or there is nothing to count.

    Example:
        >>> x, y = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [0, 0, 1]
        >>> found = features(train=(x, y), test=(x, y), weight=[[1, 0], [0, 1]])
        >>> found.classes.train_count.tolist(), found.classifier().logits(np.array(x))[0].tolist()
        ([2, 1], [1.0, 0.0])
    """
    given = {name: s for name, s in (("train", train), ("val", val), ("test", test)) if s}
    if not given:
        raise InputError("features: found no split, expected train, val or test")
    splits = {name: _split(name, *pair) for name, pair in given.items()}
    if len({split.features.shape[1] for split in splits.values()}) > 1:
        raise InputError("features: splits differ in width, expected one")
    if train_counts is None and "train" not in splits:
        raise InputError("train_counts: absent; without train they must be given")
    most = 1 + max(int(split.labels.max(initial=-1)) for split in splits.values())
    rows = None if weight is None else single(weight, "weight")
    most = max(most, 0 if rows is None else len(rows))
    if train_counts is None:
        counts: Ints = np.bincount(splits["train"].labels, minlength=most)
    else:
        counts = whole_numbers(train_counts)
    if len(counts) < most:
        raise InputError(f"train_counts: found {len(counts)}, expected {most}, one per class")
    head = None
    if rows is not None:
        biases = np.zeros(len(rows), np.float32) if bias is None else single(bias, "bias")
        width = next(iter(splits.values())).features.shape[1]
        if rows.shape != (len(counts), width) or biases.shape != (len(counts),):
            raise InputError(
                f"weight: found {rows.shape} and a bias {biases.shape}, expected "
                f"({len(counts)}, {width}) and ({len(counts)},)"
            )
        head = Head(rows, biases)
    names, ids = (None if c is None else tuple(map(str, c)) for c in (class_names, wnids))
    for what, column in (("class_names", names), ("wnids", ids)):
        if column is not None and len(column) != len(counts):
            raise InputError(f"{what}: found {len(column)}, expected {len(counts)}, one per class")
    return FeatureSet(splits, ClassTable(counts, names, ids), head)


def _split(name: str, x: Array, y: Array) -> FeatureSplit:
    rows, labels = numbers(x), whole_numbers(y)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise InputError(
            f"{name}: found features {rows.shape} and labels {labels.shape}, expected (N, D), (N,)"
        )
    if not np.isfinite(rows).all() or labels.min(initial=0) < 0:
        raise InputError(f"{name}: found NaN, infinity or a negative label, expected neither")
    return FeatureSplit(single(rows, name), labels)
