"""Small archives, lists and pictures that the tests of datasets write."""

import pickle

import numpy as np
from PIL import Image

from ltkit import datasets
from ltkit.datasets import cifar


def ids(dataset, split):
    return set(dataset.split(split).ids.tolist())


# The catalogue


def published(dataset):
    counts = dataset.classes.train_count
    return len(counts), counts.sum(), counts.max(), counts.min()


def entry(name):
    spec = datasets.CATALOGUE[name]
    return spec.num_classes, spec.train_images, spec.max_count, spec.min_count


# The two forms of the CIFAR archives, tiny


def batch(num_classes, per_class, seed=0):
    """Labels in mixed order, superclasses, and (N, 3072) pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return labels, labels // 5, pixels


def write_binary(folder, name, labels, coarse, pixels, num_classes):
    columns = [coarse[:, None], labels[:, None]] if num_classes == 100 else [labels[:, None]]
    records = np.concatenate([*columns, pixels], axis=1).astype(np.uint8)
    records.tofile(folder / name)


def write_python(folder, name, labels, coarse, pixels, num_classes):
    content = {b"data": pixels, b"batch_label": b"one"}
    if num_classes == 100:
        content |= {b"fine_labels": labels.tolist(), b"coarse_labels": coarse.tolist()}
    else:
        content[b"labels"] = labels.tolist()
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_archive(root, num_classes, form, per_class=10):
    """Write a tiny official archive; return its folder, and (labels, coarse, pixels) of a part."""
    layout = cifar.LAYOUTS[num_classes]
    binary = form == "binary"
    folder = root / (layout.binary if binary else layout.python)
    folder.mkdir(parents=True)
    files = layout.binary_files if binary else layout.python_files
    write = write_binary if binary else write_python
    parts = {}
    for part, names in files.items():
        parts[part] = batch(num_classes, per_class * len(names), seed=len(names))
        pieces = zip(*(np.array_split(column, len(names)) for column in parts[part]), strict=True)
        for name, piece in zip(names, pieces, strict=True):
            write(folder, name, *piece, num_classes)
    return folder, parts


# List files


def write_images(root, names, size=(8, 8)):
    """Write a picture of one colour for each name; the colour's red says its position."""
    for position, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (position, 50, 200)).save(path)


def write_list(path, pairs):
    path.write_text("".join(f"{name} {label}\n" for name, label in pairs))
    return path
