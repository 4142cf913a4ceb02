"""Files of ltkit that the tests write."""

import h5py
import made
import numpy as np

from ltkit.files import classifiers, features, neighbors
from ltkit.files.features_writer import FeaturesWriter
from ltkit.records import Correction, Neighbors


def everything(path):
    """All values that ltkit reads of a features file, as bytes and plain objects."""
    found = features.read(path)
    splits = {
        name: (
            split.features[:].tobytes(), split.labels.tobytes(),
            None if split.ids is None else split.ids.tolist(),
        )
        for name, split in found.splits.items()
    }  # fmt: skip
    head = found.head
    return (
        splits, found.classes.train_count.tobytes(), found.classes.names, found.classes.wnids,
        head.weight.tobytes(), head.bias.tobytes(), head.scale, head.normalize,
        found.settings, found.digest,
    )  # fmt: skip


def correction(runs=2, changed=2):
    rng = np.random.default_rng(0)
    return Correction(
        "alphanet",
        np.arange(changed) * 2 + 1,
        rng.normal(size=(runs, changed, 8)).astype(np.float32),
        rng.normal(size=(runs, changed)).astype(np.float32),
        tuple({"rho": 0.5 * s, "name": "ä"} for s in range(runs)),
        True,
        {"alpha": rng.normal(size=(runs, changed, 3)), "epoch": np.arange(runs)},
    )


def write_correction(path, given=None):
    classifiers.write(path, given or correction(), settings={"k": 3}, inputs={"features": "ab"},
                      command="c")  # fmt: skip


NEIGHBORS = Neighbors(
    np.array([1, 4]),
    np.array([[0, 2], [3, 0]]),
    np.array([[0.5, 1], [2, 2]], np.float32),
    "cosine",
)


def write_neighbors(path):
    neighbors.write(path, NEIGHBORS, settings={"k": 2}, inputs={}, command="c")


# The writer


def writer_of(path, plan=None, resume=False):
    return FeaturesWriter(path, plan or made.plan(), command="c", resume=resume)


def everything_in(group, prefix=""):
    for name, child in group.items():
        if isinstance(child, h5py.Group):
            yield from everything_in(child, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"
