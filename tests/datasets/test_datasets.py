"""Datasets: the long-tailed draw, the official archives, lists, folders and tables of images."""

import gzip
import hashlib
import os
import pickle
import shutil

import numpy as np
import pytest
import shared_data
from PIL import Image

from ltkit import datasets
from ltkit.datasets import cifar, lists, longtail
from ltkit.errors import FormatError, InputError

SETTINGS = {"resize": 8, "crop": 8, "seed": 0, "val": "none"}


def ids(dataset, split):
    return set(dataset.split(split).ids.tolist())


# The long-tailed draw


@pytest.fixture(scope="module")
def index():
    with np.load(shared_data.shared("cifar100", "index.npz")) as file:
        return dict(file)


@pytest.mark.parametrize("factor", [10, 20, 50, 100, 200])
def test_the_draw_is_the_one_of_the_released_code(index, factor):
    counts = longtail.exponential_counts(100, 500, factor)
    np.testing.assert_array_equal(counts, index[f"lt{factor}_counts"])
    for labels, known in (
        (index["official_order_fine_labels"], f"lt{factor}_official_index"),
        (np.repeat(np.arange(100), 500), f"lt{factor}_index"),
    ):
        drawn = longtail.draw(labels, counts, 0, "none")
        np.testing.assert_array_equal(drawn.train, index[known])
        assert drawn.val is None


@pytest.mark.parametrize(
    ("classes", "most", "factor", "total", "least", "groups"),
    [
        (100, 500, 100, 10_847, 5, (35, 35, 30)),
        (100, 500, 50, 12_608, 10, (41, 41, 18)),
        (100, 500, 20, 15_907, 25, None),
        (100, 500, 10, 19_573, 50, (69, 31, 0)),
        (100, 500, 200, 9_502, 2, None),
        (10, 5000, 100, 12_406, 50, None),
        (10, 5000, 50, 13_996, 100, None),
        (10, 5000, 20, 17_023, 250, None),
        (10, 5000, 10, 20_431, 500, None),
        (10, 5000, 1, 50_000, 5000, None),
    ],
)
def test_published_sizes(classes, most, factor, total, least, groups):
    counts = longtail.exponential_counts(classes, most, factor)
    assert (counts.sum(), counts.max(), counts.min()) == (total, most, least)
    if groups:
        assert ((counts > 100).sum(), (counts < 20).sum()) == (groups[0], groups[2])


@pytest.mark.parametrize("factor", [0.5, 501, float("nan"), float("inf")])
def test_an_imbalance_factor_out_of_range(factor):
    with pytest.raises(InputError, match=r"ir: found .*, expected .* from 1 to 500"):
        longtail.exponential_counts(100, 500, factor)


def test_a_class_with_too_few_images_to_draw_from():
    with pytest.raises(InputError, match="class 1: found 2 images, expected 3"):
        longtail.draw(np.array([0, 0, 0, 1, 1]), np.array([3, 3]), 0, "none")


def test_balanced_validation_takes_what_the_draw_left_out_first():
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 50))
    counts = np.array([50, 35, 30, 5])
    none = longtail.draw(labels, counts, 3, "none")
    drawn = longtail.draw(labels, counts, 3, "balanced")
    assert np.bincount(labels[drawn.val]).tolist() == [20] * 4
    assert np.bincount(labels[drawn.train]).tolist() == [30, 30, 30, 5]
    assert not set(drawn.train) & set(drawn.val)
    assert set(drawn.train) <= set(none.train)
    given_up = labels[sorted(set(drawn.val) & set(none.train))]
    assert np.bincount(given_up, minlength=4).tolist() == [20, 5, 0, 0]


def test_balanced_validation_leaves_every_class_an_image():
    drawn = longtail.draw(np.repeat([0, 1], [20, 1]), np.array([20, 1]), 0, "balanced")
    assert (len(drawn.train), len(drawn.val)) == (2, 19)


def test_holdout_is_stratified_and_each_class_keeps_one():
    sizes = [100, 10, 3, 2, 1]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), sizes))
    kept, out = longtail.hold_out(labels, seed=0)
    assert np.bincount(labels[out], minlength=5).tolist() == [20, 2, 1, 0, 0]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(labels)))
    assert not np.array_equal(out, longtail.hold_out(labels, seed=1)[1])


def test_holdout_stays_within_the_published_training_set():
    labels, counts = np.repeat([0, 1, 2], 50), np.array([50, 20, 5])
    none = longtail.draw(labels, counts, 0, "none")
    drawn = longtail.draw(labels, counts, 0, "holdout")
    assert sorted([*drawn.train, *drawn.val]) == sorted(none.train)
    assert np.bincount(labels[drawn.val]).tolist() == [10, 4, 1]


def test_nothing_to_hold_out():
    with pytest.raises(InputError, match="no class of 3 or more images; pass val=none"):
        longtail.hold_out(np.array([0, 0, 1]), seed=0)


