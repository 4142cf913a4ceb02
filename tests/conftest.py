"""Fixtures that several test files use."""

import sys

import pytest

from ltkit.cli import main


@pytest.fixture
def ltkit(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ltkit", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def one_thread():
    """Let torch use one thread: small networks gain nothing from more, on a busy machine they lose.

    The number of threads decides the order of sums, so it is the same for all tests of a file.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
