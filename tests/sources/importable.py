"""Arrays that can be imported."""

import numpy as np

from ltkit.sources.arrays import import_arrays


def arrays(**changes):
    """Well-formed arrays: 4 classes, 6 features; None takes one away."""
    rng = np.random.default_rng(0)
    content = {"weight": rng.normal(size=(4, 6)), "bias": rng.normal(size=4)}
    for split, count in (("train", 40), ("val", 8), ("test", 12)):
        content[f"{split}_features"] = rng.normal(size=(count, 6)).astype(np.float32)
        content[f"{split}_labels"] = np.arange(count) % 4
    return {name: values for name, values in (content | changes).items() if values is not None}


def given(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    return lambda: import_arrays(tmp_path / "a.npz", tmp_path / "f.h5")


def saved(tmp_path, save=np.savez):
    save(tmp_path / "a.npz", **arrays())
    return (tmp_path / "a.npz").read_bytes()
