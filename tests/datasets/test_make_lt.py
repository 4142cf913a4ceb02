"""`ltkit data make-lt` and `ltkit data prepare`."""

import json
import os

import numpy as np
import pictures
import pytest
import shared_data

from ltkit import datasets
from ltkit.datasets import longtail, prepared
from ltkit.errors import InputError, SettingError
from ltkit.settings import LongTailSettings
from ltkit.sources import long_tailed


@pytest.fixture
def balanced(tmp_path):
    """A balanced folder: 4 classes with 40 images each."""
    pictures.write(tmp_path / "pets", [f"{c}/{i}.png" for c in range(4) for i in range(40)])
    return tmp_path / "pets"


def test_the_lists_are_those_of_a_long_tailed_dataset(balanced, tmp_path, ltkit):
    code, out, err = ltkit(
        "data", "make-lt", f"{balanced}:{pictures.SMALL}", "--imbalance", "10", "--val-images", "4",
        "--test-images", "6", "-o", tmp_path / "pets_train.txt",
    )  # fmt: skip
    assert code == 0, err
    assert out.split() == [str(tmp_path / f"pets_{s}.txt") for s in ("train", "val", "test")]
    dataset = pictures.load(tmp_path / "pets_train.txt", balanced)
    expected = longtail.exponential_counts(4, 30, 10)
    assert dataset.classes.train_count.tolist() == expected.tolist() == [30, 13, 6, 3]
    assert dataset.classes.names == ("0", "1", "2", "3")
    assert [np.bincount(dataset.split(s).labels).tolist() for s in ("val", "test")] == [
        [4] * 4, [6] * 4,
    ]  # fmt: skip
    listed = [name for split in pictures.ids(dataset).values() for name in split]
    assert len(listed) == len(set(listed))
    assert all(name.startswith(f"{label}/") for part in dataset.splits.values()
               for name, label in zip(part.ids, part.labels, strict=True))  # fmt: skip
    assert dataset.split("train").images[:].shape == (52, 8, 8, 3)


@pytest.mark.parametrize("profile", ["exponential", "step", "pareto"])
def test_profiles_of_own_images(balanced, tmp_path, profile):
    settings = LongTailSettings(8, profile, 3, 0, 0)
    files = long_tailed.write_lists(pictures.load(balanced), tmp_path / "train.txt", settings)
    assert [file.name for file in files] == ["train.txt"]
    counts = pictures.load(files[0], balanced).classes.train_count
    assert counts.tolist() == longtail.profile_counts(profile, 4, 40, 8).tolist()
    before = files[0].read_bytes()
    long_tailed.write_lists(pictures.load(balanced), files[0], settings, overwrite=True)
    assert files[0].read_bytes() == before
    other = LongTailSettings(8, profile, 4, 0, 0)
    long_tailed.write_lists(pictures.load(balanced), files[0], other, overwrite=True)
    assert files[0].read_bytes() != before


def test_splits_that_are_there_stay_whole(tmp_path):
    root = tmp_path / "pics"
    there = [f"train/{c}/{i}.png" for c in "ab" for i in range(10)]
    pictures.write(root, [*there, "valid/a/0.png", "test/b/1.png", "test/a/2.png"])
    dataset = pictures.load(root)
    files = long_tailed.write_lists(dataset, tmp_path / "my_training.txt", LongTailSettings(5))
    assert [file.name for file in files] == ["my_training.txt", "my_val.txt", "my_test.txt"]
    again = pictures.load(files[0], root)
    assert again.classes.train_count.tolist() == [10, 2]
    assert again.split("val").ids.tolist() == dataset.split("val").ids.tolist()
    assert again.split("test").ids.tolist() == dataset.split("test").ids.tolist()


def test_it_says_that_there_is_no_test(balanced, tmp_path, ltkit):
    code, _, err = ltkit("data", "make-lt", balanced, "--imbalance", "2", "--profile", "exp", "-o",
                         tmp_path / "train.txt")  # fmt: skip
    assert code == 0
    assert "note: there is no test list; --test-images 50" in err


