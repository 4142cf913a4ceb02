"""Known datasets, one entry each, and users' own datasets.

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

from ltkit import numerals
from ltkit.errors import InputError, nearest
from ltkit.numerals import shown
from ltkit.records import SPLITS, Dataset, ImageSplit, Ints

ROOT_VARIABLE = "LTKIT_DATA"

VAL_RULES = ("balanced", "holdout", "none")
"""A dataset uses its default rule or a later one: lists have no left-out images."""

PROFILES = ("exponential", "balanced")


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset with its default parameters.

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


_LONG_TAILED = {"ir": 100.0, "seed": 0, "val": "balanced", "profile": "exponential"}
SIZES = ("resize", "crop")
"""Parameters that bring pictures to size; not said, the network says how."""

_FILES = {"resize": None, "crop": None, "seed": 0, "val": "holdout"}

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


def load(spec: str, root: Path | None = None, *, follow_links: bool = False) -> Dataset:
    """Load a dataset.

    Args:
        spec: a name with parameters, or a path; see the module.
        root: where the images are; default ``$LTKIT_DATA``.
        follow_links: whether links may lead out of the folder of images; the record notes it.

    Raises:
        InputError: for an unknown name or parameter (the nearest are named), missing files, or a
            link that leads out.
    """
    name, _, text = spec.partition(":")
    if name in CATALOGUE:
        parameters = _parameters(name, text)
        dataset, folder = _load_named(name, parameters, root)
    else:
        if not Path(name).exists():
            raise InputError(f"{spec}: neither a dataset nor a path; {nearest(name, CATALOGUE)}")
        parameters = _parameters(name, text, _FILES)
        dataset, folder = _load_path(Path(name), parameters, root, follow_links)
    said = {key: value for key, value in parameters.items() if value is not None}
    described = ",".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in said.items()
    )
    record = {"spec": f"{name}:{described}", **said, **dataset.record}
    if follow_links:
        return replace(dataset, record=record | {"follow_links": True})
    return replace(dataset, record=record, splits=_inside(dataset.splits, folder))


def _inside(splits: Mapping[str, ImageSplit], folder: Path) -> dict[str, ImageSplit]:
    """Return splits after checking that their images stay in a folder.

    Raises:
        InputError: when a link leads one out of it.
    """
    from ltkit.datasets.images import ImageFiles

    found = dict(splits)
    for name, split in splits.items():
        if isinstance(split.images, ImageFiles):
            files = replace(split.images, root=folder)
            files.check_links()
            found[name] = replace(split, images=files)
    return found


def _load_named(name: str, parameters: dict[str, Any], root: Path | None) -> tuple[Dataset, Path]:
    """Load a dataset of the catalogue; also return the folder that its images stay in."""
    from ltkit.datasets import cifar, digits, lists

    spec = CATALOGUE[name]
    if name == "digits_lt":
        return digits.load(**parameters), Path()
    root = _root(name, root)
    if not spec.lists:
        return cifar.load(root, num_classes=spec.num_classes, **parameters), root
    files = {split: _list_file(root, file, spec) for split, file in spec.lists.items()}
    listings = {split: lists.read_list(path) for split, path in files.items()}
    _check_counts(files["train"], spec, listings["train"].labels)
    wnids = _imagenet_wnids() if name == "imagenet_lt" else None
    return lists.load_lists(listings, root, wnids=wnids, **parameters), root


def _load_path(
    path: Path, parameters: dict[str, Any], root: Path | None, follow_links: bool
) -> tuple[Dataset, Path]:
    """Load a user's dataset; also return the folder that its images stay in."""
    from ltkit.datasets import lists
    from ltkit.datasets.images import check_links

    if path.is_dir():
        if not follow_links:  # else all that a class folder leads to would be listed first
            parts = (path / split for split in SPLITS if (path / split).is_dir())
            for folder in (path, *parts):
                check_links(path, [folder])
                check_links(path, (p for p in folder.iterdir() if p.is_symlink() and p.is_dir()))
        return lists.load_folder(path, **parameters), path
    root = root or path.parent
    if path.suffix == ".csv":
        return lists.load_csv(path, root, **parameters), root
    beside = {s: path.with_name(path.name.replace("train", s)) for s in ("val", "test")}
    files = {"train": path} | {s: p for s, p in beside.items() if p != path and p.is_file()}
    listings = {split: lists.read_list(file) for split, file in files.items()}
    return lists.load_lists(listings, root, **parameters), root


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


def _check_counts(path: Path, spec: DatasetSpec, labels: Ints) -> None:
    """Reject a training list that differs from the published one."""
    counts = np.unique(labels, return_counts=True)[1]
    found = (len(labels), len(counts), counts.max(), counts.min())
    expected = (spec.train_images, spec.num_classes, spec.max_count, spec.min_count)
    if found != expected:
        wording = "{} training images of {} classes, {} to {} a class"
        raise InputError(
            f"{path}: found {wording.format(*found)}, expected {wording.format(*expected)}; "
            "take the published list"
        )


def _imagenet_wnids() -> tuple[str, ...]:
    table = resources.files("ltkit") / "data" / "imagenet1k_wnids.txt"
    return tuple(table.read_text(encoding="utf-8").split())


def _parameters(name: str, text: str, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Parse ``key=value,...`` on top of a dataset's defaults."""
    known = CATALOGUE[name].parameters if known is None else known
    parameters = dict(known)
    items = [item.partition("=") for item in filter(None, text.split(","))]
    numerals.check_once([key for key, _, _ in items], name)
    for key, _, value in items:
        if key not in known:
            raise InputError(f"{name}: unknown parameter {shown(key)}; {nearest(key, known)}")
        kind = int if key in SIZES else type(known[key])
        parameters[key] = value
        if kind is not str:
            within = numerals.WHOLES if kind is int else numerals.ANY
            parameters[key] = numerals.number(value, f"{name}: {key}", within)
    rules = VAL_RULES[VAL_RULES.index(known["val"]) :]
    if parameters["val"] not in rules:
        raise InputError(f"{name}: val: found {parameters['val']}, expected {', '.join(rules)}")
    if (profile := parameters.get("profile", PROFILES[0])) not in PROFILES:
        raise InputError(f"{name}: profile: found {profile}, expected {', '.join(PROFILES)}")
    ranges = {"seed": (0, 2**32 - 1), "resize": (1, 4096)}
    ranges["crop"] = (1, parameters.get("resize") or 4096)
    for key, (least, most) in ranges.items():
        if parameters.get(key) is not None and not least <= parameters[key] <= most:
            raise InputError(f"{name}: {key}: found {parameters[key]}, expected {least} to {most}")
    return parameters
