"""Local pseudo-attributes: profiles, balance and retrieval, beside plain loops."""

import json
from dataclasses import replace

import made
import numpy as np
import pytest
from analysed import DEMO, refused, run

from ltkit.evaluation.analysis import analyze_attributes, attributes, nearest_images
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable, FeatureSet, FeatureSplit

NAMES = ("ant", "bee", "cow", "dog")
COUNTS = np.array([30, 12, 3, 0])
K = 5


def shared(seed=0, names=NAMES, ids=True):
    """Features of four classes, one without images, with shares in five prototypes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), COUNTS))
    local = rng.dirichlet(np.full(K, 0.4), len(labels)).astype(np.float32)
    named = np.array([f"pics/{i:02d}.png" for i in range(len(labels))]) if ids else None
    features = rng.normal(size=(len(labels), 6)).astype(np.float32)
    train = FeatureSplit(features, labels, named, local)
    centres = rng.normal(size=(K, 6)).astype(np.float32)
    return FeatureSet({"train": train}, ClassTable(COUNTS, names), prototypes=centres)


@pytest.fixture
def path(tmp_path):
    """The same in a file."""
    found, output = shared(), tmp_path / "f.h5"
    train = found.split("train")
    plan = Plan(6, "float32", {"train": SplitPlan(train.labels, train.ids)}, found.classes, None,
                settings={}, prototypes=found.prototypes)  # fmt: skip
    with FeaturesWriter(output, plan, command="c", resume=False) as writer:
        writer.append("train", train.features)
        writer.append("train/local", train.local)
        writer.finish()
    return output


def naive_profiles(found):
    train = found.split("train")
    return [
        np.mean([train.local[i] for i in range(len(train)) if train.labels[i] == c], axis=0)
        for c in range(3)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_class_has_what_is_above_the_mean(seed):
    found = shared(seed)
    document = analyze_attributes(found, top=2)
    profiles = naive_profiles(found)
    mean = sum(profiles) / 3
    assert [c["class"] for c in document["classes"]] == [0, 1, 2]  # the fourth has no image
    for c in document["classes"]:
        above = profiles[c["class"]] - mean
        best = sorted(range(K), key=lambda k: -above[k])[:2]
        assert [a["attribute"] for a in c["attributes"]] == best
        for a in c["attributes"]:
            assert a["share"] == pytest.approx(profiles[c["class"]][a["attribute"]], rel=1e-5)
            assert a["above_mean"] == pytest.approx(above[a["attribute"]], abs=1e-6)
        assert (c["name"], c["images"]) == (NAMES[c["class"]], COUNTS[c["class"]])


def test_balance_is_that_of_pairs():
    """Gini is half the mean difference of two, over the mean."""
    found = shared(1)
    balance = analyze_attributes(found)["balance"]
    overall = found.split("train").local[:].mean(axis=0)
    for name, shares in (("classes", COUNTS[:3] / 45), ("attributes", overall)):
        pairs = np.abs(shares[:, None] - shares)
        assert balance[name]["gini"] == pytest.approx(pairs.mean() / (2 * shares.mean()), rel=1e-5)
        entropy = -sum(p * np.log(p) for p in shares if p)
        assert balance[name]["evenness"] == pytest.approx(entropy / np.log(len(shares)), rel=1e-5)
        assert balance[name]["shares"] == pytest.approx(sorted(shares, reverse=True), rel=1e-5)


def test_a_single_attribute_has_no_evenness():
    found = shared()
    train = replace(found.split("train"), local=np.ones((45, 1), np.float32))
    document = analyze_attributes(replace(found, splits={"train": train}))
    assert document["balance"]["attributes"]["evenness"] is None
    assert document["balance"]["attributes"]["gini"] == 0


@pytest.mark.parametrize("by", ["share", "cosine"])
@pytest.mark.parametrize("of", ["image", "class"])
def test_the_nearest_images_are_those_of_a_loop(monkeypatch, by, of):
    """In blocks of a few rows, too."""
    monkeypatch.setattr(
        FeatureSplit, "slices", lambda self: (slice(i, i + 7) for i in range(0, 45, 7))
    )
    for seed in range(4):
        found = shared(seed)
        train, profiles = found.split("train"), naive_profiles(found)
        mean = sum(profiles) / 3
        given = {"image": "pics/07.png"} if of == "image" else {"of_class": "cow"}
        document = nearest_images(found, **given, by=by, count=6)
        own = train.local[7] if of == "image" else profiles[2]
        attribute = int(np.argmax(own - mean))
        assert document["attribute"] == attribute
        assert document["share"] == pytest.approx(own[attribute], rel=1e-5)
        scored = []
        for row, shares in enumerate(train.local):
            left_out = row == 7 if of == "image" else train.labels[row] == 2
            cosine = shares @ own / np.linalg.norm(shares) / np.linalg.norm(own)
            alike = by == "share" or np.argmax(shares - mean) == attribute
            if not left_out and alike and shares[attribute] > 0:
                scored.append((shares[attribute] if by == "share" else cosine, row))
        expected = [row for _, row in sorted(scored, key=lambda pair: -pair[0])][:6]
        assert [hit["row"] for hit in document["images"]] == expected
        assert [hit["id"] for hit in document["images"]] == [f"pics/{r:02d}.png" for r in expected]
        shares = [train.local[row][attribute] for row in expected]
        assert [hit["share"] for hit in document["images"]] == pytest.approx(shares)
        if of == "class":
            cows = np.flatnonzero(train.labels == 2)
            best = cows[np.argmax(train.local[cows][:, attribute])]
            assert document["query"]["row"] == best


def test_rows_and_numbers_are_names_too():
    found = shared(ids=False, names=None)
    assert nearest_images(found, image="7")["query"] == nearest_images(found, image="07")["query"]
    document = nearest_images(found, of_class="2")
    assert document["query"]["name"] == "2"
    assert document["images"][0]["id"] is None


def test_what_is_refused():
    found = shared()
    train = found.split("train")
    plain = replace(found, splits={"train": replace(train, local=None)})
    none = np.zeros(0, np.int64)
    empty = replace(found, splits={"train": train.at(none)})
    for call, message in (
        (lambda: analyze_attributes(plain), "found no shares in local prototypes"),
        (lambda: analyze_attributes(empty), "train: found no images"),
        (lambda: analyze_attributes(found, split="val"), "no split val"),
        (lambda: analyze_attributes(found, top=0), "top: found 0"),
        (lambda: nearest_images(found), "image: expected an image, or else a class"),
        (lambda: nearest_images(found, image="1", of_class="ant"), "image: expected an image"),
        (lambda: nearest_images(found, image="1", count=0), "count: found 0"),
        (lambda: nearest_images(found, image="45"), "found '45', expected an id, as 'pics/00.png'"),
        (lambda: nearest_images(found, image="-1"), "a row from 0 to 44"),
        (lambda: nearest_images(found, of_class="cat"), "class: found 'cat'; "),
        (lambda: nearest_images(found, of_class="4"), "class: found '4'"),
        (lambda: nearest_images(found, of_class="dog"), "dog: found no image in train"),
    ):  # fmt: skip
        made.refused(call, message)


def test_shares_are_counted_as_they_are():
    assert attributes.gini(np.array([3.0])) == 0
    assert attributes.evenness(np.array([3.0])) is None


# The command


def test_the_command_prints_them(path, tmp_path):
    csv = tmp_path / "a.csv"
    printed = run("analyze", "attributes", path, "--csv", csv, "-q").stdout
    assert all(name in printed for name in ("classes", "attributes", "Gini", "ant (30)", "cow (3)"))
    assert printed.index("cow (3)") < printed.index("ant (30)")
    assert len(csv.read_text().splitlines()) == 1 + 3 * 3
    document = json.loads(run("analyze", "attributes", path, "--json").stdout)
    assert document["schema"] == "ltkit.analyze-attributes/1"
    assert document == json.loads(json.dumps(analyze_attributes(shared()))) | {
        "features": str(path)
    }


def test_the_command_prints_the_nearest_images(path, tmp_path):
    printed = run("analyze", "attributes", path, "--class", "cow", "--count", "4").stdout
    document = json.loads(
        run("analyze", "attributes", path, "--class", "cow", "--count", "4", "--json").stdout
    )
    assert document["schema"] == "ltkit.nearest-images/1"
    assert len(document["images"]) == 4
    assert all(hit["id"] in printed for hit in document["images"])
    csv = tmp_path / "n.csv"
    words = ("--image", "pics/03.png", "--by", "cosine", "--csv", csv)
    printed = run("analyze", "attributes", path, *words).stdout
    assert "pics/03.png" in printed
    assert csv.read_text().startswith("row,id,class,name,train_count,share,cosine")


def test_the_command_refuses(path):
    assert "--by: found far" in refused("analyze", "attributes", path, "--by", "far")
    assert "one of them" in refused("analyze", "attributes", path, "--image", 1, "--class", "ant")
    assert "--class: found 'ape'" in refused("analyze", "attributes", path, "--class", "ape")
    assert "extract it with --local" in refused("analyze", "attributes", DEMO)
