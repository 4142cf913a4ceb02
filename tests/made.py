"""Small inputs that several test files use."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ltkit.errors import LtkitError
from ltkit.files import hdf5
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable, Head

NAMES = ("größe", "猫", "a\nb", " ", "🦎")
ASSUMED = "mean and std: ImageNet's; --mean and --std say others"
"""The note on a checkpoint that says nothing of its pictures."""

ROWS = {"train": 100, "val": 0, "test": 37}


def plan(size=8, dtype="float32", **changes):
    """Everything of a small features file but the features: 5 classes, ids in one split."""
    rng = np.random.default_rng(1)
    splits = {
        name: SplitPlan(np.arange(count) % 5, np.array([f"{name}/ü{i}" for i in range(count)], str))
        for name, count in ROWS.items()
    }
    splits["test"] = replace(splits["test"], ids=None)
    head = Head(
        rng.normal(size=(5, size)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    )
    return replace(
        Plan(
            size, dtype, splits, ClassTable(np.array([20, 7, 0, 3, 1]), NAMES), head,
            settings={"dtype": dtype, "note": "α"}, inputs={"arrays": "0" * 64},
        ),
        **changes,
    )  # fmt: skip


def features(made, seed=0):
    """(N, D) float32 features for each split of a plan."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(len(split.labels), made.feature_size)).astype(np.float32)
        for name, split in made.splits.items()
    }


def with_shares(plan, k=3):
    """A plan with prototypes, and what each of its streams holds."""
    rng = np.random.default_rng(2)
    plan = replace(plan, prototypes=rng.normal(size=(k, plan.feature_size)).astype(np.float32))
    shares = {
        f"{name}/local": rng.dirichlet(np.ones(k), len(split.labels)).astype(np.float32)
        for name, split in plan.splits.items()
    }
    return plan, features(plan) | shares


def append(writer, made, stop=None):
    """Append features row by row from where the writer stands, at most up to a row of train."""
    for name, values in features(made).items():
        for row in range(writer.done(name), len(values) if name != "train" else stop or 100):
            writer.append(name, values[row : row + 1])
        if name == "train" and stop:
            return


def write_features(path, made=None, command="ltkit import x.npz"):
    """Write a small features file; return its features."""
    made = made or plan()
    with FeaturesWriter(path, made, command=command, resume=False) as writer:
        for name, values in features(made).items():
            writer.append(name, values)
        writer.finish()
    return features(made)


def crafted(path, kind, datasets, attributes, **changes):
    """Write a file that is sound in HDF5's terms, whatever its values; None leaves one out."""
    kept = {name: v for name, v in (datasets | changes).items() if v is not None}
    hdf5.write(path, kind, kept, attributes, settings={}, inputs={}, command="crafted")


def refused(call, *words, error=LtkitError):
    """Check that a call is refused in one line that has the words; return it."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def beside(path):
    """The names in a file's folder."""
    return sorted(p.name for p in Path(path).parent.iterdir())
