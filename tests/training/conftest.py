"""A small dataset, and a network trained on it once."""

import pytest
from trained import fit

from ltkit import datasets


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt:ir=5")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "net.pt"


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A finished run, and what it reported."""
    output = tmp_path_factory.mktemp("run") / "net.pt"
    reports = []
    fit(digits, output, report=reports.append)
    return output, reports


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
