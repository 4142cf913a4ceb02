"""Tables as people have them: a row a sample, labels and numbers in columns."""

import made
import pytest
from test_import_forms import SIZES, drawn, imported, same


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("label", ["{}", "{}.0", " {} ", '"{}"'])
def test_a_table(tmp_path, separator, label):
    given = drawn()
    rows = [separator.join(["id", "split", "f0", "f1", "f2", "f3", "f4", "f5", "label"])]
    for split in SIZES:
        for row, (x, y) in enumerate(
            zip(given[f"{split}_features"], given[f"{split}_labels"], strict=True)
        ):
            word = "Validation" if split == "val" else split
            cells = [f"{split}{row}", word, *(repr(float(v)) for v in x), label.format(y)]
            rows.append(separator.join(cells))
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    found, _ = imported(tmp_path, tmp_path / "a.csv")
    same(found)
    assert found.split("val").ids[2] == "val2"
    assert found.classes.names is None


def test_a_table_with_names_of_classes(tmp_path):
    text = "kind,note,a,b\nc10,x,1,2\nc2,x,3,4\nc2,x,5,6\n"
    (tmp_path / "a.csv").write_text(text)
    splits = {"train": [tmp_path / "a.csv"], "test": [tmp_path / "a.csv"]}
    found, notes = imported(tmp_path, splits=splits, label="kind", ignore=("note",))
    assert found.classes.names == ("c2", "c10")  # as people count, not as text
    assert found.split("test").labels.tolist() == [1, 0, 0]
    assert found.classes.train_count.tolist() == [2, 1]
    assert "labels are names: 2 classes in the order c2, c10" in notes
    found, _ = imported(
        tmp_path, splits=splits, label="kind", ignore=("note",), names=("c10", "x", "c2")
    )
    assert found.split("test").labels.tolist() == [0, 2, 2]
    assert found.classes.train_count.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("\n1,2\n", ["line 1: is empty"]),
        ("a,b\n1,2\n", ["found the columns a, b, expected one of labels", "--label"]),
        ("y,label,a\n1,2,3\n", ["found the columns y, label, expected one of labels"]),
        ("a,a,y\n1,2,3\n", ["found the column a twice"]),
        ("y\n1\n", ["found no column of features"]),
        ("a,y\n1,2,3\n", ["line 2: found 3 columns, expected 2"]),
        ("a,y\n1,0\nx,0\n", ["line 3: a: found 'x', expected a number", "--ignore"]),
        ("a;y\n1,5;0\n", ["line 2: a: found '1,5', expected a number"]),
        ("a,y\n,0\n", ["line 2: a: found '', expected a number"]),
        ("a,y,split\n1,0,mine\n", ["line 2: split: found 'mine'"]),
        ('a,y\n"1,0\n', ["line 2: found 1 columns"]),
    ],
)
def test_what_is_no_table(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    splits = {} if "split" in text else {"train": [tmp_path / "a.csv"]}
    path = tmp_path / "a.csv" if "split" in text else None
    made.refused(lambda: imported(tmp_path, path, splits=splits), "a.csv", *words)
    assert made.beside(tmp_path / "f.h5") == ["a.csv"]


def test_an_unknown_column_to_ignore(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,0\n")
    made.refused(
        lambda: imported(tmp_path, splits={"train": [tmp_path / "a.csv"]}, ignore=("b",)),
        "no column b to ignore",
    )
