"""A model's outputs as features: probabilities become logits; embeddings of classes make a head."""

import made
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.special import expit, softmax

from ltkit import face, posthoc
from ltkit.files import features
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

COUNTS = np.array([600, 200, 60, 20, 8])
PRIOR = COUNTS / COUNTS.sum()


def outputs():
    """Logits with a known answer: Bayes' rule of unit Gaussians under the training prior."""
    rng = np.random.default_rng(0)
    centres = 1.5 * np.eye(5)
    found = {}
    for split, counts in (("train", COUNTS), ("val", [10] * 5), ("test", [200] * 5)):
        labels = np.repeat(np.arange(5), counts)
        x = centres[labels] + rng.normal(size=(len(labels), 5))
        log_density = -((x[:, None] - centres) ** 2).sum(axis=2) / 2
        found[f"{split}_features"] = log_density + np.log(PRIOR)
        found[f"{split}_labels"] = labels
    return found


def imported(tmp_path, change, text_features=None, **settings):
    given = outputs()
    for split in ("train", "val", "test"):
        given[f"{split}_features"] = change(given[f"{split}_features"])
    np.savez(tmp_path / "a.npz", **{k: v for k, v in given.items() if v is not None})
    output = tmp_path / "f.h5"
    output.unlink(missing_ok=True)
    _, notes = import_arrays(
        tmp_path / "a.npz", output, settings=ImportSettings(**settings),
        text_features=text_features,
    )  # fmt: skip
    return features.read(output), notes


def balanced(found):
    """Accuracy after the training prior is taken out of the logits."""
    correction = posthoc.logit_adjust(found, tau=1.0)
    return face.evaluate(found, correction, replicates=20)["accuracy"]["all"].iloc[1]


def bayes():
    """The right answer: without the prior the nearest centre wins."""
    given = outputs()
    logits = given["test_features"] - np.log(PRIOR)
    return (logits.argmax(axis=1) == given["test_labels"]).mean()


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z, lambda z: softmax(z, axis=1), lambda z: softmax(z, axis=1).astype(np.float32),
        lambda z: 100 * softmax(z, axis=1), lambda z: np.log(softmax(z, axis=1)),
    ],
)  # fmt: skip
def test_logits_and_probabilities_give_the_same(tmp_path, change):
    found, notes = imported(tmp_path, change)
    assert balanced(found) == pytest.approx(bayes(), abs=1e-9)
    of_probabilities = change(np.zeros((1, 5))).min() > 0
    said = "probabilities, their log is taken" if of_probabilities else "taken as logits"
    assert said in notes[-1]


def test_probabilities_as_logits_would_be_wrong(tmp_path):
    found, notes = imported(tmp_path, lambda z: softmax(z, axis=1), scores="logits")
    assert balanced(found) < bayes() - 0.2
    assert "taken as logits" in notes[-1]


def test_zeros_are_as_the_least_there_is(tmp_path):
    def cut(z):
        p = softmax(z, axis=1).astype(np.float16).astype(np.float64)
        p[p < 1e-4] = 0
        return p

    found, notes = imported(tmp_path, cut)
    given = outputs()["test_features"]
    p, rows = cut(given), found.split("test").features[:]
    assert "zeros as 0.0001" in notes[-1]
    np.testing.assert_allclose(rows[p > 0], np.log(p[p > 0]), rtol=1e-5)
    assert np.unique(rows[p == 0]).tolist() == pytest.approx([np.log(1e-4)], rel=1e-2)


def test_rows_that_do_not_sum_to_1_are_asked_about(tmp_path):
    def of_sigmoid(z):
        return expit(z + 3)

    words = "scores: absent", "do not sum to 1; say logits, probabilities, sigmoid or features"
    made.refused(lambda: imported(tmp_path, of_sigmoid), *words)
    found, notes = imported(tmp_path, of_sigmoid, scores="sigmoid")
    expected = (outputs()["test_features"] + 3).astype(np.float32)
    rows = found.split("test").features[:]
    near = expected > -15  # beyond it, sigmoids near 0 are as the nearest
    np.testing.assert_allclose(rows[near], expected[near], rtol=1e-3, atol=1e-3)
    assert "sigmoid" in notes[-1]
    found, notes = imported(tmp_path, of_sigmoid, scores="features")
    assert found.head is None
    made.refused(
        lambda: imported(tmp_path, of_sigmoid, scores="probabilities"),
        "scores: probabilities: found values from",
    )
    made.refused(
        lambda: imported(tmp_path, lambda z: z, scores="sigmoid"), "scores: sigmoid: found values"
    )


