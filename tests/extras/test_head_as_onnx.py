"""The head alone as an ONNX model, run by onnxruntime."""

import numpy as np
import pytest

from ltkit.exports.checkpoint import export_head
from ltkit.records import Classifier

pytestmark = pytest.mark.extras


@pytest.mark.parametrize(("normalize", "experts"), [(False, 1), (True, 1), (True, 3)])
def test_its_logits_are_the_classifiers(tmp_path, normalize, experts):
    import onnxruntime

    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(5, 12)), rng.normal(size=5)
    head = Classifier(weight.astype(np.float32), bias.astype(np.float32), normalize, experts)
    export_head(head, "onnx", tmp_path / "head.onnx")
    features = rng.normal(size=(7, 12)).astype(np.float32)
    features[3, :4] = 0  # a part without a direction
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx")
    (logits,) = session.run(["logits"], {"features": features})
    np.testing.assert_allclose(logits, head.logits(features), rtol=1e-5, atol=1e-5)