def test_digests_tell_draws_apart():
    labels, counts = np.repeat([0, 1], 60), np.array([60, 6])
    digests = set()
    for seed in (0, 1):
        for val in ("none", "balanced", "holdout"):
            drawn = longtail.draw(labels, counts, seed, val)
            digests.add(longtail.index_digest(drawn.train, drawn.val))
            again = longtail.draw(labels, counts, seed, val)
            assert longtail.index_digest(again.train, again.val) in digests
    assert len(digests) == 6


# The catalogue


def published(dataset):
    counts = dataset.classes.train_count
    return len(counts), counts.sum(), counts.max(), counts.min()


def entry(name):
    spec = datasets.CATALOGUE[name]
    return spec.num_classes, spec.train_images, spec.max_count, spec.min_count


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


# The two forms of the CIFAR archives, tiny


def batch(num_classes, per_class, seed=0):
    """Labels in mixed order, superclasses, and (N, 3072) pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return labels, labels // 5, pixels


def write_binary(folder, name, labels, coarse, pixels, num_classes):
    columns = [coarse[:, None], labels[:, None]] if num_classes == 100 else [labels[:, None]]
    records = np.concatenate([*columns, pixels], axis=1).astype(np.uint8)
    records.tofile(folder / name)


def write_python(folder, name, labels, coarse, pixels, num_classes):
    content = {b"data": pixels, b"batch_label": b"one"}
    if num_classes == 100:
        content |= {b"fine_labels": labels.tolist(), b"coarse_labels": coarse.tolist()}
    else:
        content[b"labels"] = labels.tolist()
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_archive(root, num_classes, form, per_class=10):
    """Write a tiny official archive; return its folder, and (labels, coarse, pixels) of a part."""
    layout = cifar.LAYOUTS[num_classes]
    binary = form == "binary"
    folder = root / (layout.binary if binary else layout.python)
    folder.mkdir(parents=True)
    files = layout.binary_files if binary else layout.python_files
    write = write_binary if binary else write_python
    parts = {}
    for part, names in files.items():
        parts[part] = batch(num_classes, per_class * len(names), seed=len(names))
        pieces = zip(*(np.array_split(column, len(names)) for column in parts[part]), strict=True)
        for name, piece in zip(names, pieces, strict=True):
            write(folder, name, *piece, num_classes)
    return folder, parts


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


# List files


def write_images(root, names, size=(8, 8)):
    """Write a picture of one colour for each name; the colour's red says its position."""
    for position, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (position, 50, 200)).save(path)


def write_list(path, pairs):
    path.write_text("".join(f"{name} {label}\n" for name, label in pairs))
    return path


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
    train.write_text("\n".join(f"{c}/{i}.jpg {c}" for i, c in enumerate(labels[1:])))
    with pytest.raises(InputError, match=r"found 437512 .* expected 437513"):
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


# Links


@pytest.fixture
def links(tmp_path):
    """A folder of images, and other images outside of it."""
    write_images(tmp_path / "pics", ["ant/0.png", "ant/1.png", "bee/2.png", "bee/3.png"])
    write_images(tmp_path / "other", ["4.png", "bee/5.png"])
    return tmp_path / "pics"


def linked_file(root):
    (root / "bee" / "9.png").symlink_to("../../other/4.png")


def linked_chain(root):
    (root / "chain").symlink_to("../other/4.png")
    (root / "bee" / "9.png").symlink_to("../chain")


def linked_class(root):
    (root / "cow").symlink_to("../other/bee")


def linked_to_the_root_of_all(root):
    (root / "cow").symlink_to("/")


def linked_split(root):
    (root.parent / "other" / "test" / "ant").mkdir(parents=True)
    (root / "train").mkdir()
    for name in ("ant", "bee"):
        (root / name).rename(root / "train" / name)
    (root / "test").symlink_to("../other/test")


def linked_class_of_a_split(root):
    (root / "train").mkdir()
    for name in ("ant", "bee"):
        (root / name).rename(root / "train" / name)
    (root / "train" / "cow").symlink_to("../../other/bee")


OUT = [linked_file, linked_chain, linked_class, linked_to_the_root_of_all, linked_split,
       linked_class_of_a_split]  # fmt: skip


@pytest.mark.parametrize("link", OUT)
def test_links_out_of_the_folder_are_refused(links, link):
    link(links)
    with pytest.raises(InputError, match=r"a link leads out of .*pics, expected.* --follow-links"):
        datasets.load(f"{links}:val=none")


@pytest.mark.parametrize("link", [linked_file, linked_chain, linked_class])
def test_links_may_be_followed_and_that_is_recorded(links, link):
    before = datasets.load(f"{links}:val=none,resize=8,crop=8")
    assert "follow_links" not in before.record
    link(links)
    found = datasets.load(f"{links}:val=none,resize=8,crop=8", follow_links=True)
    assert len(found.split("train").images[:]) == len(before.split("train")) + 1
    assert found.record["follow_links"] is True


