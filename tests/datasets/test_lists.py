"""Datasets of list files, folders and tables."""

import gzip
import shutil

import numpy as np
import pytest
import shared_data
from listed import entry, ids, published, write_images, write_list

from ltkit import datasets
from ltkit.datasets import lists
from ltkit.errors import InputError


def reds(split):
    return split.images[:][:, 0, 0, 0].tolist()


def test_a_list_file_and_those_beside_it(tmp_path):
    names = [f"{i % 3} cats/a b {i}.png" for i in range(12)]
    write_images(tmp_path / "images", names)
    pairs = [(name, i % 3) for i, name in enumerate(names)]
    train = write_list(tmp_path / "{my}_train.txt", reversed(pairs[:9]))
    write_list(tmp_path / "{my}_test.txt", pairs[9:])
    dataset = datasets.load(f"{train}:val=none,resize=8,crop=8", tmp_path / "images")
    assert list(dataset.splits) == ["train", "test"]
    assert reds(dataset.split("train")) == list(range(8, -1, -1))  # the list's order
    assert dataset.split("train").labels.tolist() == [i % 3 for i in range(8, -1, -1)]
    assert dataset.split("train").ids[0] == "2 cats/a b 8.png"
    assert reds(dataset.split("test")) == [9, 10, 11]
    assert dataset.classes.names == ("0 cats", "1 cats", "2 cats")
    assert dataset.record["val"] == "none"


def test_a_validation_list_is_used_and_said(tmp_path):
    for split in ("train", "val"):
        write_list(tmp_path / f"{split}.txt", [(f"{split}{i}.png", i % 2) for i in range(6)])
    dataset = datasets.load(str(tmp_path / "train.txt"))
    assert dataset.record["val"] == "list"
    assert dataset.split("val").ids.tolist() == [f"val{i}.png" for i in range(6)]
    assert dataset.classes.train_count.tolist() == [3, 3]
    assert dataset.classes.names is None


def test_a_part_is_held_out_of_a_list_alone(tmp_path):
    train = write_list(tmp_path / "list.txt", [(f"{i}.png", i % 2) for i in range(20)])
    dataset = datasets.load(f"{train}:val=holdout")
    assert dataset.record["val"] == "holdout"
    assert dataset.classes.train_count.tolist() == [8, 8]
    assert ids(dataset, "train") | ids(dataset, "val") == {f"{i}.png" for i in range(20)}
    again = datasets.load(f"{train}:seed=1", val="holdout")
    assert again.record["index_digest"] != dataset.record["index_digest"]


def test_what_is_held_out_has_not_been_seen_by_what_is_trained_without_it(tmp_path):
    """Of a user's checkpoint that is not known."""
    write_images(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(5)])
    seen = "a model that was trained on them has seen them"
    said = datasets.load(f"{tmp_path}:val=holdout")
    assert any(seen in note for note in said.notes)
    trained = datasets.load(str(tmp_path), val="holdout")
    again = datasets.load(str(tmp_path), like=said.record)
    for found in (trained, again):
        assert found.record["val"] == "holdout"
        (note,) = [note for note in found.notes if note.startswith("val=holdout: 2 of the 10")]
        assert seen not in note


