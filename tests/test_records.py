"""Records: what folds into a linear classifier, what the shapes must be."""

import numpy as np
import pytest

from ltkit.errors import InputError
from ltkit.records import (
    BLOCK_BYTES,
    Classifier,
    ClassTable,
    Correction,
    Dataset,
    FeatureSet,
    FeatureSplit,
    Head,
    ImageSplit,
    Neighbors,
    block_rows,
    blocks,
    joined,
    members,
    shot_groups,
)


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def logits_by_definition(head, features):
    """The mean over experts of scale * f' w' + b, in double precision, one number at a time."""
    weight = head.weight.astype(np.float64).reshape(head.experts, head.num_classes, -1)
    bias = head.bias.astype(np.float64).reshape(head.experts, -1)
    out = np.zeros((len(features), head.num_classes))
    for row, feature in enumerate(features.astype(np.float64)):
        for expert, part in enumerate(np.split(feature, head.experts)):
            for class_id, w in enumerate(weight[expert]):
                f = part
                if head.normalize in ("features", "cosine"):
                    f = part / np.sqrt((part**2).sum())
                if head.normalize == "cosine":
                    w = w / np.sqrt((w**2).sum())
                out[row, class_id] += head.scale * (f @ w) + bias[expert, class_id]
    return out / head.experts


@pytest.mark.parametrize("normalize", ["none", "features", "cosine"])
@pytest.mark.parametrize("experts", [None, 1, 3])
@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_a_folded_head_has_the_same_logits(normalize, experts, scale):
    shape = (5, 4) if experts is None else (experts, 5, 4)
    head = Head(array(*shape), array(*shape[:-1], seed=1), scale, normalize)
    assert (head.num_classes, head.experts) == (5, experts or 1)
    assert head.feature_size == 4 * (experts or 1)
    features = 7 * array(6, head.feature_size, seed=2)
    folded = head.fold()
    assert folded.weight.dtype == folded.bias.dtype == np.float32
    assert (folded.num_classes, folded.feature_size) == (5, head.feature_size)
    expected = logits_by_definition(head, features)
    np.testing.assert_allclose(folded.logits(features), expected, rtol=1e-4, atol=1e-4)
    half = features.astype(np.float16)
    expected = logits_by_definition(head, half)
    np.testing.assert_allclose(folded.logits(half), expected, rtol=1e-4, atol=1e-4)


def test_a_zero_feature_has_the_bias_as_logits():
    head = Head(array(3, 4), array(3, seed=1), 16.0, "cosine")
    np.testing.assert_allclose(head.fold().logits(np.zeros((1, 4)))[0], head.bias)


def test_preparing_leaves_the_features_alone():
    features = array(3, 4)
    before = features.copy()
    Classifier(array(2, 4), array(2), normalize_features=True).logits(features)
    np.testing.assert_array_equal(features, before)


def test_a_correction_changes_its_rows_only():
    base = Classifier(array(4, 3), array(4), normalize_features=True, experts=3)
    rows, biases = array(2, 2, 3, seed=1), array(2, 2, seed=2)
    correction = Correction("x", np.array([1, 3]), rows, biases, ({}, {}))
    found = correction.classifier(base, 1)
    np.testing.assert_array_equal(found.weight[[1, 3]], rows[1])
    np.testing.assert_array_equal(found.bias[[1, 3]], biases[1])
    np.testing.assert_array_equal(found.weight[[0, 2]], base.weight[[0, 2]])
    np.testing.assert_array_equal(found.bias[[0, 2]], base.bias[[0, 2]])
    assert not np.array_equal(base.weight, found.weight)
    assert (found.normalize_features, found.experts) == (False, 3)


@pytest.mark.parametrize(
    ("count", "bins", "group"),
    [
        (0, (20, 100), "few"), (19, (20, 100), "few"), (20, (20, 100), "medium"),
        (100, (20, 100), "medium"), (101, (20, 100), "many"), (5, (5, 5), "medium"),
        (4, (5, 5), "few"), (6, (5, 5), "many"),
    ],
)  # fmt: skip
def test_shot_groups_at_their_bounds(count, bins, group):
    groups = shot_groups(np.array([count]), bins)
    assert [name for name, members in groups.items() if len(members)] == [group]


def test_every_class_is_in_one_group_and_base_is_sorted():
    counts = np.array([150, 3, 50, 500, 20, 19, 101])
    groups = shot_groups(counts)
    assert groups.base.tolist() == [0, 2, 3, 4, 6]
    together = np.concatenate([ids for _, ids in groups.items()])
    assert sorted(together.tolist()) == list(range(7))
    assert together.dtype == np.int64


@pytest.mark.parametrize("bins", [(100, 20), (0, 20), (-1, 5), (20,), (1, 2, 3), ()])
def test_bins_that_are_not_two_ascending_counts(bins):
    with pytest.raises(InputError, match=r"^bins: found .*, expected two counts, as 20,100"):
        shot_groups(np.array([1]), bins)


