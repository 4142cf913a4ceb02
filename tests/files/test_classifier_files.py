"""Classifier files: strict JSON, one check on reading and on writing, bad ones beside others."""

import json

import numpy as np
import pytest

from ltkit.errors import FormatError, InputError
from ltkit.files import classifiers, hdf5, strict_json
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit
from ltkit.settings import AlphaNetSettings, as_json


def correction(runs=({"rho": 0.5, "seed": 0}, {"rho": 1.0, "seed": 0}), **changes):
    """Return two runs of two rows."""
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    parts = {"weight": rows, "bias": rows[:, :, 0], "runs": tuple(runs)} | changes
    return Correction(
        parts.get("method", "m"), np.array([1, 4]), parts["weight"], parts["bias"], parts["runs"],
        extra=parts.get("extra", {}),
    )  # fmt: skip


def written(path, *given, settings=None, **changes):
    classifiers.write(
        path, correction(*given, **changes), settings=settings or {}, inputs={"features": "ab"},
        command="x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ('{"a": NaN}', "NaN"),
        ("[Infinity]", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("1e400", "the number 1e400"),
        ("9223372036854775808", "a whole number of 19 digits"),
        ("-9223372036854775809", "a whole number of 20 digits"),
        ("1" + 5000 * "0", "a whole number of 5001 digits"),
        ('{"a": 1, "a": 1}', "a name twice"),
        ('{"b": [{"a": 1, "a": 2}]}', "a name twice"),
        (r'"\ud800"', "half a surrogate"),
        (r'{"\udfff": 1}', "half a surrogate"),
        (50 * "[" + "1" + 50 * "]", "too deep"),
        (100_000 * "[" + 100_000 * "]", "too deep"),
    ],
)
def test_json_is_read_strictly(text, said):
    with pytest.raises(ValueError, match=said):
        strict_json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["9223372036854775807", "-9223372036854775808", "1e308", r'"\ud83d\ude00"', "null", '""',
     49 * "[" + "1" + 49 * "]"],
)  # fmt: skip
def test_json_that_is_read(text):
    assert strict_json.loads(text) == json.loads(text)


def test_json_is_written_as_it_is_read():
    value = {"b": ("\udcff", 1.5, None), "a\udc80": {"x": [True]}}
    assert strict_json.loads(strict_json.dumps(value)) == {
        "b": ["\\udcff", 1.5, None], "a\\udc80": {"x": [True]},
    }  # fmt: skip
    with pytest.raises(ValueError, match="JSON compliant"):
        strict_json.dumps({"a": float("nan")})


NAN = np.full((2, 2, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": NAN}, "weight: found NaN or infinity in run 0"),
        ({"bias": NAN[:, :, 0]}, "bias: found NaN"),
        ({"weight": np.full((2, 2, 3), 1e39)}, "weight: found NaN or infinity"),
        ({"runs": ({"tau": float("nan")},) * 2}, "settings: found"),
        ({"runs": ({"tau": 10**400},) * 2}, "settings: found a whole number"),
        ({"runs": ({"rho": "one"},) * 2}, "runs: rho: found 'one' in row 0"),
        ({"runs": ({"a": 1}, {"b": 1})}, "runs: settings: found 'b' in row 1"),
        ({"method": ""}, "method: found ''"),
        ({"settings": {"val": [float("inf")]}}, "settings: found"),
        ({"extra": {"alpha": NAN}}, "extra/alpha"),
    ],
)
def test_nothing_is_written_that_would_not_be_read(tmp_path, changes, said):
    with pytest.raises(InputError) as caught:
        written(tmp_path / "c.h5", **changes)
    assert f"c.h5: {said}" in str(caught.value)
    assert str(caught.value).endswith("nothing was written; choose less extreme settings")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read(tmp_path):
    run = as_json(AlphaNetSettings()) | {"note": "ü", "none": None, "flag": True, "list": (1, "a")}
    written(tmp_path / "c.h5", runs=(run, run | {"rho": 2.0}), settings={"path": "\udcff"})
    found, inputs = classifiers.read(tmp_path / "c.h5")
    assert found.runs[1]["rho"] == 2.0
    assert found.runs[0]["list"] == [1, "a"]
    assert inputs == {"features": "ab"}
    assert hdf5.read(tmp_path / "c.h5", hdf5.CLASSIFIER).settings == {"path": "\\udcff"}


def features(classes=6, size=3, digest="ab"):
    split = FeatureSplit(np.zeros((1, size), np.float32), np.array([0]))
    return FeatureSet({"test": split}, ClassTable(np.ones(classes, int)), digest=digest)


@pytest.mark.parametrize(
    ("beside", "error", "said"),
    [
        (features(digest="cd"), InputError, "fitted on features ab, found cd"),
        (features(classes=4), FormatError, "class ids up to 4, expected 3 and at most 3"),
        (features(size=5), FormatError, "found 3 features"),
    ],
)
def test_a_file_of_other_features(tmp_path, beside, error, said):
    written(tmp_path / "c.h5")
    assert len(classifiers.read_for(tmp_path / "c.h5", features()).runs) == 2
    with pytest.raises(error, match=said) as caught:
        classifiers.read_for(tmp_path / "c.h5", beside)
    assert "; " in str(caught.value)


@pytest.mark.parametrize("kind", ["i8", "u1", "u8"])
def test_neighbours_beyond_the_classes_do_not_fit(kind):
    near = {"neighbor": np.full((2, 2, 1), 7, kind)}
    assert correction(extra=near).misfit(8, 3) is None
    assert "class ids up to 7" in correction(extra=near).misfit(7, 3)


def test_a_long_name_is_cut_in_the_message():
    (_, found, _) = classifiers.problem(correction(runs=({"rho": 999 * "x"},) * 2))
    assert found == f"'{60 * 'x'}…' in row 0"
