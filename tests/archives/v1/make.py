"""Write the files of this folder: format v1, as ltkit 0.1.0 wrote it with HDF5 2.0.0.

They are read by every later version (tests/files/test_archives.py). They are never written anew; a
new format version gets a folder of its own.

    python tests/archives/v1/make.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np

from ltkit.files import classifiers, neighbors
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable, Correction, Head, Neighbors


def make(folder: Path) -> None:
    """Write features.h5, classifier.h5 and neighbors.h5."""
    counts = {"train": 7, "val": 0, "test": 3}
    plan = Plan(
        4,
        "float16",
        {
            name: SplitPlan(
                np.arange(count) % 3, np.array([f"{name}/{i}.png" for i in range(count)], str)
            )
            for name, count in counts.items()
        },
        ClassTable(
            np.array([3, 2, 2]),
            ("ant", "größe", "猫"),
            ("n01", "n02", "n03"),
            ("animal", "word", "animal"),
        ),
        Head(
            np.arange(12, dtype=np.float32).reshape(2, 3, 2) / 8,
            np.arange(6, dtype=np.float32).reshape(2, 3),
            16.0,
            "cosine",
        ),
        settings={"dtype": "float16"},
        inputs={"arrays": "0" * 64},
    )
    with FeaturesWriter(
        folder / "features.h5", plan, command="ltkit import x", resume=False
    ) as writer:
        for name, count in counts.items():
            writer.append(name, np.arange(4 * count).reshape(count, 4) / 4)
        digest = writer.finish()
    correction = Correction(
        "alphanet",
        np.array([1, 2]),
        np.arange(16, dtype=np.float32).reshape(2, 2, 4),
        np.arange(4, dtype=np.float32).reshape(2, 2) / 2,
        ({"rho": 0.5, "seed": 0}, {"rho": 1.0, "seed": 0}),
        True,
        {"alpha": np.arange(8, dtype=np.float32).reshape(2, 2, 2)},
    )
    classifiers.write(
        folder / "classifier.h5", correction,
        settings={"k": 2}, inputs={"features": digest}, command="ltkit alphanet fit",
    )  # fmt: skip
    near = Neighbors(np.array([1, 2]), np.array([[0, 2], [0, 1]]), np.float32([[1, 2], [0.5, 3]]))
    neighbors.write(
        folder / "neighbors.h5", near,
        settings={"k": 2}, inputs={"features": digest}, command="ltkit neighbors",
    )  # fmt: skip


if __name__ == "__main__":
    make(Path(sys.argv[1]))
