"""What the known benchmarks need on disk, where it is published, and whether it is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltkit.datasets import CATALOGUE, cifar, load, tiny_imagenet
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, nearest
from ltkit.records import Dataset

SAMPLED = 1000
"""Images that are looked for, at equal steps, where a dataset is of files."""

LISTS = "https://github.com/zhmiao/OpenLongTailRecognition-OLTR"
IMAGENET = "https://image-net.org/download"
PLACES = "http://places2.csail.mit.edu/download.html"
INATURALIST = "https://github.com/visipedia/inat_comp/tree/master/2018"
INATURALIST_LISTS = "https://github.com/facebookresearch/classifier-balancing"
CIFAR = "https://www.cs.toronto.edu/~kriz/cifar.html"
TINY = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass(frozen=True)
class Need:
    """Something that a benchmark needs.

    what: in words; one_of: names in its folder, of which one will do; published: where.
    inside: likewise, where the folder is the thing itself.
    """

    what: str
    one_of: tuple[str, ...]
    published: str
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What became of a need.

    state: it was there, is linked now, or is missing; path: where it is, or would be.
    """

    need: Need
    state: Literal["there", "linked", "missing"]
    path: Path


def _list(name: str, published: str) -> Need:
    return Need(f"the list {name}", (name, f"{name}.gz"), published)


def _archive(layout: cifar.Layout) -> Need:
    what = f"the archive of CIFAR-{layout.num_classes}, unpacked"
    inside = (layout.binary_files["test"][0], layout.python_files["test"][0])
    return Need(what, (layout.binary, layout.python), CIFAR, inside)


NEEDS: dict[str, tuple[Need, ...]] = {
    "digits_lt": (),
    "cifar10_lt": (_archive(cifar.LAYOUTS[10]),),
    "cifar100_lt": (_archive(cifar.LAYOUTS[100]),),
    "tiny_imagenet_lt": (
        Need(
            "Tiny ImageNet, unpacked",
            (tiny_imagenet.FOLDER, tiny_imagenet.FILE),
            TINY,
            ("wnids.txt",),
        ),
    ),
    "imagenet_lt": (
        *(_list(name, LISTS) for name in CATALOGUE["imagenet_lt"].lists.values()),
        Need("the training images of ILSVRC 2012, a folder a class", ("train",), IMAGENET),
        Need("its validation images, a folder a class", ("val",), IMAGENET),
    ),
    "places_lt": (
        *(_list(name, LISTS) for name in CATALOGUE["places_lt"].lists.values()),
        Need("the training images of Places365-Standard", ("train",), PLACES),
        Need("its validation images", ("val",), PLACES),
    ),
    "inaturalist2018": (
        *(_list(name, INATURALIST_LISTS) for name in CATALOGUE["inaturalist2018"].lists.values()),
        Need("the images of iNaturalist 2018", ("train_val2018",), INATURALIST),
    ),
}


def prepare(name: str, root: Path, sources: Sequence[Path] = ()) -> list[Found]:
    """Look for what a benchmark needs; link what lies elsewhere. Nothing is copied or fetched.

    Args:
        name: of the benchmark.
        root: its folder.
        sources: folders in which to look for what is not there.

    Raises:
        InputError: for an unknown name, or a folder that is not there.
    """
    if name not in NEEDS:
        raise InputError(f"{name}: no known dataset; {nearest(name, NEEDS)}")
    for folder in (root, *sources):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; make it, or name another")
    return [_found(need, root, sources) for need in NEEDS[name]]


def _found(need: Need, root: Path, sources: Sequence[Path]) -> Found:
    """Look for one thing; link it from the first folder that has it."""
    for name in (*need.one_of, *need.inside):
        if (root / name).exists():
            return Found(need, "there", root / name)
    for source in sources:
        for name in need.one_of:
            if (source / name).exists():
                (root / name).symlink_to((source / name).resolve())
                return Found(need, "linked", root / name)
    return Found(need, "missing", root / need.one_of[0])


def check(name: str, root: Path) -> tuple[Dataset, list[Path]]:
    """Load a benchmark whose needs are there, and look for some of its images.

    Returns:
        The dataset, and those of the sampled images that are missing.

    Raises:
        InputError: when it cannot be loaded.
    """
    dataset = load(name, root, follow_links=True)
    missing = []
    for split in dataset.splits.values():
        if isinstance(split.images, ImageFiles):
            paths = split.images.paths
            step = max(1, len(paths) // SAMPLED)
            missing += [path for path in paths[::step] if not path.exists()]
    return dataset, missing
