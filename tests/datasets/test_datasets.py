"""The catalogue of datasets, and the words that name one."""

import hashlib

import numpy as np
import pytest
import shared_data
from listed import entry, ids, published, write_archive

from ltkit import datasets
from ltkit.errors import InputError


def test_digits_are_as_the_catalogue_says():
    assert published(datasets.load("digits_lt:val=none")) == entry("digits_lt")
    dataset = datasets.load("digits_lt")
    assert np.bincount(dataset.split("val").labels).tolist() == [20] * 10
    assert np.bincount(dataset.split("test").labels).tolist() == [40] * 10
    every = [ids(dataset, split) for split in dataset.splits]
    assert len(set.union(*every)) == sum(map(len, every))
    assert dataset.record["spec"] == "digits_lt:ir=20,seed=0,val=balanced,profile=exponential"
    assert datasets.load(dataset.record["spec"]).record == dataset.record


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits = load_digits()
    dataset = datasets.load("digits_lt:ir=5,seed=4")
    for split in dataset.splits.values():
        for image, label, name in zip(split.images, split.labels, split.ids, strict=True):
            position = int(name.removeprefix("digit/"))
            assert label == digits.target[position]
            np.testing.assert_allclose(image[..., 0] / 255 * 16, digits.images[position], atol=0.04)
    pixels = dataset.split("train").images / 255
    assert abs(pixels.mean() - dataset.mean[0]) < 0.01
    assert abs(pixels.std() - dataset.std[0]) < 0.01
    assert dataset.classes.name(0) == "zero"


@pytest.fixture(scope="module")
def cifar100():
    return datasets.load("cifar100_lt:ir=1,val=none", shared_data.cifar100_root())


def test_cifar100_is_read_to_the_byte(cifar100):
    train = cifar100.split("train")
    numbers = np.array([int(name.removeprefix("train/")) for name in train.ids])
    ordered = train.images[np.argsort(numbers)]  # the cache is class-major
    assert ordered.shape == (50_000, 32, 32, 3)
    assert hashlib.sha256(ordered).hexdigest() == (
        "2aa2e92a742ec0fbd361b0b1386394899dfac5a05c448330d3371fd9b63b3e87"
    )
    assert hashlib.sha256(cifar100.split("test").images).hexdigest() == (
        "2716d826d85ee9ca7f948fb4dc3b3d7515225d1a436d1c4b7e6975855da3d9ee"
    )
    np.testing.assert_array_equal(train.labels, np.repeat(np.arange(100), 500))


def test_cifar100_class_names(cifar100, index):
    assert list(cifar100.classes.names) == [n.decode() for n in index["fine_names"]]
    coarse = index["coarse_names"][index["fine_to_coarse"]]
    assert list(cifar100.classes.coarse) == [n.decode() for n in coarse]


def test_cifar100_is_as_the_catalogue_says(index):
    dataset = datasets.load("cifar100_lt:val=none", shared_data.cifar100_root())
    assert published(dataset) == entry("cifar100_lt")
    numbers = [int(name.removeprefix("train/")) for name in dataset.split("train").ids]
    assert numbers == index["lt100_index"].tolist()


# Names and parameters


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar10lt", "neither a dataset nor a path; did you mean cifar10_lt"),
        ("nowhere/list.txt", "neither a dataset nor a path"),
        ("digits_lt:imbalance=3", "unknown parameter imbalance; there are: ir, profile, seed, val"),
        ("digits_lt:sed=3", "unknown parameter sed; did you mean seed"),
        ("digits_lt:seed=x", "seed: found x, expected a whole number"),
        ("digits_lt:seed=1.5", "seed: found 1.5, expected a whole number"),
        ("digits_lt:seed=-1", "seed: found -1, expected 0 to 4294967295"),
        ("digits_lt:ir=", "ir: found '', expected a finite number"),
        ("digits_lt:ir=nan", "ir: found nan"),
        ("digits_lt:val=test", "val: found test, expected balanced, holdout, none"),
        ("places_lt:val=balanced", "val: found balanced, expected holdout, none"),
        ("places_lt:resize=0", "resize: found 0, expected 1 to 4096"),
        ("places_lt:resize=64,crop=65", "crop: found 65, expected 1 to 64"),
        ("places_lt:crop=0", "crop: found 0, expected 1 to 4096"),
    ],
)  # fmt: skip
def test_specs_that_do_not_fit(spec, message):
    with pytest.raises(InputError, match=message):
        datasets.load(spec)


def test_a_root_that_is_absent(tmp_path, monkeypatch):
    monkeypatch.delenv(datasets.ROOT_VARIABLE, raising=False)
    with pytest.raises(
        InputError, match="pass --root DIR or set LTKIT_DATA; it needs the official"
    ):
        datasets.load("cifar10_lt")
    with pytest.raises(InputError, match="no such folder; cifar10_lt needs"):
        datasets.load("cifar10_lt", tmp_path / "nowhere")


def test_the_root_may_come_from_the_environment(tmp_path, monkeypatch):
    write_archive(tmp_path, 10, "binary")
    monkeypatch.setenv(datasets.ROOT_VARIABLE, str(tmp_path))
    assert len(datasets.load("cifar10_lt:ir=1,val=none").split("train")) == 500
