"""Small pictures for the tests of datasets; a picture's red tells which of the list it is."""

from PIL import Image

from ltkit import datasets

SMALL = "resize=8,crop=8"


def write(root, names, size=(8, 8)):
    """Write a picture of one colour for each name, of the kind that the name says."""
    for position, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (position % 256, 50, 200)).save(path)


def put(path, content=b"x"):
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def load(path, root=None, more="", **given):
    """Load a dataset of small pictures."""
    return datasets.load(f"{path}:{SMALL}{more}", root, **given)


def ids(dataset):
    """Return what each split lists."""
    return {name: split.ids.tolist() for name, split in dataset.splits.items()}


def labels(dataset):
    """Return the labels of each split."""
    return {name: split.labels.tolist() for name, split in dataset.splits.items()}


def noted(dataset, word):
    """Return the only note that has a word."""
    (found,) = [note for note in dataset.notes if word in note]
    return found
