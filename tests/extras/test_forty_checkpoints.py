"""Forty checkpoints as people save them: extracted right, or refused with a way that works."""

import itertools
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import forty_checkpoints
from saved_networks import ORIGINS, WAYS

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

FORTY = list(itertools.product(ORIGINS, WAYS))


@pytest.fixture(scope="module")
def workplace():
    with forty_checkpoints.workplace():
        yield


@pytest.mark.parametrize("number", range(40), ids=[" ".join(pair) for pair in FORTY])
def test_each(workplace, number):
    found = forty_checkpoints.row(*FORTY[number], number)
    assert found.outcome in ("extracted", "saved again"), found
    said = [step["refused"] for step in found.steps if "refused" in step]
    assert (found.outcome == "saved again") == any("it holds" in line for line in said)
    ways = ("not recognised", "name the right one with --arch")
    assert bool(found.options) == any(way in line for line in said for way in ways)


def test_the_results_are_of_these_forty():
    document = json.loads(forty_checkpoints.TARGET.read_text(encoding="utf-8"))
    assert [(row["origin"], row["way"]) for row in document["rows"]] == FORTY
    assert {row["outcome"] for row in document["rows"]} == {"extracted", "saved again"}