def test_digests_tell_lists_apart(tmp_path):
    digests = set()
    for pairs in (
        [("a", 0), ("b", 1)],
        [("a", 1), ("b", 0)],
        [("b", 0), ("a", 1)],
        [("a", 0), ("c", 1)],
    ):
        train = write_list(tmp_path / "list.txt", pairs)
        digests.add(datasets.load(f"{train}:val=none").record["index_digest"])
        assert datasets.load(f"{train}:val=none").record["index_digest"] in digests
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 0\nb.png x\n", "line 2: found 'b.png x', expected 'path label'"),
        ("a.png 0\n\nb.png -1\n", "line 3: found 'b.png -1'"),
        ("a.png 0.5\n", "line 1: found 'a.png 0.5'"),
        ("a.png\n", "line 1: found 'a.png'"),
        ("a.png 0\n3\n", "line 2: path ''"),
        ("a.png 99999999999999999999\n", "line 1: found"),
        ("a.png ²\n", "line 1: found"),
        ("", "found no line"),
        ("\n \n", "found no line"),
        ("../a.png 0\n", r"line 1: path '\.\./a.png', expected one relative"),
        ("a/../../b.png 0\n", "line 1: path"),
        ("/etc/passwd 0\n", "line 1: path '/etc/passwd'"),
        ("a\0.png 0\n", "line 1: found a NUL"),
        ("a.png 0\nb.png 2\n", "found no training image of class 1, .* 3 classes"),
        ("a.png 1\n", "found no training image of class 0"),
        ("a.png 0\nb.png 999999999999\n", "found no training image of class 1,"),
    ],
)  # fmt: skip
def test_lists_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=f"list.txt: {message}"):
        datasets.load(f"{tmp_path / 'list.txt'}:val=none")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", b"\xff\xfe a 0\n"),
        ("list.txt.gz", b"a.png 0\n"),
        ("list.txt.gz", gzip.compress(b"a.png 0\n" * 99, mtime=0)[:-9]),
        ("list.txt.gz", gzip.compress(b"a.png 0\n" * 99, mtime=0)[:15] + b"xxxxxxxxxxxxxx"),
        ("table.csv", b"path,label\n\xff,0\n"),
    ],
)
def test_lists_that_are_no_text(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: cannot be read as a list of images"):
        datasets.load(str(tmp_path / name))


def test_a_test_label_without_training_images(tmp_path):
    train = write_list(tmp_path / "train.txt", [("a", 0), ("b", 1)])
    write_list(tmp_path / "test.txt", [("c", 2)])
    with pytest.raises(InputError, match=r"train.txt: found no training image of class 2"):
        datasets.load(f"{train}:val=none")


def test_class_names_come_from_folders_where_each_class_has_one():
    def names(*pairs):
        paths, labels = zip(*pairs, strict=True)
        return lists._folder_names([lists.Listing(None, list(paths), np.array(labels))])

    assert names(("t/b/1", 0), ("t/a/2", 1), ("t/b/3", 0)) == ("b", "a")
    assert names(("t/b/1", 0), ("t/a/2", 1), ("t/c/3", 0)) is None
    assert names(("t/1", 0), ("t/2", 1)) is None
    assert names(("1", 0), ("a/2", 1)) is None
    assert names(("t/1", 0)) is None


def test_a_missing_image_is_named(tmp_path):
    write_images(tmp_path, ["0.png", "1.png"])
    train = write_list(tmp_path / "list.txt", [("0.png", 0), ("1.png", 0), ("2.png", 0)])
    dataset = datasets.load(f"{train}:val=none")
    with pytest.raises(InputError, match=r"2\.png: not found, expected image 2; check --root"):
        dataset.split("train").images[:]


# The published lists


@pytest.fixture
def places(tmp_path):
    for split in ("train", "val", "test"):
        source = shared_data.shared("lists", f"Places_LT_{split}.txt.gz")
        (tmp_path / f"Places_LT_{split}.txt.gz").symlink_to(source)
    return tmp_path


def test_places_lt_loads_from_its_lists_alone(places):
    dataset = datasets.load("places_lt", places)
    assert published(dataset) == (365, 62_500, 4_980, 5) == entry("places_lt")
    assert {s: len(v) for s, v in dataset.splits.items()} == {
        "train": 62_500, "val": 7_300, "test": 36_500,
    }  # fmt: skip
    assert dataset.record["val"] == "list"
    table = shared_data.shared("lists", "Places_LT_classes.tsv").read_text().splitlines()[1:]
    columns = list(zip(*(row.split("\t") for row in table), strict=True))
    assert dataset.classes.train_count.tolist() == [int(n) for n in columns[4]]
    assert [name.replace("-", "/") for name in dataset.classes.names] == list(columns[1])


def test_a_training_list_that_is_not_the_published_one(places):
    link = places / "Places_LT_train.txt.gz"
    lines = gzip.decompress(link.read_bytes()).splitlines(keepends=True)
    link.unlink()
    (places / "Places_LT_train.txt").write_bytes(b"".join(lines[:-1]))
    message = (
        "found 62499 training images of 365 classes, 4980 to 5 a class, "
        "expected 62500 training images of 365 classes, 4980 to 5 a class; take the published list"
    )
    with pytest.raises(InputError, match=message):
        datasets.load("places_lt", places)


def test_imagenet_lt_without_its_training_list(tmp_path):
    for split in ("val", "test"):
        source = shared_data.shared("lists", f"ImageNet_LT_{split}.txt.gz")
        (tmp_path / source.name).symlink_to(source)
    with pytest.raises(InputError, match=r"ImageNet_LT_train.txt: not found; .* needs the images"):
        datasets.load("imagenet_lt", tmp_path)


def test_imagenet_lt_knows_its_classes(tmp_path):
    """A training list made up from the published counts."""
    for split in ("val", "test"):
        source = shared_data.shared("lists", f"ImageNet_LT_{split}.txt.gz")
        (tmp_path / source.name).symlink_to(source)
    table = shared_data.shared("lists", "ImageNet_LT_train_counts.tsv").read_text().splitlines()
    header = table[0].split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in table[1:]]
    lines = [
        f"train/{row['wnid']}/{i}.JPEG {row['label']}\n"
        for row in rows
        for i in range(int(row["train_count"]))
    ]
    (tmp_path / "ImageNet_LT_train.txt").write_text("".join(lines))
    dataset = datasets.load("imagenet_lt", tmp_path)
    assert published(dataset) == entry("imagenet_lt")
    assert dataset.classes.wnids == tuple(row["wnid"] for row in rows)
    assert len(dataset.split("val")) == 20 * 1000
    (tmp_path / "ImageNet_LT_train.txt").write_text("".join(lines[:3]))
    expected = "expected 115846 training images of 1000 classes, 1280 to 5 a class; take the pub"
    with pytest.raises(InputError, match=f"found 3 training images of 1 classes, .*{expected}"):
        datasets.load("imagenet_lt", tmp_path)


