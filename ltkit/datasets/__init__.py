"""Known datasets, one entry each, and users' own datasets.

``--data`` takes a name of `CATALOGUE` with parameters (``cifar100_lt:ir=50,seed=1,val=none``), a
folder with a sub-folder a class, a list file or a CSV; docs/datasets.md has every form.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ltkit import numerals
from ltkit.datasets import folders, lists, tables
from ltkit.datasets.images import ImageFiles, check_links
from ltkit.datasets.names import ORDERS, hidden, split_of
from ltkit.errors import InputError, nearest
from ltkit.numerals import shown
from ltkit.records import Dataset, ImageSplit, Ints

ROOT_VARIABLE = "LTKIT_DATA"

VAL_RULES = ("balanced", "holdout", "none")
"""Lists and folders take the last two: they have no images that were left out."""

PROFILES = ("exponential", "step", "pareto", "balanced")


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

_FILES = {"resize": None, "crop": None, "seed": 0, "val": "none"}
_NAMED = {**_FILES, "order": "natural"}

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
    "tiny_imagenet_lt": DatasetSpec(
        "Tiny ImageNet, exponential profile; its validation images are the test split",
        num_classes=200,
        train_images=21_549,
        max_count=500,
        min_count=5,
        parameters=_LONG_TAILED,
        needs="tiny-imagenet-200/ unpacked (64 pixels), or tiny_imagenet32_lt.npz (32 pixels)",
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


def load(
    spec: str,
    root: Path | None = None,
    *,
    follow_links: bool = False,
    columns: Mapping[str, str] | None = None,
    val: str = "none",
    like: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
) -> Dataset:
    """Load a dataset.

    Args:
        spec: a name with parameters, or a path; see the module.
        root: where the images are; default ``$LTKIT_DATA``.
        follow_links: whether links may lead out of the folder of images; the record notes it.
        columns: what ``path``, ``label`` and ``split`` are called in a CSV.
        val: the rule for images in files without a validation part, where `spec` names none:
            ``none``, or ``holdout`` for a network that is trained here, without those images.
        like: the record of the dataset that a network was trained on; its rule and seed are taken
            where `spec` names none, so that the same images are held out.
        classes: the names of all classes, where the user states them: those may have no training
            image in a folder, list or CSV.

    Raises:
        InputError: for an unknown name or parameter (the nearest are named), missing files, or a
            link that leads out.
    """
    name, _, text = spec.partition(":")
    if name in CATALOGUE:
        tables.check_columns(columns, name)
        parameters = _parameters(name, text, CATALOGUE[name].parameters, val, like)
        dataset, folder = _load_named(name, parameters, root, follow_links)
    else:
        path = Path(name)
        if not path.exists():
            raise InputError(f"{spec}: neither a dataset nor a path; {nearest(name, CATALOGUE)}")
        listed = not path.is_dir() and not tables.is_table(path)
        parameters = _parameters(name, text, _FILES if listed else _NAMED, val, like)
        tables.check_columns(columns, name if listed or path.is_dir() else None)
        dataset, folder = _load_path(path, parameters, root, follow_links, columns, classes)
    said = {key: value for key, value in parameters.items() if value is not None}
    described = ",".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in said.items()
    )
    record = {"spec": f"{name}:{described}", **said, **dataset.record}
    if val == "holdout" or like is not None:  # trained without them, here or before
        notes = tuple(note.removesuffix(lists.SEEN) for note in dataset.notes)
        dataset = replace(dataset, notes=notes)
    if columns:
        record["columns"] = dict(columns)
    if follow_links:
        return replace(dataset, record=record | {"follow_links": True})
    return replace(dataset, record=record, splits=_inside(dataset.splits, folder))


def _inside(splits: Mapping[str, ImageSplit], folder: Path) -> dict[str, ImageSplit]:
    """Return splits after checking that their images stay in a folder.

    Raises:
        InputError: when a link leads one out of it.
    """
    found = dict(splits)
    for name, split in splits.items():
        if isinstance(split.images, ImageFiles):
            files = replace(split.images, root=folder)
            files.check_links()
            found[name] = replace(split, images=files)
    return found


def _load_named(
    name: str, parameters: dict[str, Any], root: Path | None, follow_links: bool
) -> tuple[Dataset, Path]:
    """Load a dataset of the catalogue; also return the folder that its images stay in."""
    from ltkit.datasets import cifar, digits, tiny_imagenet

    spec = CATALOGUE[name]
    if name == "digits_lt":
        return digits.load(**parameters), Path()
    root = _root(name, root)
    if not spec.lists and not follow_links:
        tiny = name == "tiny_imagenet_lt"
        own = tiny_imagenet.files(root) if tiny else cifar.files(root, spec.num_classes)
        check_links(root, (path for path in own if path.exists()))
    if name == "tiny_imagenet_lt":
        return tiny_imagenet.load(root, **parameters), root
    if not spec.lists:
        return cifar.load(root, num_classes=spec.num_classes, **parameters), root
    files = {split: _list_file(root, file, spec) for split, file in spec.lists.items()}
    listings = {split: lists.read_list(path) for split, path in files.items()}
    _check_counts(files["train"], spec, listings["train"].labels)
    wnids = _imagenet_wnids() if name == "imagenet_lt" else None
    return lists.load_lists(listings, root, parameters, wnids=wnids), root


def _load_path(
    path: Path,
    parameters: dict[str, Any],
    root: Path | None,
    follow_links: bool,
    columns: Mapping[str, str] | None,
    classes: Sequence[str],
) -> tuple[Dataset, Path]:
    """Load a user's dataset; also return the folder that its images stay in."""
    if path.is_dir():
        if not follow_links:
            _check_class_folders(path)
        return folders.load_folder(path, parameters, classes), path
    root = root or path.parent
    files = lists.beside(path)
    notes = lists.as_training(path)
    if not tables.is_table(path):
        listings = {split: lists.read_list(file, root) for split, file in files.items()}
        return lists.load_lists(listings, root, parameters, notes=notes, classes=classes), root
    read = {
        s: file for s, file in files.items() if file == path or tables.has_columns(file, columns)
    }
    if left := sorted(file.name for split, file in files.items() if split not in read):
        notes += (f"{', '.join(left)} beside it lacks its columns, so it is left out",)
    dataset = tables.load_table(
        path, root, parameters, columns=columns, files=read, notes=notes, classes=classes
    )
    return dataset, root


