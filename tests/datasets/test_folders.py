"""Folders of images as people have them: order, splits, and what is no part of the data."""

import itertools
import os

import numpy as np
import pictures
import pytest
import shared_data
from PIL import Image

from ltkit import datasets
from ltkit.datasets import images, names
from ltkit.errors import InputError

# The order of classes


def test_numbered_folders_of_real_pictures_are_in_the_order_of_numbers(tmp_path):
    """Class 10's pictures get label 10, not 2."""
    strips = sorted(shared_data.shared("cifar100", "test").glob("*.webp"))[:12]
    first = []
    for number, strip in enumerate(strips):
        with Image.open(strip) as opened:
            picture = opened.convert("RGB").crop((0, 0, 32, 32))
        (tmp_path / str(number)).mkdir()
        picture.save(tmp_path / str(number) / "0.png")
        first.append(np.asarray(picture))
    dataset = datasets.load(f"{tmp_path}:resize=32,crop=32")
    train = dataset.split("train")
    for image, label in zip(train.images[:], train.labels, strict=True):
        np.testing.assert_array_equal(image, first[label])
    assert dataset.classes.names == tuple(map(str, range(12)))
    note = pictures.noted(dataset, "natural order")
    assert "(0, 1, 2, 3, ..., 11)" in note
    assert "0, 1, 10, 11, ..., 9" in note


@pytest.mark.parametrize(
    ("there", "expected", "said"),
    [
        (["10", "9", "0"], ["0", "9", "10"], True),
        (["class_10", "class_2"], ["class_2", "class_10"], True),
        (["class10_b", "class9_a"], ["class9_a", "class10_b"], True),
        (["b 2 x 10", "b 2 x 9", "a"], ["a", "b 2 x 9", "b 2 x 10"], True),
        (["010", "9", "09"], ["09", "9", "010"], True),
        (["007", "06", "1" * 200, "2" * 199], ["06", "007", "2" * 199, "1" * 200], True),
        (["00", "01", "10", "11"], ["00", "01", "10", "11"], False),
        (["n02084071", "n02121620"], ["n02084071", "n02121620"], False),
        (["a!", "a1", "aB", "B"], ["B", "a!", "a1", "aB"], False),
        (["٣", "٢"], ["٢", "٣"], False),
    ],
)
def test_the_order_of_classes(tmp_path, there, expected, said):
    for name in there:
        pictures.write(tmp_path, [f"{name}/0.png"])
    dataset = pictures.load(tmp_path)
    assert list(dataset.classes.names) == expected
    assert any("natural order" in note for note in dataset.notes) == said
    text = pictures.load(tmp_path, more=",order=text")
    assert list(text.classes.names) == sorted(there)
    assert any("order of text" in note for note in text.notes) == said


def test_an_order_that_is_none(tmp_path):
    with pytest.raises(InputError, match="order: found size, expected natural, text"):
        pictures.load(tmp_path, more=",order=size")


# Splits

CASES = [
    ("train", "valid", "test"), ("Train", "Val", "Test"), ("training", "validation", "testing"),
    ("TRAIN", "DEV", "TESTING"), ("Training", "Validation", "TEST"),
]  # fmt: skip


@pytest.mark.parametrize("called", CASES, ids=lambda called: called[1])
def test_splits_have_many_names(tmp_path, called):
    train, val, test = called
    pictures.write(tmp_path, [f"{train}/a/0.png", f"{train}/b/1.png", f"{val}/b/2.png",
                              f"{test}/a/3.png"])  # fmt: skip
    dataset = pictures.load(tmp_path)
    assert pictures.labels(dataset) == {"train": [0, 1], "val": [1], "test": [0]}
    assert dataset.split("val").ids.tolist() == [f"{val}/b/2.png"]
    assert dataset.record["val"] == "list"
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("one", "two"),
    [("val", "valid"), ("validation", "dev"), ("test", "testing"), ("train", "Train")],
)
def test_two_folders_of_one_split_are_refused_by_name(tmp_path, one, two):
    pictures.write(tmp_path, ["training/a/0.png"] if "rain" not in one else [])
    pictures.write(tmp_path, [f"{one}/a/0.png", f"{two}/a/0.png"])
    with pytest.raises(InputError, match=rf"found {two} and {one}|found {one} and {two}"):
        pictures.load(tmp_path)


