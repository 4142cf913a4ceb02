"""Lists and tables of images as people write them: labels, columns, separators, whole paths."""

import gzip

import numpy as np
import pictures
import pytest
import shared_data
from PIL import Image

from ltkit import datasets
from ltkit.datasets import lists
from ltkit.errors import InputError
from ltkit.files import features as ltkit_features

# Numbers


@pytest.mark.parametrize(
    "written",
    [
        "{}", "{}.0", "{}.", "  {}", "{} ", "{}.000", "+{}", "{}e0", "0{}", " {}.0\t", "\u00a0{}",
        '"{}"', '" {}.0 "',
    ],
)  # fmt: skip
def test_numbers_are_numbers_however_they_are_written(tmp_path, written):
    """Twelve classes: as text, 10 would come before 2."""
    rows = [f"{c}.png,{written.format(c)}\n" for c in range(12)]
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
    dataset = pictures.load(tmp_path / "table.csv")
    assert pictures.labels(dataset) == {"train": list(range(12))}
    assert dataset.classes.names is None


def test_numbers_as_numpy_writes_them(tmp_path):
    np.savetxt(tmp_path / "labels.txt", np.arange(12))  # 1.000000000000000000e+01
    written = (tmp_path / "labels.txt").read_text().split()
    rows = "".join(f"{c}.png,{label}\n" for c, label in enumerate(written))
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}")
    assert pictures.labels(pictures.load(tmp_path / "table.csv")) == {"train": list(range(12))}


def test_numbers_of_real_pictures(tmp_path):
    """Labels as a data frame of floats is written, with a semicolon and blanks around."""
    strips = sorted(shared_data.shared("cifar100", "test").glob("*.webp"))[:12]
    rows, first = [], []
    for number, strip in enumerate(strips):
        with Image.open(strip) as opened:
            picture = opened.convert("RGB").crop((0, 0, 32, 32))
        picture.save(tmp_path / f"{number}.png")
        first.append(np.asarray(picture))
        rows.append(f" {tmp_path / f'{number}.png'} ; {number},0\n")
    (tmp_path / "table.csv").write_text("\ufeffpath;label\n" + "".join(reversed(rows)))
    train = datasets.load(f"{tmp_path / 'table.csv'}:resize=32,crop=32").split("train")
    assert train.labels.tolist() == list(range(11, -1, -1))
    np.testing.assert_array_equal(train.images[:], first[::-1])


def test_a_published_network_is_as_good_on_a_table_as_on_folders(tmp_path, ltkit):
    """Of CIFAR-10's test images 20 a class, in folders 0 to 9 and in a table of floats."""
    for strip in sorted(shared_data.shared("cifar10", "test").glob("*_00.webp")):
        label = int(strip.name[:2])
        (tmp_path / "pics" / str(label)).mkdir(parents=True)
        with Image.open(strip) as opened:
            pictures = opened.convert("RGB")
        for i in range(20):
            picture = pictures.crop((0, 32 * i, 32, 32 * i + 32))
            picture.save(tmp_path / "pics" / str(label) / f"{i}.png")
    rows = [f"{c}/{i}.png; {c}.0 ;TRAIN\n" for i in range(20) for c in reversed(range(10))]
    (tmp_path / "table.csv").write_text("Path;Label;Split\n" + "".join(rows))
    accuracy = []
    for name in ("pics", "table.csv"):
        code, _, err = ltkit(
            "extract", shared_data.shared("checkpoints", "cifar10_resnet20.th"), "--data",
            f"{tmp_path / name}:resize=32,crop=32", "--root", tmp_path / "pics", "--device", "cpu",
            "-o", tmp_path / f"{name}.h5",
        )  # fmt: skip
        assert code == 0, err
        features = ltkit_features.read(tmp_path / f"{name}.h5")
        train = features.splits["train"]
        logits = features.classifier().logits(train.features[:])
        accuracy.append(float((logits.argmax(axis=1) == train.labels).mean()))
    assert accuracy[0] == accuracy[1] > 0.85


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["class_10", "class_2", "class_2"], ("class_2", "class_10")),
        ([" ant", "ant ", "bee"], ("ant", "bee")),
        (["n01", "n02", "1e"], ("1e", "n01", "n02")),
    ],
)
def test_names_in_order_and_without_blanks(tmp_path, labels, expected):
    rows = "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels))
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}")
    dataset = pictures.load(tmp_path / "table.csv")
    assert dataset.classes.names == expected
    stripped = [label.strip() for label in labels]
    assert [expected[label] for label in dataset.split("train").labels] == stripped
    assert any("natural order" in note for note in dataset.notes) == ("class_2" in labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,0\nb,nan\n", "line 3: label: found 'nan', expected a whole number"),
        ("path,label\na,ant\nb,NaN\n", "line 3: label: found 'NaN', expected a class name"),
        ("path,label\na,0\nb,1e400\n", "line 3: label: found '1e400'"),
        ("path,label\na,0\nb,1e-1\n", "line 3: label: found '1e-1'"),
        ("path,label\na,0\nb,0x1\n", "line 3: label: found '0x1'"),
        ("path,label\na,0\nb,-0.5\n", "line 3: label: found '-0.5'"),
        ("path;label\na;0\nb;1;2\n", "line 3: found 3 columns, expected 2"),
        ("path;label\na;0\nb;1,5\n", "line 3: label: found '1.5'"),
        ("path|label\na|0\n", "found the columns path|label, expected path, label"),
        ("path,Path,label\na,b,0\n", "found path as 2 columns"),
        ("path,label,split\na,0,train\nb,0,holdout\n", "line 3: split 'holdout'; there are"),
        ('"path,label\na,0\n', "found the columns"),
        ("x" * 200_000 + ",path,label\na,b,0\n", "found the columns .*, expected path, label"),
    ],
)
def test_tables_that_would_be_read_wrong(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=f"table.csv: {message}".replace("|", r"\|")) as refused:
        pictures.load(tmp_path / "table.csv")
    assert len(str(refused.value).replace(str(tmp_path), "DIR")) <= 300


