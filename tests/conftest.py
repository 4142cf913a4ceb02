"""Fixtures that several test files use."""

import sys

import pytest

from ltkit.cli import main

EVERY = {
    "checkpoints/test_families.py": 3, "checkpoints/test_native_architectures.py": 4,
    "reporting/test_report_browser.py": 4, "test_architectures.py": 4, "test_faults.py": 3,
    "test_fuzz.py": 3, "test_streams.py": 5, "untrusted/test_payloads.py": 5,
}  # fmt: skip
"""Of the parameters of each test in these files, `make test` runs one of so many, `make more` the
others."""


def pytest_collection_modifyitems(items):
    """Mark the parameters that look at what others of the same test look at already."""
    seen = {}
    for item in items:
        every = next((n for name, n in EVERY.items() if item.path.match(f"tests/{name}")), 1)
        test = item.path, getattr(item, "originalname", item.name)
        seen[test] = seen.get(test, -1) + 1
        if seen[test] % every:
            item.add_marker(pytest.mark.more)


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
