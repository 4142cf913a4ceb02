"""Features as people have them: kinds of files, names of arrays, forms of labels."""

import h5py
import made
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from ltkit.errors import FormatError, InputError
from ltkit.files import features
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

SIZES = {"train": (40, 20, 10, 5), "val": (3,) * 4, "test": (6,) * 4}


def drawn(size=6):
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(4, size))
    found = {}
    for split, counts in SIZES.items():
        labels = np.repeat(np.arange(4), counts)
        rows = centres[labels] + rng.normal(size=(len(labels), size))
        found[f"{split}_features"], found[f"{split}_labels"] = rows.astype(np.float32), labels
    return found


def imported(tmp_path, path=None, **more):
    """Import; return what the features file holds, and the notes."""
    output = tmp_path / "f.h5"
    output.unlink(missing_ok=True)
    known = {k: more.pop(k) for k in ("splits", "head", "text_features", "names") if k in more}
    _, notes = import_arrays(path, output, settings=ImportSettings(**more), **known)
    assert not [p for p in made.beside(output) if p.startswith(".")]
    return features.read(output), notes


def same(found, expected=None):
    expected = expected or drawn()
    for split in SIZES:
        np.testing.assert_array_equal(found.split(split).features[:], expected[f"{split}_features"])
        np.testing.assert_array_equal(found.split(split).labels, expected[f"{split}_labels"])


def saved(tmp_path, **changes):
    given = {k: v for k, v in (drawn() | changes).items() if v is not None}
    np.savez(tmp_path / "a.npz", **given)
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("X_{}", "y_{}"), ("{}/features", "{}/labels"), ("embeddings_{}", "targets_{}"),
        ("{}-emb", "{}-target"), ("{}ing_x", "{}ing_y"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["npz", "h5", "safetensors", "pt"])