def _check_class_folders(path: Path) -> None:
    """Refuse folders that are links elsewhere; else all they lead to would be listed first."""
    parts = (part for part in path.iterdir() if split_of(part.name) and part.is_dir())
    for folder in (path, *parts):
        check_links(path, [folder])
        inside = (p for p in folder.iterdir() if not hidden(p.name))
        check_links(path, (p for p in inside if p.is_symlink() and p.is_dir()))


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


def _parameters(
    name: str,
    text: str,
    known: Mapping[str, Any],
    val: str,
    like: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Read ``key=value,...`` over the defaults of a dataset.

    Args:
        name: of the dataset, for messages.
        text: what the user wrote.
        known: the parameters that there are, with their defaults.
        val: the rule where a dataset has no left-out images, as `load` has it.
        like: the record whose rule and seed come before the defaults, as `load` has it.

    Raises:
        InputError: for an unknown parameter or a value out of its range.
    """
    parameters = dict(known)
    rules = VAL_RULES if known["val"] == "balanced" else VAL_RULES[1:]
    if known["val"] == "none":
        parameters["val"] = val
    if like is not None and like.get("val") in rules and type(like.get("seed")) is int:
        parameters |= {"val": like["val"], "seed": like["seed"]}
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
    for key, words in {"val": rules, "profile": PROFILES, "order": ORDERS}.items():
        if key in known and parameters[key] not in words:
            found = shown(parameters[key])
            raise InputError(f"{name}: {key}: found {found}, expected {', '.join(words)}")
    ranges = {"seed": (0, 2**32 - 1), "resize": (1, 4096)}
    ranges["crop"] = (1, parameters.get("resize") or 4096)
    for key, (least, most) in ranges.items():
        if parameters.get(key) is not None and not least <= parameters[key] <= most:
            raise InputError(f"{name}: {key}: found {parameters[key]}, expected {least} to {most}")
    return parameters