@pytest.mark.parametrize("name", ["valid", "train", "test", "Dev"])
def test_a_class_may_be_called_as_a_split(tmp_path, name):
    pictures.write(tmp_path, [f"{name}/0.png", "invalid/1.png", "bus/2.png"])
    dataset = pictures.load(tmp_path)
    assert set(dataset.classes.names) == {name, "invalid", "bus"}
    assert len(dataset.split("train")) == 3
    assert pictures.noted(dataset, "as a class").startswith(f"{name}/ holds no folders")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (
            ["train/0.png", "val/1.png", "test/2.png"],
            "train: found no sub-folder, expected one per class",
        ),
        (["train/0.png"], "train: found no sub-folder"),
        (["train/a/0.png", "test/1.png"], "test: found no image"),
        (["valid/a/0.png", "test/a/1.png"], "found valid, test/, expected train/ too; if they are"),
        (["set/train/a/0.png", "set/test/a/1.png"], "found the splits within set/; name that"),
        (["a/train/0.png", "a/test/1.png", "b/train/2.png"], "a: found folders of test and train"),
        (["train/a/train/0.png", "train/a/valid/1.png"], "a: found folders of train and val"),
        (["train/a/0.png", "VAL/c/0.png"], "VAL: class c is not in the train split"),
        ([".git/0.png", "__MACOSX/1.png"], "found no sub-folder"),
    ],
)
def test_folders_that_would_be_read_wrong(tmp_path, there, message):
    pictures.write(tmp_path, there)
    with pytest.raises(InputError, match=message) as refused:
        pictures.load(tmp_path)
    assert len(str(refused.value).replace(str(tmp_path), "DIR")) <= 300


def test_folders_beside_the_splits_are_said(tmp_path):
    pictures.write(tmp_path, ["train/a/0.png", "unlabelled/1.png", "extra/a/2.png"])
    dataset = pictures.load(tmp_path)
    assert pictures.ids(dataset) == {"train": ["train/a/0.png"]}
    assert pictures.noted(dataset, "beside the splits").endswith("the splits: extra, unlabelled")


# What is no part of the data


def test_what_systems_leave_behind_is_skipped_and_counted(tmp_path):
    pictures.write(tmp_path, [
        "ant/0.png", "bee/1.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/ant/0.png",
        "ant/.ipynb_checkpoints/0.png", "ant/.hidden.png", "bee/@eaDir/1.png",
    ])  # fmt: skip
    for name in ("ant/._0.png", "ant/.DS_Store", "bee/Thumbs.db", "desktop.ini"):
        pictures.put(tmp_path / name)
    dataset = pictures.load(tmp_path)
    assert dataset.classes.names == ("ant", "bee")
    assert pictures.ids(dataset) == {"train": ["ant/0.png", "bee/1.png"]}
    assert pictures.noted(dataset, "ignored") == "ignored 9 hidden files"


def test_a_hidden_link_that_leads_out_is_not_read(tmp_path):
    pictures.write(tmp_path / "pics", ["ant/0.png"])
    (tmp_path / "pics" / ".cache").symlink_to("/")
    (tmp_path / "pics" / "ant" / "._link.png").symlink_to("/etc/hostname")
    dataset = pictures.load(tmp_path / "pics")
    assert pictures.ids(dataset) == {"train": ["ant/0.png"]}
    assert pictures.noted(dataset, "ignored") == "ignored 2 hidden files"


def test_the_folder_itself_may_be_hidden(tmp_path):
    pictures.write(tmp_path / ".cache", ["ant/0.png"])
    assert len(pictures.load(tmp_path / ".cache").split("train")) == 1


def test_what_is_no_image_is_counted_by_kind(tmp_path):
    pictures.write(tmp_path, ["ant/0.png", "ant/.1.png", "ant/x.png/2.png", "stray.png"])
    for name in ("ant/a.txt", "README.TXT", "ant/x.png/b.json", ".DS_Store"):
        pictures.put(tmp_path / name)
    (tmp_path / "ant" / "more").symlink_to("x.png")
    dataset = pictures.load(tmp_path)
    assert pictures.ids(dataset) == {"train": ["ant/0.png", "ant/x.png/2.png"]}
    assert pictures.noted(dataset, "ignored") == (
        "ignored 3 files that are no images (.txt 2, .json 1), 1 image outside of the classes' "
        "folders, 1 folder called as an image is, 1 link to other folders and 2 hidden ones"
    )


def test_many_kinds_stay_one_short_line(tmp_path):
    pictures.write(tmp_path, ["ant/0.png"])
    for number, end in enumerate("abcdefgh"):
        for copy in range(number + 1):
            pictures.put(tmp_path / "ant" / f"{copy}.{end}{'x' * 100}")
    pictures.put(tmp_path / "ant" / "noend")
    note = pictures.noted(pictures.load(tmp_path), "ignored")
    assert note.startswith("ignored 37 files that are no images (.hxxxxxxxxxx 8, ")
    assert note.endswith("and 5 kinds more)")
    assert len(note) < 200


