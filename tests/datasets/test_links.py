"""Links in the folders of a dataset."""

import os

import pytest
from listed import write_images, write_list

from ltkit import datasets
from ltkit.errors import InputError

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
