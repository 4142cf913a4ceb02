"""Fixtures that several test files use."""

import sys

import pytest

from ltkit.cli import main

EVERY = {
    "checkpoints/test_families.py": 6, "checkpoints/test_last_layers.py": 4,
    "checkpoints/test_layouts.py": 3, "checkpoints/test_native_architectures.py": 6,
    "checkpoints/test_programs.py": 3, "reporting/test_report_browser.py": 6,
    "sources/test_import_forms.py": 3, "test_architectures.py": 6,
    "test_bad_inputs_catalogue.py": 2, "test_faults.py": 6, "test_fuzz.py": 6,
    "test_numerals.py": 3, "test_pipeline_properties.py": 3, "test_streams.py": 6,
    "untrusted/test_payloads.py": 6,
}  # fmt: skip
"""Of the parameters of each test in these files, `make test` runs one of so many, `make more` the
others."""


def pytest_collection_modifyitems(items):
    """Mark the parameters that look at what others of the same test look at already.

    Each test of a file begins with another one, so that together they meet as many as they can.
    """
    tests = {}
    for item in items:
        test = item.path, getattr(item, "originalname", item.name)
        tests.setdefault(test, []).append(item)
    order = {}
    for (path, _), own in tests.items():
        every = next((n for name, n in EVERY.items() if path.match(f"tests/{name}")), 1)
        first = order[path] = order.get(path, -1) + 1
        for number, item in enumerate(own):
            if number % every != first % min(every, len(own)):
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
