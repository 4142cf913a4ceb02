"""The commands as functions, for notebooks and scripts: what ``import ltkit`` offers.

Features and corrections are records in memory; tables are pandas data frames, and each keeps the
whole document that ``--json`` would print under ``frame.attrs["document"]``. Arrays may be NumPy's,
lists, or tensors. Nothing is printed, and nothing is written but where an output is named.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation import Entry, Grouping, label, siblings
from ltkit.files.bases import Start
from ltkit.files.bases import with_base as with_base
from ltkit.records import Classifier, ClassTable, Correction, FeatureSet, FeatureSplit, Head, Ints
from ltkit.settings import BINS, GROUPS, REPLICATES, Metric, NeighborSettings, Select

if TYPE_CHECKING:
    import pandas as pd
    import torch

Array = Any
"""A NumPy array, a list, or a tensor."""

Split = tuple[Array, Array]
"""Features (N, D) and labels (N,)."""

Judged = Correction | tuple[str, Correction] | str | Path
"""A correction, one under a name, or the classifier file that holds it."""

ENDS = {
    "interval": ("low", "high"), "difference_interval": ("difference_low", "difference_high"),
}  # fmt: skip
"""What the ends of intervals are called in frames."""

COMMAND = "import ltkit"
"""What files written from Python say of the command that made them."""


def read(path: str | Path) -> FeatureSet:
    """Read a features file; see ``ltkit extract`` and ``ltkit import``.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, or another kind of file.
    """
    from ltkit.files import features

    return features.read(Path(path))


def read_correction(path: str | Path) -> Correction:
    """Read a classifier file, with all its runs.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, or another kind of file.
    """
    from ltkit.files import classifiers

    return classifiers.read(Path(path))[0]


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
    """Take features made elsewhere, and a last layer if there is one, as ``ltkit import`` does.

    Args:
        train: (N, D) features and (N,) labels from 0.
        val: likewise; parameters are chosen on it.
        test: likewise.
        weight: (C, D) rows of the last layer.
        bias: (C,), zeros if absent.
        class_names: C names.
        wnids: C WordNet ids.
        train_counts: (C,) training images a class, which decide the shot groups; counted in `train`
            if absent.

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
        raise InputError("features: splits have other widths, expected one")
    if train_counts is None and "train" not in splits:
        raise InputError("train_counts: absent; without train they must be given")
    most = 1 + max(int(split.labels.max(initial=-1)) for split in splits.values())
    rows = None if weight is None else _array(weight, np.float32)
    most = max(most, 0 if rows is None else len(rows))
    if train_counts is None:
        counts: Ints = np.bincount(splits["train"].labels, minlength=most)
    else:
        counts = _array(train_counts, np.int64)
    if len(counts) < most:
        raise InputError(f"train_counts: found {len(counts)}, expected {most}, one a class")
    head = None
    if rows is not None:
        biases = np.zeros(len(rows), np.float32) if bias is None else _array(bias, np.float32)
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
            raise InputError(f"{what}: found {len(column)}, expected {len(counts)}, one a class")
    return FeatureSet(splits, ClassTable(counts, names, ids), head)


def _split(name: str, x: Array, y: Array) -> FeatureSplit:
    rows, labels = _array(x, np.float32), _array(y, np.int64)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise InputError(
            f"{name}: found features {rows.shape} and labels {labels.shape}, expected (N, D), (N,)"
        )
    if not np.isfinite(rows).all() or labels.min(initial=0) < 0:
        raise InputError(f"{name}: found NaN, infinity or a negative label, expected neither")
    return FeatureSplit(rows, labels)


def _array(values: Array, dtype: type[Any]) -> Any:
    """Return an array of a type; whole numbers must be such."""
    held = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if held.dtype.kind not in "biuf":
        raise InputError(f"found an array of {held.dtype}, expected numbers")
    found = held.astype(dtype)
    if dtype is np.int64 and not np.array_equal(found, held):
        raise InputError("found numbers with fractions, expected whole ones")
    return found