def test_the_largest_probabilities_alone(tmp_path):
    """As some programs save them; a row's sum does not matter to its order, nor to a correction."""

    def largest(z):
        p = softmax(z, axis=1)
        return np.where(p < np.sort(p, axis=1)[:, [-3]], 0, p)

    made.refused(lambda: imported(tmp_path, largest), "scores: absent")
    found, _ = imported(tmp_path, largest, scores="probabilities")
    p, rows = largest(outputs()["test_features"]), found.split("test").features[:]
    np.testing.assert_allclose(rows[p > 0], np.log(p[p > 0]), rtol=1e-5)


def test_splits_are_saved_alike(tmp_path):
    seen = []

    def only_first(z):
        seen.append(z)
        return softmax(z, axis=1) if len(seen) == 1 else 2 + softmax(z, axis=1)

    made.refused(
        lambda: imported(tmp_path, only_first), "rows of train sum to 1", "save all splits alike"
    )


def test_a_sigmoid_of_two_classes(tmp_path):
    rng = np.random.default_rng(0)
    labels, z = np.repeat([0, 1], [60, 20]), rng.normal(size=(80, 1))
    np.savez(tmp_path / "a.npz", train_features=expit(z), train_labels=labels)
    output = tmp_path / "f.h5"
    import_arrays(tmp_path / "a.npz", output, settings=ImportSettings(scores="sigmoid"))
    rows = features.read(output).split("train").features[:]
    np.testing.assert_allclose(rows, np.hstack([np.zeros_like(z), z]), rtol=1e-4, atol=1e-6)
    output.unlink()
    import_arrays(tmp_path / "a.npz", output)  # unasked it is a feature
    assert features.read(output).head is None


def test_scores_need_as_many_columns_as_classes(tmp_path):
    made.refused(
        lambda: imported(tmp_path, lambda z: z[:, :4], scores="probabilities"),
        "scores: found probabilities, but 4 columns for 5 classes",
    )
    np.save(tmp_path / "t.npy", np.eye(5))
    made.refused(
        lambda: imported(
            tmp_path, lambda z: z, tmp_path / "t.npy", scores="logits", weight_rows="classes"
        ),
        "scores: found logits and a head",
    )


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "safetensors"])
def test_embeddings_of_classes_make_a_cosine_head(tmp_path, kind):
    texts = np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / f"t.{kind}"
    if kind == "npy":
        np.save(path, texts)
    elif kind == "npz":
        np.savez(path, text_features=texts, logit_scale=np.float32(4))
    elif kind == "pt":
        torch.save(torch.from_numpy(texts), path)
    else:
        save_file({"text_features": texts}, path)

    def widened(z):
        return np.hstack([z, z[:, :2] ** 2])

    found, _ = imported(tmp_path, widened, path)
    x = widened(outputs()["test_features"])
    cosine = (x @ texts.T.astype(np.float64)) / np.linalg.norm(x, axis=1, keepdims=True)
    cosine /= np.linalg.norm(texts.astype(np.float64), axis=1)
    logits = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(logits, 100 * cosine, rtol=1e-4, atol=1e-3)
    assert (found.head.normalize, found.head.scale) == ("cosine", 100.0)
    found, _ = imported(tmp_path, widened, path, scale=25.0)
    assert found.head.scale == 25


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"a": np.ones((5, 5)), "b": np.ones((5, 5))}, ["found 2 tables (a, b)"]),
        ({"a": np.ones(5)}, ["found 0 tables (a)", "expected one of (5, 5)"]),
        ({"a": np.ones((4, 5))}, ["found (4, 5), expected (5, 5)"]),
        (
            {"a": np.arange(25.0).reshape(5, 5)},
            ["weight_rows: absent", "text_features: found (5, 5)"],
        ),
        ({"a": np.diag([1, 1, 0, 1, 1.0])[:, [0, 1, 2, 3, 4]]}, ["row 2: found zeros alone"]),
        ({"a": np.full((5, 5), np.nan)}, ["NaN or infinity"]),
    ],
)
def test_embeddings_of_classes_that_are_none(tmp_path, texts, words):
    np.savez(tmp_path / "t.npz", **texts)
    asked = None if "weight_rows: absent" in words else "classes"
    made.refused(
        lambda: imported(tmp_path, lambda z: z, tmp_path / "t.npz", weight_rows=asked), *words
    )


def test_embeddings_of_classes_beside_a_weight(tmp_path):
    np.savez(tmp_path / "a.npz", **outputs(), weight=np.ones((5, 5)))
    np.save(tmp_path / "t.npy", np.ones((5, 5)))
    made.refused(
        lambda: import_arrays(
            tmp_path / "a.npz", tmp_path / "f.h5", text_features=tmp_path / "t.npy",
            settings=ImportSettings(weight_rows="classes"),
        ),
        "found a weight in", "name one of them",
    )  # fmt: skip
