"""Profiles other than the exponential one; CIFAR-10 and Tiny ImageNet against known answers."""

import hashlib
import io
import zipfile

import numpy as np
import pictures
import pytest
import shared_data
from PIL import Image

from ltkit import datasets
from ltkit.datasets import longtail, tiny_imagenet
from ltkit.errors import FormatError, InputError

# Profiles


@pytest.mark.parametrize(
    ("classes", "most", "factor"), [(10, 5000, 100), (100, 500, 10), (2, 7, 7)]
)
def test_the_step_profile_is_the_one_of_the_released_code(classes, most, factor):
    """LDAM-DRW's: half of the classes with all images, half with ``int(most * (1 / factor))``."""
    half = classes // 2
    expected = [most] * half + [int(most * (1 / factor))] * half
    assert longtail.step_counts(classes, most, factor).tolist() == expected


@pytest.mark.parametrize("profile", longtail.LONG_TAILED)
@pytest.mark.parametrize(
    ("classes", "most", "factor"), [(10, 5000, 100), (365, 4980, 996), (3, 49, 49)]
)
def test_every_profile_falls_from_the_most_to_the_least(profile, classes, most, factor):
    counts = longtail.profile_counts(profile, classes, most, factor)
    assert counts[0] == most
    assert abs(counts[-1] - most / factor) <= 1
    assert (np.diff(counts) <= 0).all()
    assert counts.min() >= 1


def test_the_pareto_profile_by_hand():
    """IF 64 is 2^6: the counts are n_max divided by (1 + c / (C - 1))^6."""
    counts = longtail.pareto_counts(5, 6400, 64)
    expected = [6400 / (1 + c / 4) ** 6 for c in range(5)]
    assert counts.tolist() == [int(value) for value in expected]


@pytest.mark.parametrize("profile", longtail.LONG_TAILED)
@pytest.mark.parametrize("factor", [0.5, 501, float("nan")])
def test_a_factor_out_of_range(profile, factor):
    with pytest.raises(InputError, match=r"ir: found .*, expected .* from 1 to 500"):
        longtail.profile_counts(profile, 10, 500, factor)


def test_profiles_of_a_named_dataset():
    step = datasets.load("digits_lt:profile=step,ir=10,val=none").classes.train_count
    assert step.tolist() == [114] * 5 + [11] * 5
    pareto = datasets.load("digits_lt:profile=pareto,val=none").classes.train_count
    assert pareto.tolist() == longtail.pareto_counts(10, 114, 20).tolist()


# CIFAR-10


@pytest.fixture(scope="module")
def cifar10():
    return datasets.load("cifar10_lt:ir=1,val=none", shared_data.cifar10_root())


def test_cifar10_is_read_to_the_byte(cifar10):
    train = cifar10.split("train")
    numbers = np.array([int(name.removeprefix("train/")) for name in train.ids])
    assert hashlib.sha256(train.images[np.argsort(numbers)]).hexdigest() == (
        "61bea91e73ac2b02dfb856e685981dce64abe13d4e780aa98a1ac1e7c056d03b"
    )
    pixels = train.images.reshape(-1, 3)
    np.testing.assert_allclose(
        pixels.mean(axis=0, dtype=np.float64) / 255, [0.49139968, 0.48215841, 0.44653091], atol=1e-7
    )
    np.testing.assert_array_equal(np.bincount(train.labels), [5000] * 10)


@pytest.mark.parametrize("factor", [10, 50, 100])
def test_cifar10_is_drawn_as_known(factor):
    with np.load(shared_data.shared("cifar10", "index.npz")) as index:
        counts, known = index[f"lt{factor}_counts"], index[f"lt{factor}_index"]
        official, order = index[f"lt{factor}_official_index"], index["official_order_labels"]
        names = [name.decode() for name in index["class_names"]]
    dataset = datasets.load(f"cifar10_lt:ir={factor},val=none", shared_data.cifar10_root())
    assert dataset.classes.train_count.tolist() == counts.tolist()
    assert [
        int(name.removeprefix("train/")) for name in dataset.split("train").ids
    ] == known.tolist()
    assert list(dataset.classes.names) == names
    drawn = longtail.draw(order.astype(np.int64), counts, 0, "none")
    np.testing.assert_array_equal(drawn.train, official)


# Tiny ImageNet


def small():
    return shared_data.shared("tiny_imagenet32", tiny_imagenet.FILE).parent


