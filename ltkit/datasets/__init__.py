"""Known datasets, one entry each, and datasets of one's own.

``--data`` takes a name of `CATALOGUE` with parameters (``cifar100_lt:ir=50,seed=1,val=none``), a
folder with a sub-folder a class, a list file or a CSV.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.errors import InputError, nearest
from ltkit.records import Dataset

ROOT_VARIABLE = "LTKIT_DATA"

VAL_RULES = ("balanced", "holdout", "none")


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a dataset with its default parameters.

    num_classes, train_images, max_count, min_count: of the published training set (``val=none``).
    parameters: those that ``--data name:key=value`` may set, with their defaults.
    lists: for list-file datasets, split to list file.
    """

    summary: str
    num_classes: int
    train_images: int
    max_count: int
    min_count: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    needs: str = "nothing"


_LONG_TAILED = {"ir": 100.0, "seed": 0, "val": "balanced"}
_FILES = {"resize": 256, "crop": 224, "seed": 0, "val": "holdout"}

CATALOGUE: dict[str, DatasetSpec] = {
    "digits_lt": DatasetSpec(
        "scikit-learn's bundled 8x8 digits, exponential profile",
        num_classes=10,
        train_images=383,
        max_count=114,
        min_count=5,
        parameters={**_LONG_TAILED, "ir": 20.0},
    ),
    "cifar10_lt": DatasetSpec(
        "CIFAR-10, exponential profile of Cao et al. 2019",
        num_classes=10,
        train_images=12_406,
        max_count=5_000,
        min_count=50,
        parameters=_LONG_TAILED,
        needs="the official archive of CIFAR-10, binary or Python version, unpacked",
    ),
    "cifar100_lt": DatasetSpec(
        "CIFAR-100, exponential profile of Cao et al. 2019",
        num_classes=100,
        train_images=10_847,
        max_count=500,
        min_count=5,
        parameters=_LONG_TAILED,
        needs="the official archive of CIFAR-100, binary or Python version, unpacked",
    ),
    "imagenet_lt": DatasetSpec(
        "ImageNet-LT of Liu et al. 2019",
        num_classes=1000,
        train_images=115_846,
        max_count=1_280,
        min_count=5,
        parameters=_FILES,
        lists={s: f"ImageNet_LT_{s}.txt" for s in ("train", "val", "test")},
        needs="the images of ILSVRC 2012 (train/, val/) and the three ImageNet_LT_*.txt lists",
    ),
    "places_lt": DatasetSpec(
        "Places-LT of Liu et al. 2019",
        num_classes=365,
        train_images=62_500,
        max_count=4_980,
        min_count=5,
        parameters=_FILES,
        lists={s: f"Places_LT_{s}.txt" for s in ("train", "val", "test")},
        needs="the images of Places365-Standard and the three Places_LT_*.txt lists",
    ),
    "inaturalist2018": DatasetSpec(
        "iNaturalist 2018; its validation list is the test split",
        num_classes=8142,
        train_images=437_513,
        max_count=1_000,
        min_count=2,
        parameters=_FILES,
        lists={"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"},
        needs="the folder train_val2018/ of iNaturalist 2018 and the two iNaturalist18_*.txt lists",
    ),
}


def load(spec: str, root: Path | None = None) -> Dataset:
    """Load a dataset.

    Args:
        spec: a name with parameters, or a path; see the module.
        root: where the images are; default ``$LTKIT_DATA``.

    Raises:
        InputError: for an unknown name or parameter (the nearest are named), or missing files.
    """
    name, _, text = spec.partition(":")
    if name in CATALOGUE:
        parameters = _parameters(name, text)
        dataset = _load_named(name, parameters, root)
    else:
        path, _, text = spec.partition(":")
        if not Path(path).exists():
            raise InputError(f"{spec}: neither a dataset nor a path; {nearest(name, CATALOGUE)}")
        parameters = _parameters(path, text, _FILES)
        dataset = _load_path(Path(path), parameters, root)
    described = ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in parameters.items())
    record = {"spec": f"{name}:{described}", **parameters, **dataset.record}
    _check_classes(spec, dataset)
    return replace(dataset, record=record)