@pytest.mark.more
def test_inaturalist_is_checked_before_images_are_held_out(tmp_path):
    """A made-up training list of the published size, with the published extremes."""
    shutil.copy(shared_data.shared("lists", "iNaturalist18_val.txt.gz"), tmp_path)
    counts = np.full(8142, 2)
    counts[0] = 1000
    spare = 437_513 - counts.sum()
    counts[1:500] += spare // 499
    counts[500] += spare % 499
    labels = np.repeat(np.arange(8142), counts)
    train = tmp_path / "iNaturalist18_train.txt"
    train.write_text("\n".join(f"{c}/{i}.jpg {c}" for i, c in enumerate(labels)))
    dataset = datasets.load("inaturalist2018", tmp_path, val="holdout")
    assert entry("inaturalist2018") == (8142, 437_513, 1000, 2)
    assert len(dataset.split("train")) + len(dataset.split("val")) == 437_513
    assert len(dataset.split("test")) == 3 * 8142
    assert dataset.classes.train_count.min() == 2
    train.write_text("\n".join(f"{c}/{i}.jpg {c}" for i, c in enumerate(labels[-9:])))
    with pytest.raises(InputError, match=r"found 9 .* expected 437513"):
        datasets.load("inaturalist2018", tmp_path)


# Folders


def test_a_folder_with_a_sub_folder_a_class(tmp_path):
    write_images(
        tmp_path, ["dog/1.png", "cat/2.JPG", "cat/deep/3.png", "cat/notes.png", "ant/4.png"]
    )
    (tmp_path / "cat/notes.png").rename(tmp_path / "cat/notes.txt")
    dataset = datasets.load(f"{tmp_path}:val=none,resize=8,crop=8")
    assert dataset.classes.names == ("ant", "cat", "dog")
    train = dataset.split("train")
    assert train.ids.tolist() == ["ant/4.png", "cat/2.JPG", "cat/deep/3.png", "dog/1.png"]
    assert train.labels.tolist() == [0, 1, 1, 2]
    assert train.images[:].shape == (4, 8, 8, 3)


def test_folders_named_by_wnids_give_them(tmp_path):
    write_images(tmp_path, ["n02084071/1.png", "n02121620/2.png"])
    classes = datasets.load(f"{tmp_path}:val=none,resize=8,crop=8").classes
    assert classes.names == classes.wnids == ("n02084071", "n02121620")
    write_images(tmp_path, ["other/3.png"])
    assert datasets.load(f"{tmp_path}:val=none,resize=8,crop=8").classes.wnids is None