def test_every_kind_of_image_that_is_decoded_is_read(tmp_path):
    Image.init()
    known = {e for e, kind in Image.registered_extensions().items() if kind in images.FORMATS}
    assert known - {".pfm"} == names.SUFFIXES
    written = sorted(f"ant/{case(end)[1:]}{case(end)}" for end in names.SUFFIXES
                     for case in (str.lower, str.upper))  # fmt: skip
    pictures.write(tmp_path, written)
    found = pictures.load(tmp_path).split("train")
    assert found.ids.tolist() == written
    assert found.images[:].shape == (len(written), 8, 8, 3)


def test_a_deep_folder_is_read(tmp_path):
    deep = tmp_path / "ant"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(1200):  # deeper than functions may call each other
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    pictures.write(tmp_path, ["ant/0.png"])
    assert pictures.ids(pictures.load(tmp_path)) == {"train": ["ant/0.png"]}
    while (deep / "d" / "d").exists():  # what tidies up calls itself, too
        (deep / "d" / "d").rename(deep / "e")
        (deep / "d").rmdir()
        (deep / "e").rename(deep / "d")


def test_images_are_listed_in_the_order_of_their_names(tmp_path):
    there = ["ant/b.png", "ant/b/2.png", "ant/a/3.png", "ant/a.png", "ant/a b.png"]
    pictures.write(tmp_path, there)
    expected = [
        p.relative_to(tmp_path).as_posix() for p in sorted((tmp_path / "ant").rglob("*.png"))
    ]
    assert pictures.load(tmp_path).split("train").ids.tolist() == expected


# Without a validation part


def test_without_val_there_is_none_and_the_counts_are_the_original_ones(tmp_path):
    pictures.write(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(10)])
    dataset = pictures.load(tmp_path)
    assert list(dataset.splits) == ["train"]
    assert dataset.classes.train_count.tolist() == [10, 10]
    assert dataset.record["val"] == "none"
    assert "all 20 training images count" in pictures.noted(dataset, "val=none")


@pytest.mark.parametrize(
    ("more", "given", "rule", "left"),
    [
        ("", {}, "none", 10), (",val=holdout", {}, "holdout", 8),
        ("", {"val": "holdout"}, "holdout", 8),
        (",val=none", {"val": "holdout"}, "none", 10),
        ("", {"like": {"val": "holdout", "seed": 3}}, "holdout", 8),
        (",val=none", {"like": {"val": "holdout", "seed": 3}}, "none", 10),
        ("", {"val": "holdout", "like": {"val": "none", "seed": 3}}, "none", 10),
        ("", {"like": {"val": "balanced", "seed": 3}}, "none", 10),
        ("", {"like": {"val": "list", "seed": 0}}, "none", 10),
        ("", {"like": {"val": ["holdout"], "seed": 0}}, "none", 10),
    ],
)  # fmt: skip
def test_who_says_what_is_held_out(tmp_path, more, given, rule, left):
    pictures.write(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(10)])
    dataset = pictures.load(tmp_path, more=more, **given)
    assert dataset.record["val"] == rule
    assert dataset.classes.train_count.tolist() == [left, left]
    if rule == "holdout":
        assert "4 of the 20 training images are val" in pictures.noted(dataset, "are val")


def test_the_same_images_are_held_out_as_in_training(tmp_path):
    pictures.write(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(20)])
    trained = pictures.load(tmp_path, more=",seed=7", val="holdout")
    again = pictures.load(tmp_path, like=trained.record)
    other = pictures.load(tmp_path, more=",seed=8", like=trained.record)
    assert again.record["index_digest"] == trained.record["index_digest"]
    assert other.record["index_digest"] != trained.record["index_digest"]
    seen = [set(part) for part in pictures.ids(again).values()]
    assert not set.intersection(*seen)
    assert len(list(itertools.chain(*seen))) == 40


def test_a_rule_that_is_none(tmp_path):
    pictures.write(tmp_path, ["a/0.png"])
    for given in ({"val": "balanced"}, {"val": "some"}):
        with pytest.raises(InputError, match=r"val: found .*, expected holdout, none"):
            pictures.load(tmp_path, **given)


def test_commands_say_the_notes(tmp_path, ltkit):
    pictures.write(tmp_path, [f"{c}/{i}.png" for c in (1, 2, 10) for i in range(2)])
    code, out, err = ltkit("data", "info", f"{tmp_path}:{pictures.SMALL}")
    assert code == 0
    assert "train 6" in out
    assert [line[:6] for line in err.splitlines()] == ["note: "] * 2
    assert "natural order (1, 2, 10)" in err
    assert "val=none" in err