# Columns and separators


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path,label,split\na b.png,0,\nb.png,0,dev\n"),
        ("a.CSV", "Label;Path;SPLIT\n0;a b.png;training\n0;b.png;Valid\n"),
        ("a.tsv", "path\tlabel\tsplit\na b.png\t0\ttrain\nb.png\t0\tvalidation\n"),
        ("a.csv", "\ufeffpath\tlabel\tsplit\ra b.png\t0\tTRAIN\rb.png\t0\tval\r"),
        ("a.csv", ',path,label,split\n0,"a b.png",0,train\n1,b.png,0,VAL\n'),
        ("a.csv", 'path;label;split\n"a b.png";0,0;Train\nb.png;0,0;Val\n'),
    ],
)
def test_tables_of_many_programs_say_the_same(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    dataset = pictures.load(tmp_path / name)
    assert pictures.ids(dataset) == {"train": ["a b.png"], "val": ["b.png"]}
    assert pictures.labels(dataset) == {"train": [0], "val": [0]}


def test_a_packed_table(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"path,label\na,0\nb,1\n"))
    assert pictures.labels(pictures.load(tmp_path / "a.csv.gz")) == {"train": [0, 1]}


COLUMNS = {"path": "FILE", "label": "Class Id", "split": "Part"}


def test_columns_of_other_names(tmp_path, ltkit):
    text = "Part,Class Id,label,FILE\ntesting,1,x,c.png\n,0,y,a.png\n,1,z,b.png\n"
    (tmp_path / "a.csv").write_text(text)
    dataset = pictures.load(tmp_path / "a.csv", columns=COLUMNS)
    assert pictures.ids(dataset) == {"train": ["a.png", "b.png"], "test": ["c.png"]}
    assert dataset.record["columns"] == COLUMNS
    shown = ltkit("data", "info", tmp_path / "a.csv", "--columns",
                  "path=file, label=class id,split=part".replace(", ", ","))  # fmt: skip
    assert shown[0] == 0, shown
    assert "train 2, test 1" in shown[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": "Datei"}, "found the columns .*, expected Datei, label"),
        ({"split": "Teil"}, "found no column Teil; did you mean Tail"),
        ({"file": "FILE"}, "columns: found 'file'; there are: label, path, split"),
        ({"path": " "}, "columns: found no name for path"),
    ],
)
def test_columns_that_are_not_there(tmp_path, columns, message):
    (tmp_path / "a.csv").write_text("Tail,Part,label,path\n0,train,0,a\n")
    with pytest.raises(InputError, match=message):
        pictures.load(tmp_path / "a.csv", columns=columns)


@pytest.mark.parametrize("form", ["digits_lt", "a.txt", "folder"])
def test_columns_of_what_has_none(tmp_path, form):
    (tmp_path / "a.txt").write_text("a.png 0\n")
    pictures.write(tmp_path / "folder", ["a/0.png"])
    spec = form if form == "digits_lt" else tmp_path / form
    with pytest.raises(InputError, match=r"columns: found .*, expected a CSV; only a CSV has"):
        datasets.load(str(spec), columns={"path": "x"})


# Whole paths


@pytest.mark.parametrize("form", ["a.csv", "a.txt"])
def test_whole_paths_under_the_root(tmp_path, form):
    root = tmp_path / "pics"
    pictures.write(root, ["ant/0.png", "bee/1.png"])
    (tmp_path / "link").symlink_to("pics")
    pairs = [(root / "ant/0.png", 0), ("bee/1.png", 1)]
    rows = [f"{p},{y}\n" if form == "a.csv" else f"{p} {y}\n" for p, y in pairs]
    head = "path,label\n" if form == "a.csv" else ""
    (tmp_path / form).write_text(head + "".join(rows))
    for place in (root, tmp_path / "link"):
        dataset = pictures.load(tmp_path / form, place)
        assert dataset.split("train").ids.tolist() == ["ant/0.png", "bee/1.png"]
        assert dataset.split("train").images[:][:, 0, 0, 0].tolist() == [0, 1]
    digest = dataset.record["index_digest"]
    (tmp_path / form).write_text(head + "".join(rows).replace(f"{root}/", ""))
    assert pictures.load(tmp_path / form, root).record["index_digest"] == digest


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{root}/../other/0.png", "{root}", "{root}x/0.png", "//etc/passwd"]
)
def test_whole_paths_elsewhere_are_refused(tmp_path, path):
    root = tmp_path / "pics"
    pictures.write(root, ["ant/0.png"])
    for form, text in (("a.csv", "path,label\n{},0\n"), ("a.txt", "{} 0\n")):
        (tmp_path / form).write_text(text.format(path.format(root=root)))
        with pytest.raises(InputError, match=r"path .*, expected one relative .* under --root"):
            pictures.load(tmp_path / form, root)