@pytest.mark.parametrize("factor", [10, 20, 50, 100])
def test_tiny_imagenet_is_the_known_one(factor):
    dataset = datasets.load(f"tiny_imagenet_lt:ir={factor},val=none", small())
    with np.load(small() / tiny_imagenet.FILE) as known:
        index = np.sort(known[f"lt{factor}_index"])
        names = [f"train/{name.decode()}" for name in known["train_file"][index]]
        train = dataset.split("train")
        assert train.ids.tolist() == names
        np.testing.assert_array_equal(train.labels, known["train_y"][index])
        assert dataset.classes.train_count.tolist() == known[f"lt{factor}_counts"].tolist()
        assert list(dataset.classes.wnids) == [name.decode() for name in known["wnids"]]
        at, offset = index[-1], known["train_offset"]
        with Image.open(io.BytesIO(known["train_jpeg"][offset[at] : offset[at + 1]])) as image:
            last = train.images[len(train) - 1 : len(train)]
            np.testing.assert_array_equal(last[0], np.asarray(image))
    assert np.bincount(dataset.split("test").labels).tolist() == [50] * 200


def test_tiny_imagenet_is_as_the_catalogue_says():
    spec = datasets.CATALOGUE["tiny_imagenet_lt"]
    counts = datasets.load("tiny_imagenet_lt:val=none", small()).classes.train_count
    found = (len(counts), counts.sum(), counts.max(), counts.min())
    assert found == (spec.num_classes, spec.train_images, spec.max_count, spec.min_count)
    val = datasets.load("tiny_imagenet_lt", small()).split("val")
    assert np.bincount(val.labels).tolist() == [20] * 200


def test_the_small_file_has_no_more_than_it_has():
    for more in ("ir=5", "profile=step", "profile=balanced"):
        with pytest.raises(InputError, match=r"found \d+ images of class n\d+, expected \d+ for"):
            datasets.load(f"tiny_imagenet_lt:{more}", small())


WNIDS = ["n03", "n01", "n02"]
"""In the data set's own order: the first is the most frequent class."""


@pytest.fixture
def own(tmp_path):
    """The data set's own folder, with three classes and one picture that all images are."""
    folder = tmp_path / tiny_imagenet.FOLDER
    pictures.write(tmp_path, ["one.jpeg"], size=(64, 64))
    for wnid in WNIDS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for number in range(tiny_imagenet.PER_CLASS):
            image = folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            image.hardlink_to(tmp_path / "one.jpeg")
    pictures.write(folder / "val/images", ["val_0.JPEG", "val_1.JPEG"], size=(64, 64))
    (folder / "val/val_annotations.txt").write_text(
        "val_1.JPEG\tn03\t0\t0\nval_0.JPEG\tn01\t1\t2\n"
    )
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    return folder


@pytest.mark.parametrize("inside", [True, False])
def test_the_own_folder_of_tiny_imagenet(own, inside):
    dataset = datasets.load("tiny_imagenet_lt:val=none", own if inside else own.parent)
    assert dataset.classes.names == ("n01", "n02", "n03")
    assert dataset.classes.train_count.tolist() == [50, 5, 500]  # n03 is the first of its list
    assert dataset.split("test").ids.tolist() == ["val/val_1.JPEG", "val/val_0.JPEG"]
    assert dataset.split("test").labels.tolist() == [2, 0]
    assert dataset.split("train").images[:2].shape == (2, 64, 64, 3)
    assert dataset.record["pixels"] == 64
    order = np.random.RandomState(0).permutation(500)[:50]
    listed = sorted(f"n01_{number}.JPEG" for number in range(500))
    names = dataset.split("train").ids[:50]
    assert [name.removeprefix("train/") for name in names] == [listed[i] for i in order]


def broken_class(own):
    (own / "train/n01/images/n01_7.JPEG").unlink()


def broken_annotation(own):
    (own / "val/val_annotations.txt").write_text("val_0.JPEG\tn09\t0\n")


def leading_out(own):
    (own / "val/val_annotations.txt").write_text("../x.JPEG\tn01\t0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(broken_class, "images: found 499 images, expected 500; unpack it again"),
     (broken_annotation, r"val_annotations.txt: line 1: found 'val_0.JPEG\\tn09"),
     (leading_out, r"val_annotations.txt: line 1: found '\.\./x.JPEG")],
)  # fmt: skip
def test_an_own_folder_that_is_not_whole(own, damage, message):
    damage(own)
    with pytest.raises(FormatError, match=message):
        datasets.load("tiny_imagenet_lt", own)


