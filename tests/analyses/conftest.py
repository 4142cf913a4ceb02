"""The bundled features with fits of them, made once, and what these predict."""

import shutil

import numpy as np
import pytest
from analysed import DEMO, RHOS, SEEDS, run

from ltkit.evaluation import predict
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.records import Correction


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bundled features, fits of nearest and of random neighbours, and an adjusted head."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(DEMO, folder / "feats.h5")
    for metric in ("euclidean", "random"):
        run(
            "alphanet", "fit", folder / "feats.h5", "--rho", "0.5,1", "--seeds", SEEDS,
            "--epochs", "2", "--k", "4", "--metric", metric, "-o", folder / f"{metric}.h5", "-q",
        )  # fmt: skip
    run("posthoc", "logit-adjust", folder / "feats.h5", "--set", "tau=1", "-q")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    for file in made.glob("*.h5"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def known(made):
    """What the own head and the runs of the nearest-neighbour fit predict of test, by `predict`."""
    features = features_file.read(made / "feats.h5")
    correction, _ = classifiers.read(made / "euclidean.h5")
    data = features.split("test")
    base = features.classifier()
    own, found = predict(data, base, [Correction.baseline(base), correction])
    rho = np.array([r["rho"] for r in correction.runs])
    train = features.split("train")
    means = np.stack(
        [train.features[:][train.labels == c].mean(axis=0, dtype=np.float64) for c in range(100)]
    )
    return {
        "features": features, "correction": correction, "labels": data.labels, "means": means,
        "before": own.predicted[0], "after": {r: found.predicted[rho == r] for r in RHOS},
    }  # fmt: skip


@pytest.fixture
def small(folder):
    """Six classes without wnids: four base, one few, and one that was never trained."""
    rng = np.random.default_rng(0)
    counts = (130, 40, 30, 25, 6, 0)
    centres = 2 * rng.normal(size=(6, 5))
    names = ["[b]dog[/b]", "cat", "cow", "4", "=rare", "unseen"]
    arrays = {"weight": centres, "bias": np.zeros(6), "train_counts": np.array(counts),
              "class_names": np.array(names)}  # fmt: skip
    for split, numbers in (
        ("train", counts),
        ("val", (4, 4, 4, 4, 0, 4)),
        ("test", (9,) * 5 + (4,)),
    ):
        labels = np.repeat(np.arange(6), numbers)
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_features"] = centres[labels] + rng.normal(size=(len(labels), 5))
    np.savez("a.npz", **{n: np.float32(v) if v.dtype == float else v for n, v in arrays.items()})
    (folder / "small").mkdir()
    run("import", "a.npz", "-o", "small/feats.h5", "-q")
    return "small/feats.h5"