def _load_named(name: str, parameters: dict[str, Any], root: Path | None) -> Dataset:
    from ltkit.datasets import cifar, digits, lists

    spec = CATALOGUE[name]
    if name == "digits_lt":
        return digits.load(**parameters)
    root = _root(name, root)
    if not spec.lists:
        return cifar.load(root, num_classes=spec.num_classes, **parameters)
    files = {split: _list_file(root, file, spec) for split, file in spec.lists.items()}
    wnids = _imagenet_wnids() if name == "imagenet_lt" else None
    dataset = lists.load_lists(
        files, root, num_classes=spec.num_classes, wnids=wnids, **parameters
    )
    if "val" in spec.lists:
        _check_counts(name, spec, dataset)
    return dataset


def _load_path(path: Path, parameters: dict[str, Any], root: Path | None) -> Dataset:
    from ltkit.datasets import lists

    if path.is_dir():
        return lists.load_folder(path, **parameters)
    if path.suffix == ".csv":
        return lists.load_csv(path, root or path.parent, **parameters)
    files = {"train": path}
    stem = path.name.replace("train", "{}")
    for split in ("val", "test"):
        beside = path.with_name(stem.format(split))
        if beside != path and beside.is_file():
            files[split] = beside
    return lists.load_lists(files, root or path.parent, **parameters)


def _root(name: str, root: Path | None) -> Path:
    if root is None and ROOT_VARIABLE in os.environ:
        root = Path(os.environ[ROOT_VARIABLE])
    if root is None:
        raise InputError(
            f"{name}: no folder given; pass --root DIR or set {ROOT_VARIABLE}; "
            f"it needs {CATALOGUE[name].needs}"
        )
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {name} needs {CATALOGUE[name].needs}")
    return root


def _list_file(root: Path, name: str, spec: DatasetSpec) -> Path:
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise InputError(f"{root / name}: not found; this dataset needs {spec.needs}")


def _check_counts(name: str, spec: DatasetSpec, dataset: Dataset) -> None:
    counts = dataset.classes.train_count
    found = (int(counts.sum()), int(counts.max()), int(counts.min()))
    expected = (spec.train_images, spec.max_count, spec.min_count)
    if found != expected:
        raise InputError(
            f"{name}: {spec.lists['train']}: found {found[0]} training images, {found[1]} to "
            f"{found[2]} a class, expected {expected[0]}, {expected[1]} to {expected[2]}; "
            "take the published list"
        )


def _check_classes(spec: str, dataset: Dataset) -> None:
    empty = np.flatnonzero(dataset.classes.train_count == 0)
    if len(empty):
        raise InputError(
            f"{spec}: {len(empty)} classes have no training image, the first is "
            f"{dataset.classes.name(int(empty[0]))}; labels must run from 0 without a gap"
        )


def _imagenet_wnids() -> tuple[str, ...]:
    table = resources.files("ltkit") / "data" / "imagenet1k_wnids.txt"
    return tuple(table.read_text(encoding="utf-8").split())


def _parameters(name: str, text: str, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read ``key=value,...`` over the defaults of a dataset."""
    known = CATALOGUE[name].parameters if known is None else known
    parameters = dict(known)
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            raise InputError(f"{name}: unknown parameter {key}; {nearest(key, known)}")
        kind = type(known[key])
        try:
            parameters[key] = kind(value)
        except ValueError:
            raise InputError(
                f"{name}: {key}: found {value!r}, expected {'a number' if kind is float else 'a whole number'}"
            ) from None
    if parameters["val"] not in VAL_RULES:
        raise InputError(f"{name}: val: found {parameters['val']}, expected {', '.join(VAL_RULES)}")
    return parameters
