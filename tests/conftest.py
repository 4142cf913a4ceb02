"""Fixtures that several test files use."""

import functools
import gc
import os
import sys

import pytest
import typer.main

from ltkit.cli import main

EVERY = {
    "checkpoints/test_backbones.py": 4, "checkpoints/test_families.py": 22,
    "checkpoints/test_last_layers.py": 7, "checkpoints/test_layouts.py": 6,
    "checkpoints/test_lightning.py": 7, "checkpoints/test_native_architectures.py": 13,
    "checkpoints/test_programs.py": 5, "checkpoints/test_unsound_programs.py": 3,
    "exports/test_export.py": 3, "files/test_isolated.py": 3,
    "files/test_strange_hdf5.py": 4, "losses/test_losses.py": 5,
    "reporting/test_report_browser.py": 6, "sources/test_import_forms.py": 6,
    "test_architectures.py": 12, "test_bad_inputs_catalogue.py": 6,
    "test_compare_command.py": 4, "test_completion.py": 3, "test_empty_classes.py": 4,
    "test_estimators.py": 7, "test_faults.py": 6, "test_fuzz.py": 12, "test_long_messages.py": 5,
    "test_measures.py": 4, "test_numerals.py": 3, "test_pipeline_properties.py": 5,
    "test_special_architectures.py": 4, "test_streams.py": 12, "test_without_val.py": 5,
    "training/test_contrastive_runs.py": 2,
    "training/test_mixing.py": 4, "training/test_resume.py": 4, "training/test_seeds.py": 4,
    "training/test_stages.py": 4, "training/test_stateful_losses.py": 4,
    "training/test_stateful_runs.py": 4, "training/test_train_features.py": 5,
    "training/test_train_features_command.py": 4, "untrusted/test_payloads.py": 12,
}  # fmt: skip
"""Of the parameters of each test in these files, `make test` runs one of so many, `make more` the
others."""


# The tree of commands is built once, not for each command line: that takes longer than most do.
typer.main.get_command = functools.cache(typer.main.get_command)

# Nobody pulls the plug, so nothing is waited for; processes that tests start wait for their disk.
os.fsync = os.fdatasync = lambda file: None

gc.disable()  # until all tests are collected: nothing of them can be given back


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


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
