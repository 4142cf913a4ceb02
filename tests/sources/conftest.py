"""Fixtures that several test files use."""

import numpy as np
import pytest
from importable import arrays

from ltkit.files import features
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays


@pytest.fixture
def run(tmp_path):
    """Import arrays; return what the features file holds, and the notes."""

    def run(names=None, dtype="float32", save=np.savez, **changes):
        save(tmp_path / "a.npz", **arrays(**changes))
        output = tmp_path / "f.h5"
        digest, notes = import_arrays(
            tmp_path / "a.npz", output, names=names, settings=ImportSettings(dtype=dtype),
            command="c",
        )  # fmt: skip
        found = features.read(output)
        assert found.digest == digest
        return found, notes

    return run
