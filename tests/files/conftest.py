"""Small blocks, and a features file in them."""

import made
import pytest

from ltkit import records


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 256 bytes: eight rows of the small files."""
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 256)


@pytest.fixture
def path(tmp_path):
    made.write_features(tmp_path / "f.h5")
    return tmp_path / "f.h5"
