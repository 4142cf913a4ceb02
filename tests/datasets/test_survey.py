"""What `ltkit data info` sees of the images of a dataset."""

import json
import shutil

import pictures
import pytest
import shared_data
from PIL import Image

from ltkit import datasets
from ltkit.datasets.survey import survey
from ltkit.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Splits with doubles, a nested copy, other sizes and modes, and what is no image."""
    root = tmp_path / "pics"
    pictures.write(root, [f"train/{c}/{i}.png" for c in ("ant", "bee") for i in range(3)])
    pictures.write(root / "test" / "ant", ["other.png"], size=(20, 10))
    Image.new("L", (8, 8), 9).save(root / "test" / "ant" / "grey.png")
    for copy in ("train/ant/ant/0.png", "train/bee/of ant.png", "test/ant/0.png"):
        (root / copy).parent.mkdir(exist_ok=True)
        shutil.copy(root / "train/ant/0.png", root / copy)
    pictures.put(root / "train/bee/empty.png", b"")
    pictures.put(root / "train/bee/zero.png", b"")
    pictures.put(root / "train/bee/text.txt")
    size = (root / "train/ant/0.png").stat().st_size
    pictures.put(
        root / "train/ant/x.png", b"\x89PNG\r\n\x1a\n" + b"y" * (size - 8)
    )  # of equal size
    return root


def test_what_is_seen(folder):
    seen = survey(pictures.load(folder))
    assert seen.images == 14
    assert seen.sizes == {(8, 8): 10, (20, 10): 1}
    assert seen.modes == {"RGB": 10, "L": 1}
    assert [p.name.rpartition("/")[2] for p in seen.unreadable] == [
        "x.png",
        "empty.png",
        "zero.png",
    ]
    assert seen.missing == []
    (group,) = seen.doubles
    assert [(p.split, p.name, p.label) for p in group] == [
        ("train", "train/ant/0.png", 0), ("train", "train/ant/ant/0.png", 0),
        ("train", "train/bee/of ant.png", 1), ("test", "test/ant/0.png", 0),
    ]  # fmt: skip
    assert (seen.across_splits, seen.across_classes) == (1, 1)
    assert [place.name for place in seen.nested] == ["train/ant/ant/0.png"]


def test_it_is_shown(folder, ltkit):
    code, out, err = ltkit("data", "info", f"{folder}:{pictures.SMALL}")
    assert code == 0, err
    assert "note: ignored 1 file that is no image (.txt 1)" in err
    assert "pixels: 8 x 8 (10), 20 x 10 (1); modes: RGB (10), L (1)" in out
    assert "unreadable: 3 of 14 images, the first train/ant/x.png" in out
    assert (
        "the same bytes: 4 images in 1 group, 1 across splits, 1 across classes; the first train "
        "train/ant/0.png = train train/ant/ant/0.png"
    ) in out
    assert "within a class's folder: 1, the first train/ant/ant/0.png" in out
    quick = ltkit("data", "info", f"{folder}:{pictures.SMALL}", "--quick")[1]
    assert out.startswith(quick)
    assert "pixels" not in quick


def test_the_document(folder, ltkit):
    found = json.loads(ltkit("data", "info", f"{folder}:{pictures.SMALL}", "--json")[1])
    assert found["images"]["sizes"][0] == {"width": 8, "height": 8, "images": 10}
    assert len(found["images"]["doubles"][0]) == 4
    assert found["images"]["doubles_across_splits"] == 1
    assert any("ignored" in note for note in found["notes"])
    assert found["groups"] == {"many": 0, "medium": 0, "few": 2}
    quick = ltkit("data", "info", f"{folder}:{pictures.SMALL}", "--json", "--quick")[1]
    assert json.loads(quick) == found | {"images": None}


def test_lists_without_their_images(tmp_path, ltkit):
    pictures.write(tmp_path, ["0.png"])
    (tmp_path / "train.txt").write_text("0.png 0\n1.png 1\n2.png 1\n")
    code, out, _ = ltkit("data", "info", tmp_path / "train.txt")
    assert code == 0
    assert "missing: 2 of 3 images, the first 1.png" in out


def test_many_sizes_stay_one_line(tmp_path, ltkit):
    for side in range(1, 10):
        pictures.write(tmp_path, [f"ant/{side}.png"], size=(side, 2 * side))
    out = ltkit("data", "info", tmp_path)[1]
    assert "5 x 10 (1), and 4 more, shorter sides 1 to 9; modes: RGB (9)" in out


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    pictures.write(tmp_path / "pics", ["ant/0.png"])
    dataset = pictures.load(tmp_path / "pics")
    (tmp_path / "pics" / "ant" / "0.png").unlink()
    (tmp_path / "pics" / "ant" / "0.png").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="a link leads out"):
        survey(dataset)


def test_progress_counts_every_image(tmp_path):
    pictures.write(tmp_path, ["train/a/0.png", "train/a/1.png", "test/a/2.png"])
    told = []
    survey(pictures.load(tmp_path), lambda *seen: told.append(seen))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_doubles_of_cifar100_are_the_known_ones():
    """14 training images repeat another; 10 test images are training images."""
    seen = survey(datasets.load("cifar100_lt:ir=1,val=none", shared_data.cifar100_root()))
    train = [sum(place.split == "train" for place in group) for group in seen.doubles]
    assert sum(count - 1 for count in train if count) == 14
    leaked = [
        place for group in seen.doubles for place in group
        if place.split == "test" and any(other.split == "train" for other in group)
    ]  # fmt: skip
    assert len(leaked) == 10
    assert seen.sizes == {(32, 32): 60_000}
