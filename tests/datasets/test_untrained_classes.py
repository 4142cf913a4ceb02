"""Classes without training images: tested alone where the user states them, refused otherwise."""

import pytest
from listed import write_images, write_list

from ltkit import datasets
from ltkit.errors import InputError

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
