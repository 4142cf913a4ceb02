"""Rule files: what is written comes back, and what was changed since is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from ltkit.errors import FormatError, InputError
from ltkit.files import rules
from ltkit.records import Classifier, ClassTable, FeatureSet, Rule, classifier_digest

HEAD = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
RULE = Rule("sets", {"q": [1.0, None]}, classifier_digest(HEAD), 2, ("ant", "bee"), {"a": 1})


def features(*names: str, count: int = 2) -> FeatureSet:
    return FeatureSet({}, ClassTable(np.arange(1, count + 1), names or None))


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "sets.json"
    rules.write(path, RULE, command="ltkit x")
    found = rules.read(path, "sets")
    assert (found.kind, found.content, found.class_names) == ("sets", RULE.content, ("ant", "bee"))
    assert (found.settings, found.source) == ({"a": 1}, str(path))
    found.check(features("ant", "bee"), HEAD)
    found.check(features(), HEAD)


def changed(path: Path, **fields: object) -> None:
    rules.write(path, RULE, command="ltkit x")
    document = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content": {"q": [1.0, 0.5]}}, "digest: found other content"),
        ({"schema": "ltkit.sets/2"}, "schema: found ltkit.sets/2"),
        ({"schema": "other"}, "schema: found other"),
        ({"num_classes": "2"}, "num_classes: found 2, expected a whole number"),
        ({"num_classes": True}, "num_classes: found True"),
        ({"class_names": 3}, "expected a list or null"),
    ],
)
def test_changed_files_are_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    changed(tmp_path / "sets.json", **fields)
    with pytest.raises(FormatError, match=message):
        rules.read(tmp_path / "sets.json", "sets")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is not JSON"), ("[1]", "no JSON object"), ('{"a": NaN}', "is not JSON")],
)
def test_what_is_no_document_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sets.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        rules.read(tmp_path / "sets.json", "sets")


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    odd = Rule("sets", {}, "", 3, ("ant",))
    rules.write(tmp_path / "sets.json", odd, command="ltkit x")
    with pytest.raises(FormatError, match="class_names: found 1 entries"):
        rules.read(tmp_path / "sets.json", "sets")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    rules.write(tmp_path / "sets.json", RULE, command="ltkit x")
    with pytest.raises(InputError, match="is a file of sets, expected rejector"):
        rules.read(tmp_path / "sets.json", "rejector")


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    odd = Rule("sets", {"q": [float("inf")]}, "", 1)
    with pytest.raises(InputError, match="nothing was written"):
        rules.write(tmp_path / "sets.json", odd, command="ltkit x")
    assert not list(tmp_path.iterdir())


def test_other_classes_and_classifiers_are_refused() -> None:
    with pytest.raises(InputError, match="is for 2 classes"):
        RULE.check(features(count=3), HEAD)
    with pytest.raises(InputError, match="is for 2 classes"):
        RULE.check(features("ant", "cat"), HEAD)
    other = Classifier(HEAD.weight, HEAD.bias + 1)
    with pytest.raises(InputError, match="is for the classifier"):
        RULE.check(features("ant", "bee"), other)
