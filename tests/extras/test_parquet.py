"""The table of samples, read by another reader."""

import numpy as np
import pytest

from ltkit.exports.tables import write_samples
from ltkit.records import Classifier, ClassTable, FeatureSplit, shot_groups

pytestmark = pytest.mark.extras


def test_a_row_a_sample(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    counts, names = np.array([200, 50, 5]), ("a", "b", "c")
    base = Classifier(rng.normal(size=(3, 4)).astype(np.float32), np.float32([0.1, 0, -0.1]))
    features, labels = rng.normal(size=(23, 4)).astype(np.float32), rng.integers(0, 3, 23)
    split = FeatureSplit(features, labels, np.array([f"i/{n}" for n in range(23)]))
    monkeypatch.setattr(
        FeatureSplit, "slices", lambda self: (slice(s, min(s + 5, 23)) for s in range(0, 23, 5))
    )
    path = tmp_path / "p.parquet"
    write_samples(
        "parquet", path, base, split, "val", ClassTable(counts, names), shot_groups(counts)
    )
    logits = features.astype(np.float64) @ base.weight.T + base.bias
    order = np.argsort(-logits, axis=1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 23
    for number, row in enumerate(rows):
        said, truth = int(order[number, 0]), int(labels[number])
        assert row.pop("confidence") == pytest.approx(shares[number, said], abs=1e-6)
        assert row == {
            "id": f"i/{number}", "split": "val", "label": truth, "predicted": said,
            "label_name": names[truth], "predicted_name": names[said],
            "rank": order[number].tolist().index(truth),
            "shot_group": ("many", "medium", "few")[truth],
        }  # fmt: skip
