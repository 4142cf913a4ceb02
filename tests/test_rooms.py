"""The size of files and functions: what is longer than this gets a room of its own."""

import ast
from collections import Counter
from pathlib import Path

import numpy as np

SOURCES = sorted((Path(__file__).parents[1] / "ltkit").rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))


def function_lengths():
    """Return the lines of each function, with its file and name."""
    return [
        (node.end_lineno - node.lineno + 1, f"{path.name}: {node.name}")
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_file_has_more_than_450_lines():
    files = SOURCES + TESTS
    assert [path.name for path in files if len(path.read_text().splitlines()) > 450] == []


def test_no_two_files_of_the_tests_have_one_name():
    """What they share is imported by it."""
    names = Counter(path.name for path in TESTS if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_function_has_more_than_80_lines_and_nine_of_ten_have_30():
    lengths = function_lengths()
    assert [name for length, name in lengths if length > 80] == []
    assert np.percentile([length for length, _ in lengths], 90) <= 30