def test_the_folder_itself_and_what_stays_in_it_may_be_links(links):
    (links / "bee" / "9.png").symlink_to("../ant/0.png")
    (links / "cow").symlink_to("ant")
    root = links.with_name("root")
    root.symlink_to("pics")
    assert len(datasets.load(f"{root}:val=none,resize=8,crop=8").split("train").images[:]) == 7


@pytest.mark.parametrize("form", ["l.txt", "c.csv"])
def test_listed_images_behind_links(links, form):
    linked_file(links)
    (links / "cow").symlink_to("../other")
    for name in ("bee/9.png", "cow/4.png"):
        path = links / form
        if form == "c.csv":
            path.write_text(f"path,label\nant/0.png,0\n{name},1\n")
        else:
            write_list(path, [("ant/0.png", 0), (name, 1)])
        for root in (None, links):
            with pytest.raises(InputError, match=r"a link leads out of"):
                datasets.load(f"{path}:val=none", root)
        found = datasets.load(f"{path}:val=none,resize=8,crop=8", follow_links=True)
        assert len(found.split("train").images[:]) == 2


def test_a_link_that_is_made_later_is_refused_when_it_is_met(links):
    images = datasets.load(f"{links}:val=none,resize=8,crop=8").split("train").images
    (links / "bee" / "3.png").unlink()
    (links / "bee" / "3.png").symlink_to("../../other/4.png")
    assert len(images[:3]) == 3
    with pytest.raises(InputError, match="a link leads out of"):
        images[:]


@pytest.mark.parametrize(
    ("make", "words"),
    [(os.mkfifo, "is a device or pipe, expected image 3"), (os.mkdir, "is a folder, expected"),
     (lambda path: path.symlink_to("3.png"), "cannot be decoded"),
     (lambda path: path.symlink_to("none"), "not found, expected image 3; check --root")],
)  # fmt: skip
def test_an_image_that_is_no_file(links, make, words):
    path = links / "bee" / "3.png"
    images = datasets.load(f"{links}:val=none,resize=8,crop=8").split("train").images
    path.unlink()
    make(path)
    with pytest.raises(InputError, match=words):
        images[:]


NAMES = ("ant", "bee", "cow", "dog")


def forms(tmp_path):
    """Three forms of a dataset whose class cow is only tested; dog has no image at all."""
    train, test = ["ant/0.png", "ant/1.png", "bee/2.png"], ["cow/3.png", "bee/4.png"]
    names = [f"p/train/{n}" for n in train] + [f"p/test/{n}" for n in test]
    write_images(tmp_path, names)
    rows = [(n, split, n.split("/")[2]) for n in names for split in (n.split("/")[1],)]
    csv = "".join(f"{n},{label},{split}\n" for n, split, label in rows)
    (tmp_path / "c.csv").write_text(f"path,label,split\n{csv}")
    for part in ("train", "test"):
        listed = [(n, NAMES.index(label)) for n, split, label in rows if split == part]
        write_list(tmp_path / f"{part}.txt", listed)
        (tmp_path / f"n_{part}.csv").write_text(
            "path,label\n" + "".join(f"{n},{c}\n" for n, c in listed)
        )
    return [tmp_path / name for name in ("p", "c.csv", "train.txt", "n_train.csv")]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("val", ["none", "holdout"])
def test_a_class_may_be_tested_alone_where_the_user_states_it(tmp_path, number, val):
    spec = f"{forms(tmp_path)[number]}:val={val},resize=8,crop=8"
    with pytest.raises(InputError, match=r"class (cow|2)\b.*if --classes FILE names it"):
        datasets.load(spec)
    if val == "holdout":
        with pytest.raises(InputError, match="no class of 3 or more images"):
            datasets.load(spec, classes=NAMES)
        return
    found = datasets.load(spec, classes=NAMES)
    assert found.classes.train_count.tolist() == [2, 1, 0]
    assert found.split("test").labels.tolist() in ([1, 2], [2, 1])
    named = "2" if found.classes.names is None else "cow"
    said = f"1 of 3 classes has no training image ({named}) and is left out: it is tested, but"
    assert any(note.startswith(said) for note in found.notes)


@pytest.mark.parametrize("number", range(4))
def test_other_classes_without_training_images_are_refused(tmp_path, number):
    spec = f"{forms(tmp_path)[number]}:val=none"
    with pytest.raises(InputError, match=r"class (cow|2)\b"):
        datasets.load(spec, classes=("ant", "bee"))


def test_far_labels_stay_refused(tmp_path):
    train = write_list(tmp_path / "train.txt", [("a.png", 0), ("b.png", 999999999999)])
    with pytest.raises(InputError, match="no training image of class 1"):
        datasets.load(f"{train}:val=none", classes=("x",))
    with pytest.raises(InputError, match="no training image of class 2"):
        datasets.load(f"{train}:val=none", classes=("x", "y"))


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