def test_names_of_others(tmp_path, names, kind):
    given = {}
    for split in SIZES:
        word = "valid" if split == "val" else split
        for name, what in zip(names, ("features", "labels"), strict=True):
            key = name.format(word).replace("validing", "validation")
            given[key] = drawn()[f"{split}_{what}"]
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, **given)
    elif kind == "safetensors":
        save_file(given, path)
    elif kind == "pt":
        torch.save({key: torch.from_numpy(value) for key, value in given.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            for key, value in given.items():
                file[key] = value
    found, notes = imported(tmp_path, path)
    same(found)
    assert "no weight: the file has no head" in notes


def test_nested_tensors(tmp_path):
    given = drawn()
    top = {
        split: {"x": torch.from_numpy(given[f"{split}_features"]),
                "y": torch.from_numpy(given[f"{split}_labels"])}
        for split in SIZES
    }  # fmt: skip
    torch.save(top | {"class_names": ["ant", "bee", "cat", "dog"], "epoch": 3}, tmp_path / "a.pt")
    found, _ = imported(tmp_path, tmp_path / "a.pt")
    same(found)
    assert found.classes.names == ("ant", "bee", "cat", "dog")


def test_keys_say_what_arrays_are_called(tmp_path):
    given = drawn()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["emb/a"], file["emb/b"] = given["train_features"], given["train_labels"]
        file["junk"] = np.zeros(3)
    keys = {"train_features": "emb/a", "train_labels": "emb/b"}
    found, notes = imported(tmp_path, tmp_path / "a.h5", keys=keys)
    np.testing.assert_array_equal(found.split("train").features[:], given["train_features"])
    assert any("left out 1 other arrays: junk" in note for note in notes)
    wrong = keys | {"train_labels": "emb/c"}
    made.refused(
        lambda: imported(tmp_path, tmp_path / "a.h5", keys=wrong),
        "keys: train_labels:", "has no emb/c; did you mean emb/b",
    )  # fmt: skip
    made.refused(
        lambda: imported(tmp_path, tmp_path / "a.h5", keys={"train": "emb/a"}),
        "keys: train: unknown; did you mean train_ids",
    )


def test_two_arrays_of_one_meaning_are_asked_about(tmp_path):
    path = saved(tmp_path, X_train=drawn()["train_features"] + 1)
    made.refused(
        lambda: imported(tmp_path, path), "train_features and X_train, either as", "--keys"
    )
    found, _ = imported(tmp_path, path, keys={"train_features": "X_train"})
    np.testing.assert_array_equal(found.split("train").features[:], drawn()["train_features"] + 1)


@pytest.mark.parametrize("kind", ["npy", "pt", "safetensors", "npz"])
def test_files_of_single_splits(tmp_path, kind):
    splits = {}
    for split in SIZES:
        pair = {"x": drawn()[f"{split}_features"], "y": drawn()[f"{split}_labels"]}
        paths = [tmp_path / f"{name}-{split}.{kind}" for name in pair]
        splits[split] = paths
        for path, value in zip(paths, pair.values(), strict=True):
            if kind == "npy":
                np.save(path, value)
            elif kind == "pt":
                torch.save(torch.from_numpy(value), path)
            elif kind == "safetensors":
                save_file({"data": value}, path)
            else:
                np.savez(path, value)
        if kind == "npz":
            both = tmp_path / f"{split}.npz"
            np.savez(both, features=pair["x"], labels=pair["y"])
            found, _ = imported(tmp_path, splits={split: [both]}) if split == "train" else (0, 0)
    found, _ = imported(tmp_path, splits=splits)
    same(found)


def test_files_of_single_splits_that_do_not_say_enough(tmp_path):
    np.save(tmp_path / "x.npy", drawn()["train_features"])
    x = tmp_path / "x.npy"
    made.refused(lambda: imported(tmp_path, splits={"train": [x]}), "train:", "found no labels")
    made.refused(lambda: imported(tmp_path, x), "holds one array", "--train X.npy,y.npy")
    np.savez(tmp_path / "b.npz", features=drawn()["train_features"], x=np.zeros((2, 2)))
    made.refused(
        lambda: imported(tmp_path, splits={"train": [tmp_path / "b.npz"]}),
        "x: found train_features",
    )
    path = saved(tmp_path)
    np.savez(tmp_path / "c.npz", features=drawn()["train_features"], labels=np.zeros(75, int))
    made.refused(
        lambda: imported(tmp_path, path, splits={"train": [tmp_path / "c.npz"]}), "name it once"
    )


def test_a_head_in_a_file_of_its_own(tmp_path):
    weight = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    np.save(tmp_path / "w.npy", weight)
    found, notes = imported(tmp_path, saved(tmp_path), head=tmp_path / "w.npy")
    np.testing.assert_array_equal(found.head.weight, weight)
    assert notes == ["no bias: taken as zeros"]
    save_tensors(
        {"fc.weight": torch.from_numpy(weight), "fc.bias": torch.arange(4).to(torch.bfloat16)},
        tmp_path / "h.safetensors",
    )
    found, notes = imported(tmp_path, saved(tmp_path), head=tmp_path / "h.safetensors")
    np.testing.assert_array_equal(found.head.bias, np.arange(4))


def test_chunked_and_packed_hdf5(tmp_path):
    given = drawn()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in given.items():
            file.create_dataset(name, data=value, chunks=True, compression="gzip", shuffle=True)
        file["class_names"] = ["ant", "bee", "cät", "dog"]
        file["train_ids"] = np.array([f"i{n}" for n in range(75)], "S4")
        file["link"] = h5py.SoftLink("/train_features")
        file["elsewhere"] = h5py.ExternalLink("b.h5", "x")
    found, _ = imported(tmp_path, tmp_path / "a.h5")
    same(found)
    assert found.classes.names == ("ant", "bee", "cät", "dog")
    assert found.split("train").ids[74] == "i74"


def test_labels_as_text_in_hdf5(tmp_path):
    given = drawn()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/x"] = given[f"{split}_features"]
            file[f"{split}/y"] = [f"class{n}" for n in given[f"{split}_labels"]]
    found, _ = imported(tmp_path, tmp_path / "a.h5")
    np.testing.assert_array_equal(found.split("test").labels, given["test_labels"])


def test_damaged_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in drawn().items():
            file.create_dataset(name, data=value, chunks=True, compression="gzip")
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    made.refused(
        lambda: imported(tmp_path, tmp_path / "a.h5"), "a.h5: cannot be read", error=FormatError
    )


def test_hdf5_that_unpacks_to_too_much(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train_features", (1 << 20, 6), "f4", chunks=(1 << 10, 6))
        file["train_labels"] = np.zeros(1 << 20, np.int8)
    monkeypatch.setattr("ltkit.sources.arrays.unpacked.BYTES", 0)
    monkeypatch.setattr("ltkit.sources.arrays.unpacked.UNPACKED", 1)
    made.refused(lambda: imported(tmp_path, tmp_path / "a.h5"), "unpack to")


def test_groups_of_hdf5_without_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("a")["b"] = file["/"]
    made.refused(
        lambda: imported(tmp_path, tmp_path / "a.h5"), "more than 10000 members", error=FormatError
    )


def test_what_holds_no_tensor(tmp_path):
    torch.save({"a": 3, "b": "text"}, tmp_path / "a.pt")
    made.refused(
        lambda: imported(tmp_path, tmp_path / "a.pt"), "found no tensor", error=FormatError
    )
    torch.save({"train_features": drawn()["train_features"]}, tmp_path / "a.pt")
    made.refused(lambda: imported(tmp_path, tmp_path / "a.pt"), "a.pt", error=FormatError)


def test_a_git_lfs_pointer(tmp_path):
    (tmp_path / "a.npz").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    made.refused(lambda: imported(tmp_path, tmp_path / "a.npz"), "Git-LFS", error=FormatError)


def one_hot(labels, width=4, dtype=np.int64):
    return np.eye(width, dtype=dtype)[labels]


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y[:, None], lambda y: y[None], lambda y: y.astype(np.float64),
        lambda y: y.astype(np.float32)[:, None], lambda y: y.astype(str), one_hot,
        lambda y: one_hot(y, dtype=bool), lambda y: one_hot(y, dtype=np.float32), lambda y: y + 1,
        lambda y: (y + 1).astype(np.uint8)[:, None], lambda y: np.char.add(y.astype(str), ".0"),
        lambda y: np.char.add(" ", y.astype(str)),
    ],
)  # fmt: skip
def test_forms_of_labels(tmp_path, form):
    changes = {f"{s}_labels": form(drawn()[f"{s}_labels"]) for s in SIZES}
    found, notes = imported(tmp_path, saved(tmp_path, **changes))
    same(found)
    said = " ".join(notes)
    shape = changes["train_labels"].shape
    assert ("one-hot rows, taken as the column of the 1" in said) == (shape == (75, 4))
    from_1 = changes["train_labels"].dtype.kind in "iu" and changes["train_labels"].min() == 1
    assert ("labels count from 1 to 4: taken as 0 to 3" in said) == from_1


def test_labels_from_1_that_may_be_from_0(tmp_path):
    """Class 0 may lack samples: then nothing but a head of C rows can tell."""
    changes = {f"{s}_labels": np.maximum(drawn()[f"{s}_labels"], 1) for s in SIZES}
    weight = np.ones((4, 6))
    found, notes = imported(tmp_path, saved(tmp_path, **changes, weight=weight))
    assert found.classes.train_count[0] == 0
    assert "1 of 4 classes have no sample, as class 0" in notes
    later = {name: labels + 1 for name, labels in changes.items()}  # 2 to 4, of 4 classes
    with pytest.raises(InputError):
        imported(tmp_path, saved(tmp_path, **later, weight=weight), first_label=0)
    path = saved(tmp_path, **later, weight=weight)
    found, notes = imported(tmp_path, path, first_label=1)
    np.testing.assert_array_equal(found.split("test").labels, changes["test_labels"])
    zero = saved(tmp_path)
    made.refused(lambda: imported(tmp_path, zero, first_label=1), "first_label: found a label 0")


def test_labels_of_one_split_from_1(tmp_path):
    path = saved(tmp_path, train_labels=drawn()["train_labels"] + 1)
    made.refused(
        lambda: imported(tmp_path, path),
        "first_label: found labels 1 to 4 in train, and 0 to 3 in val",
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            one_hot(np.arange(24) % 4) | one_hot(np.arange(24) % 3),
            ["other than one 1", "multi-label"],
        ),
        (np.zeros((24, 4), int), ["row 0", "multi-label"]),
        (np.full((24, 4), 0.25), ["row 0: found numbers other than 0 and 1", "one label a row"]),
        (np.zeros((24, 1, 1)), ["found shape (24, 1, 1), expected one label a row"]),
        (np.zeros((1, 23)), ["found shape (1, 23), expected one label a row"]),
        (np.zeros((23, 4)), ["found shape (23, 4)"]),
    ],
)
def test_labels_that_are_none(tmp_path, labels, words):
    path = saved(tmp_path, test_labels=labels)
    said = made.refused(lambda: imported(tmp_path, path), "test_labels", *words)
    assert "argmax" not in said


