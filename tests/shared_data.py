"""Real data for tests, where it lies beside the checkout; else the tests skip and say so."""

import csv
import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
CACHE = ROOT / ".cache" / "datasets"


def shared(*parts: str) -> Path:
    """Return a path of the shared data, or skip the test."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"shared/data/{'/'.join(parts)} is not there")
    return path


def read_strips(folder: Path, height: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Read class strips: (N, 32, 32, 3) uint8 images and their (N,) labels, class-major."""
    images, labels = [], []
    for path in sorted(folder.glob("*.webp")):
        with Image.open(path) as strip:
            pixels = np.asarray(strip.convert("RGB")).reshape(-1, height, 32, 3)
        images.append(pixels)
        labels.append(np.full(len(pixels), int(path.name[:2]), dtype=np.uint8))
    return np.concatenate(images), np.concatenate(labels)


@functools.cache
def cifar100_root() -> Path:
    """Return a folder with CIFAR-100 in its official binary layout, made once from the strips."""
    root = CACHE / "cifar100"
    folder = root / "cifar-100-binary"
    if (folder / "done").exists():
        return root
    source = shared("cifar100", "classes.tsv").parent
    with (source / "classes.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    coarse = np.array([int(r["coarse_id"]) for r in rows], dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        images, labels = read_strips(source / part)
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records = np.concatenate([coarse[labels][:, None], labels[:, None], planes], axis=1)
        records.tofile(folder / f"{part}.bin")
    names = {int(r["coarse_id"]): r["coarse_name"] for r in rows}
    (folder / "coarse_label_names.txt").write_text("\n".join(names[i] for i in sorted(names)))
    (folder / "fine_label_names.txt").write_text("\n".join(r["fine_name"] for r in rows))
    (folder / "done").touch()
    return root


@functools.cache
def cifar10_root() -> Path:
    """Return a folder with CIFAR-10 in its official binary layout, made once from the strips.

    Its images are class by class, as in the strips.
    """
    root = CACHE / "cifar10-whole"
    folder = root / "cifar-10-batches-bin"
    if (folder / "done").exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"test": ["test_batch"], "train": [f"data_batch_{i}" for i in range(1, 6)]}
    for part, batches in parts.items():
        images, labels = read_strips(shared("cifar10", part))
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records = np.concatenate([labels[:, None], planes], axis=1)
        for name, batch in zip(batches, np.split(records, len(batches)), strict=True):
            batch.tofile(folder / f"{name}.bin")
    (folder / "done").touch()
    return root