# What lies beside a training list


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("strain_train.txt", "strain_val.txt", "strain_test.txt"),
        ("train_strain.txt", "valid_strain.txt", "test_strain.txt"),
        ("Train.txt", "Validation.txt", "Testing.txt"),
        ("TRAIN_list.txt", "DEV_list.txt", "TEST_list.txt"),
        ("my_training.txt", "my_validation.txt", "my_testing.txt"),
        ("trainlist.txt", "vallist.txt", "testlist.txt"),
        ("a_train.txt.gz", "a_val.txt", "a_test.txt.gz"),
        ("train_train.txt", "train_val.txt", "train_test.txt"),
        ("train.csv", "valid.csv", "test.csv"),
    ],
)
def test_lists_beside_a_training_list(tmp_path, train, val, test):
    for number, name in enumerate((train, val, test)):
        text = f"{number}.png,0\n" if name.endswith("csv") else f"{number}.png 0\n"
        text = ("path,label\n" if name.endswith("csv") else "") + text
        raw = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
        (tmp_path / name).write_bytes(raw)
    dataset = pictures.load(tmp_path / train)
    assert pictures.ids(dataset) == {"train": ["0.png"], "val": ["1.png"], "test": ["2.png"]}
    assert dataset.record["val"] == "list"


def test_two_lists_of_one_split_are_refused_by_name(tmp_path):
    for name in ("a_train.txt", "a_val.txt", "a_dev.txt"):
        (tmp_path / name).write_text("0.png 0\n")
    with pytest.raises(InputError, match=r"found a_val\.txt and a_dev\.txt, which both mean val"):
        pictures.load(tmp_path / "a_train.txt")


def test_one_list_under_two_names_is_one(tmp_path):
    for name in ("a_train.txt", "a_val.txt"):
        (tmp_path / name).write_text("0.png 0\n")
    (tmp_path / "a_valid.txt").symlink_to("a_val.txt")
    assert len(pictures.load(tmp_path / "a_train.txt").split("val")) == 1


@pytest.mark.parametrize("name", ["my_test.txt", "Validation.csv", "dev.txt"])
def test_a_list_of_another_split_is_taken_for_training_and_that_is_said(tmp_path, name):
    csv = name.endswith("csv")
    (tmp_path / name).write_text("path,label\n0.png,0\n" if csv else "0.png 0\n")
    dataset = pictures.load(tmp_path / name)
    assert pictures.noted(dataset, "taken as the training list").startswith(name)


def test_a_list_whose_name_says_nothing(tmp_path):
    (tmp_path / "constraint.txt").write_text("0.png 0\n")
    assert lists.beside(tmp_path / "constraint.txt") == {"train": tmp_path / "constraint.txt"}
    assert len(pictures.load(tmp_path / "constraint.txt").notes) == 1


def test_a_table_without_labels_beside_one_is_left_out(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\na,ant\nb,bee\n")
    (tmp_path / "test.csv").write_text("id,path\n0,c\n")
    dataset = pictures.load(tmp_path / "train.csv")
    assert list(dataset.splits) == ["train"]
    assert "test.csv beside it lacks" in pictures.noted(dataset, "left out")


def test_a_table_that_has_its_splits_goes_before_those_beside_it(tmp_path):
    (tmp_path / "train.csv").write_text("path,label,split\na,0,\nb,0,test\n")
    (tmp_path / "test.csv").write_text("path,label\nc,0\n")
    assert pictures.ids(pictures.load(tmp_path / "train.csv")) == {"train": ["a"], "test": ["b"]}


def test_names_in_tables_beside_each_other_are_of_one_order(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\na,bee\nb,ant\n")
    (tmp_path / "test.csv").write_text("path,label\nc,bee\n")
    dataset = pictures.load(tmp_path / "train.csv")
    assert dataset.classes.names == ("ant", "bee")
    assert pictures.labels(dataset) == {"train": [1, 0], "test": [1]}
    (tmp_path / "test.csv").write_text("path,label\nc,cow\n")
    with pytest.raises(InputError, match=r"found no training image of class cow"):
        pictures.load(tmp_path / "train.csv")


@pytest.mark.parametrize("line", ["a b.png 1", "a b.png\t1", "a b.png   1.0", "\ta b.png \t 1e0 "])
def test_blanks_in_a_list(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"0.png 0\n{line}\n")
    assert pictures.ids(pictures.load(tmp_path / "list.txt")) == {"train": ["0.png", "a b.png"]}