@pytest.mark.parametrize(
    ("change", "output", "message"),
    [
        ({"imbalance": 41}, "train.txt", "imbalance: found 41, expected at most 20, the images"),
        ({"imbalance": 0.5}, "train.txt", "imbalance: found 0.5, expected"),
        ({"test_images": 20}, "train.txt", "class 0: found 40 images, expected more than the 40"),
        ({}, "list.txt", "list.txt: expected the name of a training list"),
        ({}, "train.csv", "train.csv: expected the name of a training list"),
        ({}, "no/train.txt", "no: no such folder"),
    ],
)
def test_subsets_that_cannot_be_made(balanced, tmp_path, change, output, message):
    settings = LongTailSettings(**{"imbalance": 2, **change})
    with pytest.raises((InputError, SettingError), match=message):
        long_tailed.write_lists(pictures.load(balanced), tmp_path / output, settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pets"]


def test_datasets_that_have_no_lists(tmp_path):
    with pytest.raises(InputError, match="its images are no files that a list could name"):
        long_tailed.write_lists(datasets.load("digits_lt"), tmp_path / "train.txt",
                                LongTailSettings(2))  # fmt: skip
    pictures.write(tmp_path / "one", [f"ant/{i}.png" for i in range(30)])
    with pytest.raises(InputError, match="found 1 class, expected 2 or more"):
        long_tailed.write_lists(pictures.load(tmp_path / "one"), tmp_path / "train.txt",
                                LongTailSettings(2))  # fmt: skip
    assert not (tmp_path / "train.txt").exists()


@pytest.mark.parametrize("name", [b"a\nb.png", b" a.png", b"\xff.png", "a\u2028b.png".encode()])
def test_names_that_cannot_stand_in_a_list(tmp_path, name):
    pictures.write(tmp_path / "pics", ["b/0.png"])
    folder = tmp_path / "pics" / " a"
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes((tmp_path / "pics/b/0.png").read_bytes())
    settings = LongTailSettings(1, "exponential", 0, 0, 0)
    with pytest.raises(InputError, match="cannot stand in a list of lines"):
        long_tailed.write_lists(pictures.load(tmp_path / "pics"), tmp_path / "train.txt", settings)
    assert not (tmp_path / "train.txt").exists()


# Benchmarks


def test_every_known_dataset_has_its_needs():
    assert set(prepared.NEEDS) == set(datasets.CATALOGUE)


def test_what_is_missing_is_said_and_where_it_is(tmp_path, ltkit):
    code, out, err = ltkit("data", "prepare", "imagenet_lt", "--root", tmp_path)
    assert code == 2
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["missing"] * 5
    assert "ImageNet_LT_train.txt" in lines[0]
    assert "published at https://image-net.org" in lines[3]
    assert "5 of 5 things that it needs are missing" in err
    assert [*tmp_path.iterdir()] == []


def test_what_lies_elsewhere_is_linked(tmp_path, ltkit):
    root = tmp_path / "places"
    root.mkdir()
    source = shared_data.shared("lists", "Places_LT_train.txt.gz").parent
    images = tmp_path / "images"
    pictures.write(images, ["train/airfield/00004851.jpg", "val/1.jpg"])
    code, out, err = ltkit(
        "data", "prepare", "places_lt", "--root", root, "--from", source, "--from", images, "--json"
    )
    assert [row["state"] for row in json.loads(out)["needs"]] == ["linked"] * 5
    assert (root / "Places_LT_val.txt.gz").is_symlink()
    assert code == 2  # of a thousand images of each list all but one are missing
    assert "of the images that were looked for are missing, the first" in err
    again = ltkit("data", "prepare", "places_lt", "--root", root)[1]
    assert [line.split(":")[0] for line in again.splitlines()] == ["there"] * 5


@pytest.mark.parametrize("name", ["digits_lt", "tiny_imagenet_lt"])
def test_what_is_whole_is_ready(name, ltkit):
    root = shared_data.shared("tiny_imagenet32")
    code, _, err = ltkit("data", "prepare", name, "--root", root)
    assert code == 0, err
    assert f"{name}: ready, train " in err


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [("places", ".", "places: no known dataset; did you mean places_lt"),
     ("places_lt", "none", "none: no such folder")],
)  # fmt: skip
def test_benchmarks_that_cannot_be_prepared(tmp_path, name, root, message):
    with pytest.raises(InputError, match=message):
        prepared.prepare(name, tmp_path / root)
    with pytest.raises(InputError, match="no such folder"):
        prepared.prepare("places_lt", tmp_path, [tmp_path / "none"])