def named(y, names=("cow", "ant", "bee", "dog")):
    return np.array(names)[y]


def test_names_for_labels(tmp_path):
    changes = {f"{s}_labels": named(drawn()[f"{s}_labels"]) for s in SIZES}
    found, _ = imported(tmp_path, saved(tmp_path, **changes))
    assert found.classes.names == ("ant", "bee", "cow", "dog")
    assert found.classes.train_count.tolist() == [20, 10, 40, 5]
    names = np.array(["dog", "cow", "bee", "ant"])
    found, _ = imported(tmp_path, saved(tmp_path, **changes, class_names=names))
    assert found.classes.train_count.tolist() == [5, 40, 10, 20]
    path = saved(tmp_path, **changes, weight=np.ones((4, 6)))
    made.refused(
        lambda: imported(tmp_path, path), "names: absent", "weight has an order of classes"
    )
    np.save(tmp_path / "t.npy", np.ones((4, 6)))
    made.refused(
        lambda: imported(tmp_path, saved(tmp_path, **changes), text_features=tmp_path / "t.npy"),
        "text_features has an order of classes",
    )
    path = saved(tmp_path, **changes, train_counts=np.ones(4, int))
    made.refused(lambda: imported(tmp_path, path), "train_counts has an order of classes")
    path = saved(tmp_path, **changes, class_names=np.array(["dog", "cow", "bee", "ape"]))
    made.refused(
        lambda: imported(tmp_path, path), "row 40: found 'ant', expected a name of a class"
    )


