"""The two forms of the CIFAR archives: read alike, and refused where they are damaged or unsafe."""

import os
import pickle

import numpy as np
import pytest
from listed import entry, ids, published, write_archive, write_binary, write_python

from ltkit import datasets
from ltkit.datasets import cifar
from ltkit.errors import FormatError, InputError


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("inside", [False, True])
def test_both_forms_of_the_archives(tmp_path, form, num_classes, inside):
    folder, parts = write_archive(tmp_path, num_classes, form, per_class=4)
    dataset = datasets.load(f"cifar{num_classes}_lt:ir=1,val=none", folder if inside else tmp_path)
    for name, (labels, _, pixels) in parts.items():
        split = dataset.split(name)
        assert len(split) == len(labels)
        for image, label, image_id in zip(split.images, split.labels, split.ids, strict=True):
            part, number = image_id.split("/")
            assert part == name
            assert label == labels[int(number)]
            planes = pixels[int(number)].reshape(3, 32, 32)
            np.testing.assert_array_equal(image, np.stack(planes, axis=-1))
    if num_classes == 100:
        assert dataset.classes.coarse == tuple(f"superclass {c // 5}" for c in range(100))
    else:
        assert dataset.classes.coarse is None
        assert dataset.classes.wnids[0] == "n02691156"  # airplane


def test_superclass_names_of_both_forms(tmp_path):
    names = [f"coarse_{i}" for i in range(20)]
    binary, _ = write_archive(tmp_path / "b", 100, "binary", per_class=1)
    (binary / "coarse_label_names.txt").write_text("\n".join(names))
    python, _ = write_archive(tmp_path / "p", 100, "python", per_class=1)
    meta = {b"coarse_label_names": [name.encode() for name in names]}
    (python / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    for folder in (binary, python):
        dataset = datasets.load("cifar100_lt:ir=1,val=none", folder)
        assert dataset.classes.coarse == tuple(names[c // 5] for c in range(100))


def test_cifar10_is_as_the_catalogue_says(tmp_path):
    layout = cifar.LAYOUTS[10]
    folder = tmp_path / layout.binary
    folder.mkdir()
    labels = np.tile(np.arange(10, dtype=np.uint8), 5000)
    records = np.zeros((50_000, 3073), dtype=np.uint8)
    records[:, 0] = labels
    for name, part in zip(layout.binary_files["train"], np.split(records, 5), strict=True):
        part.tofile(folder / name)
    records[:10_000].tofile(folder / "test_batch.bin")
    dataset = datasets.load("cifar10_lt:val=none", tmp_path)
    assert published(dataset) == entry("cifar10_lt")
    dataset = datasets.load("cifar10_lt", tmp_path)
    assert np.bincount(dataset.split("val").labels).tolist() == [20] * 10
    assert dataset.classes.train_count[0] == 4980
    assert not ids(dataset, "train") & ids(dataset, "val")


def test_an_archive_that_is_not_there(tmp_path):
    write_archive(tmp_path, 100, "python", per_class=1)[0].joinpath("test").unlink()
    with pytest.raises(InputError, match=r"neither cifar-100-binary/ nor cifar-100-python/"):
        datasets.load("cifar100_lt", tmp_path)


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * 3 + 1])
def test_a_truncated_binary_archive(tmp_path, size):
    folder, _ = write_archive(tmp_path, 10, "binary")
    with (folder / "data_batch_3.bin").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(FormatError, match=f"data_batch_3.bin: found {size} bytes, .* 3073"):
        datasets.load("cifar10_lt", tmp_path)


def test_a_binary_archive_cut_between_two_images(tmp_path):
    folder, _ = write_archive(tmp_path, 10, "binary")
    with (folder / "data_batch_3.bin").open("r+b") as file:
        file.truncate(3073 * 99)
    with pytest.raises(FormatError, match="found 499 labels of 10 classes for 499 images"):
        datasets.load("cifar10_lt", tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, 0.999])
def test_a_truncated_python_archive(tmp_path, keep):
    folder, _ = write_archive(tmp_path, 100, "python", per_class=1)
    content = (folder / "test").read_bytes()
    (folder / "test").write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(FormatError, match="test: not as in the official archive"):
        datasets.load("cifar100_lt:ir=1", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        np.zeros(3),
        None,
        {b"data": np.zeros((1, 3072), np.uint8)},
        {b"data": "text", b"fine_labels": [1], b"coarse_labels": [1]},
        {b"data": np.zeros((1, 3071), np.uint8), b"fine_labels": [1], b"coarse_labels": [1]},
    ],
)
def test_a_pickle_that_is_no_batch(tmp_path, content):
    folder, _ = write_archive(tmp_path, 100, "python", per_class=1)
    (folder / "train").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(FormatError, match="train: not as in the official archive"):
        datasets.load("cifar100_lt:ir=1", tmp_path)


def test_coarse_labels_below_zero(tmp_path):
    """The last name would be theirs."""
    folder, parts = write_archive(tmp_path, 100, "python", per_class=1)
    labels, coarse, pixels = parts["train"]
    write_python(folder, "train", labels, coarse - 1, pixels, 100)
    with pytest.raises(FormatError, match="a coarse label below 0"):
        datasets.load("cifar100_lt:ir=1", tmp_path)


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("fault", ["out of range", "unequal"])
def test_labels_that_are_not_the_official_ones(tmp_path, form, fault):
    folder, parts = write_archive(tmp_path, 10, form)
    labels, coarse, pixels = (column[:100] for column in parts["train"])
    labels = labels.copy()
    labels[0] = 10 if fault == "out of range" else (labels[0] + 1) % 10
    write, name = (
        (write_binary, "data_batch_1.bin") if form == "binary" else (write_python, "data_batch_1")
    )
    write(folder, name, labels, coarse, pixels, 10)
    with pytest.raises(
        FormatError, match=r"found 500 labels .* expected 0\.\.9, each equally often"
    ):
        datasets.load("cifar10_lt", tmp_path)


@pytest.mark.parametrize("fewer", ["labels", "coarse", "negative"])
def test_columns_of_a_python_archive_that_do_not_fit(tmp_path, fewer):
    folder, parts = write_archive(tmp_path, 100, "python", per_class=1)
    labels, coarse, pixels = parts["test"]
    if fewer == "labels":
        labels = labels[:-1]
    elif fewer == "coarse":
        coarse = coarse[:-1]
    else:
        labels = labels - 1
    write_python(folder, "test", labels, coarse, pixels, 100)
    with pytest.raises(FormatError, match=r"expected 0\.\.99, each equally often"):
        datasets.load("cifar100_lt:ir=1", tmp_path)


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, rf"refused to load {os.system.__module__}\.system"), (eval, r"builtin.*\.eval")],
)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol, function, named):
    folder, _ = write_archive(tmp_path, 100, "python", per_class=1)
    canary = tmp_path / "canary"
    line = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w').close()"
    content = pickle.dumps({b"data": Call(function, line)}, protocol=protocol)
    (folder / "train").write_bytes(content)
    with pytest.raises(FormatError, match=f"train: .*{named}"):
        datasets.load("cifar100_lt", tmp_path)
    assert not canary.exists()
    pickle.loads(content)  # the canary sings where nothing stops it
    assert canary.exists()


def test_a_persistent_reference_is_refused(tmp_path):
    folder, _ = write_archive(tmp_path, 100, "python", per_class=1)
    (folder / "train").write_bytes(b"Poutside\n.")
    with pytest.raises(FormatError, match="Unsupported persistent id"):
        datasets.load("cifar100_lt", tmp_path)