def evaluate(
    features: FeatureSet,
    *corrections: Judged,
    split: str = "test",
    bins: Sequence[int] = BINS,
    group: Grouping | None = None,
    topk: Sequence[int] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
) -> "pd.DataFrame":
    """Score the features' own head and corrections of it, as ``ltkit evaluate`` does.

    Args:
        features: with a head, or with `base`.
        *corrections: what to score beside it.
        split: which split.
        bins: the least and the greatest training count of the medium classes.
        group: for grouped accuracy.
        topk: which top-k accuracies.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        base: a classifier in the place of the head, or its file; it is the baseline.

    Returns:
        A row for each setting, baseline first; columns (figure, group) with the figures accuracy,
        std, low and high (95 % interval), difference, difference_low and difference_high, as
        fractions, NaN where there is none. ``frame["accuracy"]`` is the usual table.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`.
    """
    from ltkit.evaluation import scores

    features = with_base(features, base)
    document, _ = scores.evaluate(
        features, split, _entries(corrections), bins=bins, grouping=group, topk=topk,
        replicates=replicates, seed=seed,
    )  # fmt: skip
    rows = document["rows"]
    parts = ("accuracy", "std", "interval", "difference", "difference_interval")
    return _frame(
        [label(r["name"], r["settings"], siblings(r, rows)) for r in rows],
        [{part: row.get(part) for part in parts} for row in rows],
        document,
    )


def compare(
    features: FeatureSet,
    *corrections: Judged,
    against: str | None = None,
    select: Select | None = "balanced",
    split: str = "test",
    bins: Sequence[int] = BINS,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
) -> "pd.DataFrame":
    """Compare corrections with the features' own head and each other, as ``ltkit compare`` does.

    Args:
        features: with a head, or with `base`.
        *corrections: at least one.
        against: a name that all others are compared with; None: every pair.
        select: what a correction's setting is chosen by on the validation split.
        split: which split.
        bins: of the shot groups.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        base: a classifier in the place of the head, or its file; it is the baseline.

    Returns:
        A row for each pair, "first - second"; columns (figure, group) with the figures difference,
        low and high. McNemar's test, classes won and curves are in the document.

    Raises:
        InputError: as `ltkit.evaluation.compare`.
    """
    from ltkit.evaluation import comparison

    features = with_base(features, base)
    document = comparison.compare(
        features, split, _entries(corrections), bins=bins, select=select, against=against,
        replicates=replicates, seed=seed,
    )  # fmt: skip
    pairs = document["pairs"]
    return _frame(
        [f"{pair['first']} - {pair['second']}" for pair in pairs],
        [{part: pair[part] for part in ("difference", "interval")} for pair in pairs],
        document,
    )


def nearest(
    features: FeatureSet,
    k: int = NeighborSettings.k,
    metric: Metric = NeighborSettings.metric,
    of: str = "few",
    among: str = "base",
    bins: Sequence[int] = BINS,
) -> "pd.DataFrame":
    """Find the nearest classes of each rare class, as ``ltkit neighbors`` does.

    Args:
        features: with training samples.
        k: how many.
        metric: of the class means, or ``wordnet``.
        of: which classes: few, medium, many, base or all.
        among: which classes may be neighbours.
        bins: of the shot groups.

    Returns:
        A row for each class and rank: class, neighbor, distance, by name where there are names.

    Raises:
        InputError: when there are fewer than k others, or classes without training samples.
    """
    import pandas as pd

    from ltkit.neighbors import nearest_classes
    from ltkit.neighbors.class_means import class_means
    from ltkit.records import members, shot_groups

    classes = features.classes
    groups = shot_groups(classes.train_count, bins)
    chosen, others = members(groups, of, "of"), members(groups, among, "among")
    means, _ = class_means(features.split("train"), len(classes))
    near = nearest_classes(features, means, chosen, others, NeighborSettings(k, metric))
    rows = [
        (classes.name(int(c)), rank, classes.name(int(other)), float(distance))
        for c, found, distances in zip(near.few_class, near.base_class, near.distance, strict=True)
        for rank, (other, distance) in enumerate(zip(found, distances, strict=True), start=1)
    ]
    return pd.DataFrame(rows, columns=["class", "rank", "neighbor", "distance"])


def save(features: FeatureSet, correction: Correction, output: str | Path, *,
         overwrite: bool = False) -> Path:  # fmt: skip
    """Write a correction to a classifier file, which every command reads.

    Raises:
        InputError: when the features were not read from a file, or the output exists.
    """
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output

    if not features.digest:
        raise InputError(
            "features: are in memory alone, expected those of a file; write them with ltkit import"
        )
    path = Path(output)
    check_output(path, overwrite=overwrite)
    classifiers.write(
        path, correction, settings={}, inputs=_inputs(features, correction), command=COMMAND
    )
    return path