def test_members_of_a_group_by_name():
    groups = shot_groups(np.array([150, 3, 50, 500]))
    for name, ids in groups.items():
        assert members(groups, name, "--classes") is ids
    assert members(groups, "base", "--classes").tolist() == [0, 2, 3]
    assert members(groups, "all", "--classes").tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="--classes: found tail, expected few, medium, many, base"):
        members(groups, "tail", "--classes")


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (3, 3), (7, 3), (5, 100)])
def test_blocks_cover_every_row_once(count, size):
    cuts = list(blocks(count, size))
    assert [i for rows in cuts for i in range(rows.start, rows.stop)] == list(range(count))
    assert all(0 < rows.stop - rows.start <= size for rows in cuts)


def test_a_block_has_a_row_at_least():
    assert block_rows(BLOCK_BYTES // 4) == 4
    assert block_rows(10 * BLOCK_BYTES) == 1
    assert block_rows(0) == BLOCK_BYTES


def test_a_split_is_read_in_slices():
    features = np.arange(3 * 4_000_000, dtype=np.float32).reshape(3, -1)
    split = FeatureSplit(features, np.array([0, 1, 2]))
    read = list(split.blocks())
    assert len(read) == len(list(split.slices())) == 1 == len(split) - 2
    np.testing.assert_array_equal(np.concatenate([part for _, part, _ in read]), features)
    assert np.concatenate([labels for *_, labels in read]).tolist() == [0, 1, 2]


# Shapes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classifier(array(3, 4), array(4)), r"weight \(3, 4\) and bias \(4,\) do not fit"),
        (lambda: Classifier(array(3), array(3)), "do not fit"),
        (lambda: Classifier(array(3, 4), array(3), experts=3), "4 features do not divide into 3"),
        (lambda: Head(array(3, 4), array(4)), r"weight \(3, 4\) and bias \(4,\) do not fit"),
        (lambda: Head(array(2, 3, 4), array(3)), "do not fit"),
        (lambda: Head(array(3), array(3)), "do not fit"),
        (lambda: FeatureSplit(array(3, 4), np.zeros(4)), r"features \(3, 4\), labels \(4,\)"),
        (lambda: FeatureSplit(array(3), np.zeros(3)), r"features \(3,\)"),
        (lambda: ClassTable(np.ones(3), names=("a",)), "1 entries for 3 classes"),
        (lambda: ClassTable(np.ones(3), wnids=("a",) * 4), "4 entries for 3 classes"),
        (lambda: ClassTable(np.ones(3), coarse=()), "0 entries for 3 classes"),
        (
            lambda: Neighbors(np.array([1]), np.zeros((2, 3)), array(2, 3)),
            r"neighbours \(2, 3\), distances \(2, 3\)",
        ),
        (lambda: Neighbors(np.array([1]), np.zeros((1, 3)), array(1, 2)), "neighbours"),
        (
            lambda: Correction("x", np.array([1]), array(2, 1, 4), array(1, 1), ({},)),
            r"weight \(2, 1, 4\), bias \(1, 1\), runs x rows \(1, 1\)",
        ),
        (lambda: Correction("x", np.array([1]), array(1, 1, 4), array(1, 2), ({},)), "weight"),
        (lambda: ImageSplit(np.zeros((2, 1)), np.zeros(3), np.zeros(2)), "2 images, 3 labels"),
        (lambda: ImageSplit(np.zeros((2, 1)), np.zeros(2), np.zeros(3)), "2 images, 2 labels"),
    ],
)
def test_shapes_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_absent_is_named():
    split = FeatureSplit(array(3, 4), np.array([0, 1, 2]))
    features = FeatureSet({"train": split}, ClassTable(np.ones(3)), source="f.h5")
    assert features.split("train") is split
    assert features.feature_size == 4
    with pytest.raises(InputError, match=r"f\.h5: no split val; there are: train"):
        features.split("val")
    with pytest.raises(InputError, match=r"f\.h5: head: absent, and no base"):
        features.classifier()
    head = Head(array(3, 4), array(3), scale=2.0)
    own = FeatureSet({"train": split}, ClassTable(np.ones(3)), head).classifier()
    np.testing.assert_array_equal(own.weight, 2 * head.weight)
    with pytest.raises(InputError, match="there are: none"):
        FeatureSet({}, ClassTable(np.ones(3))).split("val")
    images = ImageSplit(np.zeros((1, 2)), np.zeros(1), np.array(["a"]))
    dataset = Dataset(
        {"train": images}, ClassTable(np.ones(1)), (0,), (1,), 0, False, {"spec": "d"}
    )
    assert dataset.split("train") is images
    with pytest.raises(InputError, match="d: no split test; there are: train"):
        dataset.split("test")


def test_a_class_without_a_name_is_called_by_its_number():
    assert ClassTable(np.ones(2)).name(1) == "1"
    assert ClassTable(np.ones(2), ("a", "b")).name(1) == "b"


def test_shapes_of_neighbours():
    assert Neighbors(np.array([1, 2]), np.zeros((2, 3)), array(2, 3)).k == 3


def test_corrections_of_other_classes_are_not_joined():
    one, other = (
        Correction("x", np.array([number]), array(1, 1, 4), array(1, 1), ({},)) for number in (1, 2)
    )
    assert joined([one, one]).weight.shape == (2, 1, 4)
    with pytest.raises(ValueError, match="change different classes"):
        joined([one, other])