def test_tiny_imagenet_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"found neither tiny-imagenet-200/ .* tiny_imagenet32_lt"):
        datasets.load("tiny_imagenet_lt", tmp_path)


def made(**change):
    """The arrays of a small file with two classes."""
    raw = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 9, 9)).save(raw, "JPEG")
    one = np.frombuffer(raw.getvalue(), np.uint8)
    arrays = {"wnids": np.array([b"n1", b"n2"]), "frequency_rank": np.array([1, 0], np.int16)}
    for part, labels in (("train", [0] * 5 + [1] * 500), ("val", [0, 1])):
        arrays |= {
            f"{part}_jpeg": np.tile(one, len(labels)), f"{part}_y": np.array(labels, np.uint8),
            f"{part}_offset": len(one) * np.arange(len(labels) + 1),
            f"{part}_file": np.array([f"{i}.JPEG".encode() for i in range(len(labels))]),
        }  # fmt: skip
    return arrays | change


def test_a_made_small_file(tmp_path):
    np.savez(tmp_path / tiny_imagenet.FILE, **made())
    dataset = datasets.load("tiny_imagenet_lt:val=none", tmp_path)
    assert dataset.classes.train_count.tolist() == [5, 500]
    assert dataset.split("train").images[3:5].tolist() == np.full((2, 32, 32, 3), 9).tolist()
    assert dataset.split("train").images[:0].shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"frequency_rank": np.array([0, 0], np.int16)},
            "frequency_rank: expected each place once",
        ),
        ({"train_y": np.full(505, 2, np.uint8)}, "train: found 506 offsets, 505 labels, 505 names"),
        ({"train_y": np.zeros(3, np.uint8)}, "train: found 506 offsets, 3 labels"),
        ({"val_offset": np.array([0, 9])}, "val: found 2 offsets"),
        ({"val_offset": np.array([0, 9, 5])}, "val: found 3 offsets"),
        (
            {"val_jpeg": np.zeros((2, 2), np.uint8)},
            r"val_jpeg: cannot be read \(found uint8 \(2, 2",
        ),
        ({"val_y": np.array([0.0, 1.0])}, r"val_y: cannot be read \(found float64"),
        ({"wnids": np.array(["n1", "n2"], object)}, "wnids: cannot be read"),
    ],
)
def test_a_small_file_that_is_not_sound(tmp_path, change, message):
    np.savez(tmp_path / tiny_imagenet.FILE, **made(**change))
    with pytest.raises(FormatError, match=message):
        datasets.load("tiny_imagenet_lt", tmp_path)


def test_a_small_file_with_another_version_of_a_header(tmp_path):
    np.savez(
        tmp_path / "a.npz", **{name: value for name, value in made().items() if name != "val_y"}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        raw = io.BytesIO()
        np.lib.format.write_array(raw, np.array([0, 1], np.uint8), version=(2, 0))
        archive.writestr("val_y.npy", raw.getvalue())
    (tmp_path / "a.npz").rename(tmp_path / tiny_imagenet.FILE)
    with pytest.raises(FormatError, match=r"val_y: cannot be read \(another version of its header"):
        datasets.load("tiny_imagenet_lt", tmp_path)


def test_a_small_file_without_an_array(tmp_path):
    arrays = made()
    del arrays["val_y"]
    np.savez(tmp_path / tiny_imagenet.FILE, **arrays)
    with pytest.raises(FormatError, match=r"its member val_y\.npy is absent"):
        datasets.load("tiny_imagenet_lt", tmp_path)


def test_pictures_that_are_none(tmp_path):
    arrays = made()
    arrays["train_jpeg"] = np.zeros_like(arrays["train_jpeg"])
    large = io.BytesIO()
    Image.new("RGB", (33, 32)).save(large, "JPEG")
    raw = np.frombuffer(large.getvalue(), np.uint8)
    arrays |= {"val_jpeg": np.tile(raw, 2), "val_offset": len(raw) * np.arange(3)}
    np.savez(tmp_path / tiny_imagenet.FILE, **arrays)
    dataset = datasets.load("tiny_imagenet_lt:val=none", tmp_path)
    with pytest.raises(FormatError, match="image 0: not a JPEG of 32 x 32 pixels"):
        dataset.split("train").images[:1]
    with pytest.raises(FormatError, match=r"image 1: .*found 33 x 32 pixels"):
        dataset.split("test").images[1:2]