def _inputs(features: FeatureSet, correction: Correction) -> dict[str, str]:
    """Return what a correction was made from: a whole one stands without a base."""
    if features.base is None or features.base.digest:
        return features.inputs
    if not correction.is_whole(len(features.classes)):
        raise InputError(
            "base: is in memory alone, and the correction has some of its rows; save the base, and "
            "name its file"
        )
    return {"features": features.digest}


def export(correction: Correction | Classifier, output: str | Path, *,
           base: FeatureSet | None = None, to: str = "npz", run: int = 0,
           overwrite: bool = False) -> Path:  # fmt: skip
    """Write a corrected head alone, as ``ltkit export --to`` does.

    Back into a checkpoint, byte for byte but the head, go classifier files: `save` one, then
    ``ltkit export FILE --into CHECKPOINT``.

    Args:
        correction: a run of it, or a whole classifier.
        output: the file.
        base: the features whose head a correction changes, or, without a head, all rows of which it
            has.
        to: npz, safetensors, csv or onnx.
        run: which run of the correction.
        overwrite: whether the output may be replaced.

    Raises:
        InputError: without the base of a correction, for another form, or an output that exists.
    """
    from ltkit.exports import checkpoint
    from ltkit.files.atomic import check_output

    if to not in checkpoint.FORMS:
        raise InputError(f"to: found {to}, expected {', '.join(checkpoint.FORMS)}")
    if isinstance(correction, Correction):
        if base is None:
            raise InputError("base: absent, expected the features whose head is corrected")
        correction = base.corrected(correction, run)
    path = Path(output)
    check_output(path, overwrite=overwrite)
    checkpoint.export_head(correction, to, path)
    return path


def loss(name: str, logits: Array, labels: Array, class_counts: Array,
         **parameters: Any) -> "torch.Tensor":  # fmt: skip
    """Return one of the losses that ``ltkit train --list`` names, of a batch.

    Args:
        name: as on the command line.
        logits: (B, C); a tensor that needs a gradient gets one.
        labels: (B,).
        class_counts: (C,) training images a class.
        **parameters: of the loss.

    Raises:
        InputError: for an unknown loss or parameter.

    Example:
        >>> round(loss("balanced-softmax", [[0.0, 0.0]], [1], [90, 10]).item(), 4)  # -log 0.1
        2.3026
    """
    import torch

    from ltkit import losses, registry

    function = registry.load(losses, name).loss
    parameters = registry.parameters_of(function, parameters, name)
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    values = torch.as_tensor(logits)
    batch = (values, torch.as_tensor(labels), counts.to(values.dtype))
    if isinstance(function, type):
        return _scalar(function(counts, **parameters)(*batch))
    return _scalar(function(*batch, **parameters))


def _scalar(value: Any) -> "torch.Tensor":
    found: torch.Tensor = value
    return found


def _entries(corrections: Sequence[Judged]) -> list[Entry]:
    """Return what is judged, each under a name of its own: the method's where none is given."""
    found: list[Entry] = []
    for one in corrections:
        if isinstance(one, tuple):
            found.append(Entry(one[0], one[0], one[1]))
        elif isinstance(one, Correction):
            found.append(Entry(one.method, one.method, one))
        else:
            found.append(Entry(Path(one).stem, str(one), read_correction(one)))
    names = [entry.name for entry in found]
    return [
        entry if names.count(entry.name) == 1
        else Entry(f"{entry.name} ({names[: place + 1].count(entry.name)})", entry.file,
                   entry.correction)
        for place, entry in enumerate(found)
    ]  # fmt: skip


def _frame(
    index: Sequence[str], rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> "pd.DataFrame":
    """Return a frame of figures by group; an interval is two columns."""
    import pandas as pd

    columns: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for part, values in row.items():
            names = ENDS.get(part, (part,))
            for group in GROUPS:
                value = None if values is None else values[group]
                every = value if isinstance(value, list) else [value] * len(names)
                for name, number in zip(names, every, strict=True):
                    held = float("nan") if number is None else float(number)
                    columns.setdefault((name, group), []).append(held)
    frame = pd.DataFrame(columns, index=list(index))
    frame.columns = pd.MultiIndex.from_tuples(list(columns), names=["figure", "group"])
    frame.attrs["document"] = dict(document)
    return frame
