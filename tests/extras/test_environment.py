"""Each optional package is there and builds a small network from its name, without a download."""

import json
import logging
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

CLASSES = 7
PINS = Path(__file__).parents[2] / "requirements"


def check(logits, images):
    """Finite logits, one row an image, that depend on the image."""
    assert logits.shape == (len(images), CLASSES)
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])


def made_images(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_torch_is_the_one_of_the_core():
    """No package brought another torch, or CUDA to a torch without it."""
    pins = (PINS / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"torch=={metadata.version('torch').split('+')[0]}" in pins
    cuda = [d.name for d in metadata.distributions() if d.name.lower().startswith("nvidia")]
    assert bool(cuda) == (torch.version.cuda is not None)


@pytest.mark.parametrize("file", ["constraints.txt", "extras.txt"])
def test_what_is_installed_is_what_is_pinned(file):
    """A package that is pinned but not here, or here in another version, tests nothing."""
    lines = (PINS / file).read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {n: metadata.version(n).split("+")[0] for n in pins} == pins


@torch.no_grad()
def test_torchvision():
    from torchvision import models

    network = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=CLASSES).eval()
    images = made_images(64)
    check(network(images), images)


@torch.no_grad()
def test_timm():
    import timm

    network = timm.create_model("test_vit", pretrained=False, num_classes=CLASSES).eval()
    images = made_images(network.default_cfg["input_size"][-1])
    check(network(images), images)


@torch.no_grad()
def test_transformers():
    from transformers import AutoModelForImageClassification, ViTConfig

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=8, num_labels=CLASSES,
    )  # fmt: skip
    network = AutoModelForImageClassification.from_config(config, trust_remote_code=False).eval()
    images = made_images(16)
    check(network(pixel_values=images).logits, images)


@torch.no_grad()
def test_open_clip(tmp_path):
    """The logits of a zero-shot head: scaled cosines of images and of the names of classes."""
    import open_clip

    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "ltkit-tiny.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "ltkit-tiny.json")
    logging.disable(logging.WARNING)  # that there are no weights
    try:
        network = open_clip.create_model("ltkit-tiny", pretrained=None).eval()
    finally:
        logging.disable(logging.NOTSET)
    tokens = open_clip.get_tokenizer("ltkit-tiny")([f"a photo of a {n}" for n in range(CLASSES)])
    images = made_images(16)
    rows = network.encode_text(tokens, normalize=True)
    features = network.encode_image(images, normalize=True)
    check(network.logit_scale.exp() * features @ rows.T, images)


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.`:FutureWarning")
@torch.no_grad()
def test_onnx(tmp_path):
    """An exported network gives torch's logits, and its graph is readable."""
    import onnx
    import onnxruntime

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, CLASSES),
    ).eval()  # fmt: skip
    images = made_images(16)
    path = tmp_path / "m.onnx"
    torch.onnx.export(network, (images,), path, dynamo=True, external_data=False, verbose=False)
    (last,) = [n for n in onnx.load(path).graph.node if n.op_type == "Gemm"]
    assert last.output[0] == onnx.load(path).graph.output[0].name
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    check(torch.from_numpy(logits), images)
    np.testing.assert_allclose(logits, network(images), atol=1e-5)