def test_a_folder_with_splits(tmp_path):
    write_images(tmp_path, ["train/a/1.png", "train/b/2.png", "val/b/3.png", "test/a/4.png"])
    dataset = datasets.load(f"{tmp_path}:resize=8,crop=8")
    assert {s: v.labels.tolist() for s, v in dataset.splits.items()} == {
        "train": [0, 1], "val": [1], "test": [0],
    }  # fmt: skip
    assert reds(dataset.split("test")) == [3]
    assert dataset.record["val"] == "list"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "found no sub-folder, expected one per class"),
        (["train/a/1.png", "test/b/2.png"], "test: class b is not in the train split"),
        (["val/a/1.png", "test/a/1.png"], "found val, test/, expected train/ too"),
        (["a/1.png", "b/1.txt"], "found no training image of class b"),
        (["train/a/1.png", "test/a/1.txt"], "test: found no image"),
        (["a/1.png", "a/2.png"], "val=holdout: found no class of 3 or more images"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        datasets.load(str(tmp_path), val="holdout")


# Tables


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_table_with_numbers_and_splits(tmp_path, bom):
    write_images(tmp_path, ["0.png", "1.png", "2.png"])
    text = "label,path,split\n1,0.png,\n0,1.png,train\n1,2.png,test\n"
    (tmp_path / "table.csv").write_text(bom + text, encoding="utf-8")
    dataset = datasets.load(f"{tmp_path / 'table.csv'}:val=none,resize=8,crop=8")
    assert dataset.split("train").labels.tolist() == [1, 0]
    assert reds(dataset.split("train")) == [0, 1]
    assert dataset.split("test").ids.tolist() == ["2.png"]
    assert dataset.classes.names is None


def test_a_table_with_class_names(tmp_path):
    (tmp_path / "table.csv").write_text('path,label\na,dog\nb,"cat, wild"\nc,dog\n')
    dataset = datasets.load(f"{tmp_path / 'table.csv'}:val=none")
    assert dataset.classes.names == ("cat, wild", "dog")
    assert dataset.split("train").labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na,0\nb,1\nc,10\n".replace("10", "2"),
        "path, label\na, 0\nb, 1\nc, 2\n",
        "path,label\ra,0\rb,1\rc,2\r",
        "path,label\r\na,0.0\r\nb,1.0\r\nc,2.0\r\n\r\n,\r\n",
        "label,path,split\n0,a,\n1,b, train \n2,c,train\n\n \n",
    ],
)
def test_tables_that_say_the_same(tmp_path, text):
    (tmp_path / "table.csv").write_bytes(text.encode())
    dataset = datasets.load(f"{tmp_path / 'table.csv'}:val=none")
    assert dataset.split("train").ids.tolist() == ["a", "b", "c"]
    assert dataset.split("train").labels.tolist() == [0, 1, 2]
    assert dataset.classes.names is None


def test_names_that_python_would_split_stay_whole(tmp_path):
    names = ("a\u2028b", "a\x85b", "a\x0bb", "a\x1cb")
    rows = "".join(f"{i},{name}\n" for i, name in enumerate(names))
    (tmp_path / "table.csv").write_bytes(f"path,label\n{rows}".encode())
    dataset = datasets.load(f"{tmp_path / 'table.csv'}:val=none")
    assert sorted(dataset.classes.names) == sorted(names)


def test_a_list_may_end_its_lines_in_any_way(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "list.txt").write_bytes(f"a b.png 0{end}\tc.png 1{end}{end}".encode())
        listing = lists.read_list(tmp_path / "list.txt")
        assert (listing.paths, listing.labels.tolist()) == (["a b.png", "c.png"], [0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found the columns none, expected path, label"),
        ("path,class\na,1\n", "found the columns path, class, expected"),
        ("path,label\n", "found no training row"),
        ("path,label,split\na,0,test\n", "found no training row"),
        ("path,label,split\na,0,trian\n", "line 2: split 'trian'; did you mean train"),
        ("path,label\na,0\nb,x\n", "line 3: label: found 'x', expected a whole number"),
        ("path,label\na,0\nb,-1\n", "line 3: label: found '-1'"),
        ("path,label\na,0\nb\n", "line 3: label: found '', expected a whole number"),
        ("path,label\na,cat\nb,\n", "line 3: label: found '', expected a class name"),
        ("label,path\n0,a\n0\n", "line 3: path ''"),
        ("path,label\n/a,0\n", "line 2: path '/a'"),
        ("path,label\na/../../b,0\n", "line 2: path"),
        ("path,label\na,0\nb,2\n", "found no training image of class 1"),
        ("path,label,split\na,cat,train\nb,dog,test\n", "found no training image of class dog"),
        ("path,label\n" + "x" * 200_000 + ",0\n", "line .: not readable as CSV"),
        ("path,label,label\na,0,1\n", "found label as 2 columns"),
        ("path,label,path\na,0,b\n", "found path as 2 columns"),
        ("path,split,label,split\na,train,0,test\n", "found split as 2 columns"),
        ("path,label\na,b.png,0\nc,1\n", "line 2: found 3 columns, expected 2; put quotes"),
        ("path,label,split\na,0,train\nb,1\n", "line 3: found 2 columns, expected 3; .* comma"),
        ('path,label\n"a,0\nb,1\n', "line 3: not readable as CSV .unexpected end of data"),
        ('path,label\n"a,0\nb",1\nc"d,0\n"e"f,1\n', "line 5: not readable as CSV"),
        ("path,label\na,0\nb,1\0\n", "line 3: found a NUL"),
        ("path,label\na,ant\n\ufeffb,bee\n", "line 3: found a byte order mark"),
        ("path,label\na,0\nb,1.5\n", "line 3: label: found '1.5', expected a whole number"),
        ("path,label\n" + "x" * 5000 + ",0\n", "line 2: found a path of 5000 characters"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=f"table.csv: {message}"):
        datasets.load(f"{tmp_path / 'table.csv'}:val=none")
