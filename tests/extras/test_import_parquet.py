"""Parquet tables to import, written by their own library."""

import made
import numpy as np
import pytest

from ltkit.errors import FormatError
from ltkit.files import features
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

pytestmark = pytest.mark.extras
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

X = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
Y = np.arange(3000) % 3


def imported(tmp_path, columns, **settings):
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    output = tmp_path / "f.h5"
    output.unlink(missing_ok=True)
    import_arrays(
        None,
        output,
        splits={"train": [tmp_path / "a.parquet"]},
        settings=ImportSettings(**settings),
    )
    return features.read(output)


def of_numbers(**more):
    return {f"f{n}": X[:, n] for n in range(4)} | {"label": Y} | more


@pytest.mark.parametrize("kind", ["columns", "lists", "fixed"])
def test_forms_of_features(tmp_path, kind):
    columns = of_numbers()
    if kind != "columns":
        flat = arrow.array(X.reshape(-1))
        rows = (
            arrow.FixedSizeListArray.from_arrays(flat, 4) if kind == "fixed"
            else arrow.ListArray.from_arrays(np.arange(0, 12001, 4, dtype=np.int32), flat)
        )  # fmt: skip
        columns = {"embedding": rows, "label": Y}
    found = imported(tmp_path, columns)
    np.testing.assert_array_equal(found.split("train").features[:], X)
    np.testing.assert_array_equal(found.split("train").labels, Y)
    assert found.head is None


def test_names_ids_and_other_columns(tmp_path):
    names = np.array(["ant", "bee", "cat"])[Y].tolist()
    columns = of_numbers(label=names, id=np.arange(3000), text=["x"] * 3000)
    found = imported(tmp_path, columns, ignore=("text",))
    assert found.classes.names == ("ant", "bee", "cat")
    assert found.split("train").ids[7] == "7"
    made.refused(lambda: imported(tmp_path, columns), "text: found a column of text", "--ignore")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (of_numbers(f0=arrow.array([None, *X[1:, 0]])), ["f0: row 0: found no value"]),
        ({"e": [[1.0, 2.0], [1.0]], "label": [0, 1]}, ["e: row 1: found a list of another length"]),
        ({"e": [[1.0, None]], "label": [0]}, ["e: found lists without some values"]),
        (
            of_numbers(split=["train"] * 3000),
            ["found the column split", "--train, --val and --test"],
        ),
        (of_numbers(g=[[1.0]] * 3000), ["g: found a column of list"]),
    ],
)
def test_what_is_no_table(tmp_path, columns, words):
    made.refused(lambda: imported(tmp_path, columns), "a.parquet", *words)


def test_lists_of_another_length_in_a_later_batch(tmp_path):
    rows = [[1.0, 2.0]] * 1024 + [[1.0]] * 1024
    made.refused(
        lambda: imported(tmp_path, {"e": rows, "label": [0] * 2048}), "row 1024: found lists of 1"
    )


def test_damage(tmp_path):
    imported(tmp_path, of_numbers())
    (tmp_path / "f.h5").unlink()
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[:2000] + content[-900:])
    made.refused(
        lambda: import_arrays(
            None, tmp_path / "f.h5", splits={"train": [tmp_path / "a.parquet"]}
        ),
        "a.parquet", error=FormatError,
    )  # fmt: skip
    (tmp_path / "a.parquet").write_bytes(content[:2000])
    made.refused(
        lambda: import_arrays(
            None, tmp_path / "f.h5", splits={"train": [tmp_path / "a.parquet"]}
        ),
        "not sound Parquet", error=FormatError,
    )  # fmt: skip
    assert made.beside(tmp_path / "f.h5") == ["a.parquet"]
