"""The section of local pseudo-attributes: its numbers, its pictures, and what it says without."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reports import collected, embedded, records, rendered, sectioned, small

from ltkit import datasets
from ltkit.evaluation.analysis import nearest_images
from ltkit.records import FeatureSet
from ltkit.reporting import page, pictures, sections


def shared(features, ids=True):
    """Features with shares in three prototypes, and ids of images."""
    rng, splits = np.random.default_rng(0), {}
    for name, split in features.splits.items():
        local = rng.dirichlet(np.ones(3), len(split)).astype(np.float32)
        named = np.array([f"{name}/{i}.png" for i in range(len(split))]) if ids else None
        splits[name] = replace(split, ids=named, local=local)
    return replace(features, splits=splits, prototypes=np.eye(3, features.feature_size))


@pytest.fixture
def features():
    return shared(small(tuple("abcde")))


def test_without_shares_it_says_what_to_do():
    part = sectioned(small(tuple("abcde")))["attributes"]
    assert "extract it with --local" in part.absent


def test_the_rows_are_those_of_the_command(features):
    part = sectioned(features)["attributes"]
    balance, nearest = part.exhibits
    assert [trace["name"] for trace in balance.views[0].traces][2] == "perfectly even"
    for trace in balance.views[0].traces:
        assert (trace["x"][0], trace["y"][0]) == (0, 0)
        assert (trace["x"][-1], round(trace["y"][-1], 3)) == (100, 100)
        assert np.all(np.diff(trace["y"]) >= 0)
    split = part.found["split"]
    for one in part.found["nearest"]:
        c = one["query"]["class"]
        again = nearest_images(features, split=split, of_class=str(c), by="cosine", count=6)
        assert one == again
        shares = features.split(split).local[:][features.split(split).labels == c]
        assert one["query"]["share"] == shares[:, one["attribute"]].max()
    assert "name the dataset's folder with --images" in nearest.caption
    found = embedded(rendered(features))["exhibits"]["attribute-nearest"]
    hits = [hit for one in part.found["nearest"] for hit in one["images"]]
    assert [row["id"] for row in records(found)] == [hit["id"] for hit in hits]


def test_pictures_stand_in_the_table(features, tmp_path):
    for name, split in features.splits.items():
        (tmp_path / name).mkdir()
        for place, path in enumerate(split.ids.tolist()):
            Image.new("RGB", (80, 80), (place, 0, 0)).save(tmp_path / path)
    album = pictures.Pictures(features, tmp_path)
    collection = collected(features, pictures=album)
    text = page.render(collection, sections.make(collection))
    (part,) = [part for part in sections.make(collection) if part.key == "attributes"]
    shown = [one for nearest in part.found["nearest"] for one in nearest["images"]]
    shown += [nearest["query"] for nearest in part.found["nearest"]]
    assert all(f'<img src="{album(one["id"])}" alt="">' in text for one in shown)
    assert "Their pictures are not shown" not in text


def test_pictures_that_are_not_found_are_said(features, tmp_path):
    collection = collected(features, pictures=lambda name: None)
    text = page.render(collection, sections.make(collection))
    assert "Their pictures were not found in the folder." in text


def test_images_without_ids_have_no_pictures():
    features = shared(small(tuple("abcde")), ids=False)
    collection = collected(features, pictures=lambda name: "data:,")
    assert '<img src="data:,"' not in page.render(collection, sections.make(collection))


def test_pictures_of_an_archive_are_found_by_their_ids(tmp_path):
    """Those of the digits, which need no files; a name of another dataset opens nothing."""
    digits = datasets.load("digits_lt")
    record = {"dataset": dict(digits.record)}
    features = FeatureSet({}, digits.classes, settings=record)
    album = pictures.Pictures(features, tmp_path)
    train = digits.split("train")
    url = album(str(train.ids[3]))
    content = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (64, 64)
        pixels = np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), float)
    assert np.abs(pixels - train.images[3][:, :, 0]).max() < 12
    assert album("digit/9999") is None
    for spec in ("/etc", "cifar10_lt", "cifar100_lt:ir=x", 3, None):
        other = FeatureSet({}, digits.classes, settings={"dataset": {"spec": spec}})
        assert pictures.Pictures(other, tmp_path).held == {}
    assert pictures.Pictures(FeatureSet({}, digits.classes, settings={"dataset": 3}), tmp_path)