@pytest.mark.parametrize("values", [(3, 7, 8, 20), ("ant", "bee", "cow", "dog"), (0, 1, 2, 3)])
@pytest.mark.parametrize("kind", [LogisticRegression, RidgeClassifier])
def test_a_model_of_scikit_learn(tmp_path, values, kind):
    given = drawn()
    labels = {s: np.array(values)[given[f"{s}_labels"]] for s in SIZES}
    model = kind().fit(given["train_features"], labels["train"])
    changes = {f"{s}_labels": v for s, v in labels.items()}
    of_model = {"coef_": model.coef_, "intercept_": model.intercept_, "classes_": model.classes_}
    found, _ = imported(tmp_path, saved(tmp_path, **changes, **of_model))
    logits = found.classifier().logits(given["test_features"])
    expected = model.predict(given["test_features"])
    np.testing.assert_array_equal(np.array(values)[logits.argmax(axis=1)], expected)
    same(found)
    if values[0] == "ant":  # their order is that of scikit-learn
        found, _ = imported(tmp_path, saved(tmp_path, **changes, coef_=model.coef_))
        assert found.classes.names == values
    if values[0] == 3:
        wrong = saved(tmp_path, **(changes | {"test_labels": given["test_labels"]}), **of_model)
        made.refused(lambda: imported(tmp_path, wrong), "row 0: found 0, which is none of the 4")


def test_two_classes_of_scikit_learn(tmp_path):
    given = {k: v[drawn()[f"{k.split('_')[0]}_labels"] < 2] for k, v in drawn().items()}
    model = LogisticRegression().fit(given["train_features"], given["train_labels"])
    np.savez(tmp_path / "a.npz", **given, coef_=model.coef_, intercept_=model.intercept_)
    found, _ = imported(tmp_path, tmp_path / "a.npz")
    logits = found.classifier().logits(given["test_features"]).astype(np.float64)
    odds = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(odds, model.decision_function(given["test_features"]), rtol=1e-4)
    np.testing.assert_allclose(  # without a bias scikit-learn has one number
        imported(tmp_path, _binary(tmp_path, given, model.coef_, np.float64(0)))[0].head.bias, 0
    )


def _binary(tmp_path, given, weight, bias):
    np.savez(tmp_path / "b.npz", **given, coef_=weight, intercept_=bias)
    return tmp_path / "b.npz"


def test_heads_by_columns(tmp_path):
    weight = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    for given in (weight.T, np.asfortranarray(weight), np.asfortranarray(weight.T)):
        found, notes = imported(tmp_path, saved(tmp_path, weight=given, bias=np.ones((1, 4))))
        np.testing.assert_array_equal(found.head.weight, weight)
        np.testing.assert_array_equal(found.head.bias, 1)
        assert ("found (6, 4), a row for each feature: transposed" in " ".join(notes)) == (
            given.shape == (6, 4)
        )


def test_a_square_head_is_asked_about(tmp_path):
    given, weight = drawn(4), np.arange(16.0).reshape(4, 4)
    np.savez(tmp_path / "a.npz", **given, weight=weight, bias=np.zeros(4))
    said = made.refused(lambda: imported(tmp_path, tmp_path / "a.npz"), "weight_rows: absent")
    assert len(said) - len(str(tmp_path)) < 150
    found, _ = imported(tmp_path, tmp_path / "a.npz", weight_rows="classes")
    np.testing.assert_array_equal(found.head.weight, weight)
    found, _ = imported(tmp_path, tmp_path / "a.npz", weight_rows="features")
    np.testing.assert_array_equal(found.head.weight, weight.T)
    np.savez(tmp_path / "a.npz", **given, coef_=weight)  # scikit-learn has rows of classes
    found, _ = imported(tmp_path, tmp_path / "a.npz")
    np.testing.assert_array_equal(found.head.weight, weight)


def test_memory_does_not_grow_with_the_features(tmp_path, monkeypatch):
    """What is given to the writer at once is a block, whatever the kind of file."""
    from ltkit import records
    from ltkit.files.features_writer import FeaturesWriter

    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 1 << 12)
    most, append = [0], FeaturesWriter.append

    def watched(self, split, block):
        most[0] = max(most[0], block.nbytes)
        append(self, split, block)

    monkeypatch.setattr(FeaturesWriter, "append", watched)
    x, y = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32), np.arange(3000) % 4
    save_file({"train_features": x, "train_labels": y}, tmp_path / "a.safetensors")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_features"], file["train_labels"] = x, y
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    rows = "\n".join(
        ",".join(map(repr, map(float, r))) + f",{c}" for r, c in zip(x, y, strict=True)
    )
    (tmp_path / "a.csv").write_text("a,b,c,d,e,f,y\n" + rows)
    for path, splits in (
        (tmp_path / "a.safetensors", {}), (tmp_path / "a.h5", {}),
        (None, {"train": [tmp_path / "x.npy", tmp_path / "y.npy"]}),
        (None, {"train": [tmp_path / "a.csv"]}),
    ):  # fmt: skip
        found, _ = imported(tmp_path, path, splits=splits)
        np.testing.assert_array_equal(found.split("train").features[:], x)
        assert 0 < most[0] <= 1 << 13
