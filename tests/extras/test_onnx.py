"""ONNX models: values in the file or beside it, run with onnxruntime, written back."""

import warnings

import made
import numpy as np
import pytest
import torch
from onnx_models import (
    BIAS,
    BIASED,
    BY_COLUMNS,
    ENDS,
    FILTERS,
    WEIGHT,
    C,
    D,
    export,
    features_of,
    logits_of,
    model_of,
    randn,
    save,
)
from torch import nn
from torch.nn import functional

from ltkit import checkpoints
from ltkit.errors import InputError
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "m.onnx"


@pytest.mark.parametrize("beside", [(), ("w", "b", "k")])
@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_model_is_cut_at_its_last_layer(path, end, beside, constants):
    save(model_of(end, constants=constants), path, beside)
    model, images = checkpoints.load(path), randn(5, 3, 16, 16)
    assert (model.family, model.arch, model.image_size) == ("onnx", "small", 16)
    features, logits = model.network.eval().features_and_logits(images)
    torch.testing.assert_close(features, features_of(images))
    torch.testing.assert_close(logits, logits_of(images, end in BIASED))
    extraction.check_head(model.network, model.head, images)
    np.testing.assert_array_equal(model.head.weight, WEIGHT.numpy())
    names = {"head.weight": "w"} | ({"head.bias": "b"} if end in BIASED else {})
    assert {ours: there.name for ours, there in model.stored.items()} == names
    assert model.stored["head.weight"].transposed == (end in BY_COLUMNS)
    assert any("softmax is left out" in note for note in model.notes) == (end == "Softmax")


@pytest.mark.parametrize("beside", [(), ("w", "k")])
@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_the_corrected_model_differs_in_its_head_alone(path, tmp_path, end, beside, constants):
    import onnx

    save(model_of(end, constants=constants), path, beside)
    output = tmp_path / "sub" / "out.onnx"
    output.parent.mkdir()
    classifier = export(path, output, bias=end in BIASED)
    images = randn(4, 3, 16, 16)
    found = checkpoints.load(output).network(images)
    np.testing.assert_allclose(found, classifier.logits(features_of(images).numpy()), atol=1e-5)
    old, new = onnx.load_model(path), onnx.load_model(output, load_external_data=False)
    for before, after in zip(old.graph.initializer, new.graph.initializer, strict=True):
        assert (before.name, before.data_type, before.dims) == (
            after.name, after.data_type, after.dims,
        )  # fmt: skip
        if before.name not in ("w", "b"):
            before.ClearField("external_data")
            before.ClearField("data_location")
            after.ClearField("data_location")
            assert before == after
    if not constants:
        assert list(old.graph.node) == list(new.graph.node)
    assert made.beside(output) == ["out.onnx"]


def test_the_digest_is_of_both_files(path):
    save(model_of(), path, ("w",))
    before = checkpoints.read(path).digest
    beside = path.with_name("m.onnx.data")
    content = bytearray(beside.read_bytes())
    content[0] ^= 1
    beside.write_bytes(content)
    assert checkpoints.read(path).digest != before


def test_what_torch_exports(path, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, D, 3, bias=False), nn.Linear(D, C)
            self.conv.weight.data, self.fc.weight.data, self.fc.bias.data = FILTERS, WEIGHT, BIAS

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))

    images = randn(4, 3, 16, 16)
    for dynamo in (True, False):
        named = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamo else {
            "dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}  # fmt: skip
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(Net().eval(), (images,), path, dynamo=dynamo, verbose=False, **named)
        model = checkpoints.load(path)
        names = {ours: there.name for ours, there in model.stored.items()}
        assert names == {"head.weight": "fc.weight", "head.bias": "fc.bias"}
        torch.testing.assert_close(model.network(images), logits_of(images))
        classifier = export(path, tmp_path / "out.onnx")
        found = checkpoints.load(tmp_path / "out.onnx").network(images)
        expected = classifier.logits(features_of(images).numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_computed_with_in_float32(path, tmp_path, kind):
    if kind == "float16":
        dtype, torchs = np.float16, torch.float16
    else:
        import ml_dtypes

        dtype, torchs = ml_dtypes.bfloat16, torch.bfloat16
    save(model_of("Gemm, Add", dtype), path, ("w",))
    model, images = checkpoints.load(path), randn(4, 3, 16, 16)
    assert f"{kind} weights are computed with in float32" in model.notes
    features, logits = model.network.features_and_logits(images)
    body = functional.conv2d(images, FILTERS.to(torchs).float()).relu().mean((2, 3))
    torch.testing.assert_close(features, body)
    weight, bias = WEIGHT.to(torchs).float(), BIAS.to(torchs).float()
    torch.testing.assert_close(logits, body @ weight.T + bias)
    export(path, tmp_path / "out.onnx")
    state = checkpoints.read(tmp_path / "out.onnx").states["program",]
    assert state["w"].dtype == state["b"].dtype == torchs
    assert torch.equal(state["w"][:5], WEIGHT[:5].to(torchs))


def test_casts_to_half_precision_are_dropped(path):
    from onnx import helper

    model = model_of()
    model.graph.node.insert(2, helper.make_node("Cast", ["r"], ["r16"], to=10))
    model.graph.node.insert(3, helper.make_node("Cast", ["r16"], ["r32"], to=1))
    model.graph.node[4].input[0] = "r32"
    save(model, path)
    images = randn(4, 3, 16, 16)
    torch.testing.assert_close(checkpoints.load(path).network(images), logits_of(images))


def test_a_model_for_one_number_of_images(path):
    save(model_of(shape=(2, 3, 96, 96)), path)
    model, images = checkpoints.load(path), randn(5, 3, 96, 96)
    torch.testing.assert_close(model.network(images), logits_of(images))
    assert "the program takes 2 images at a time" in model.notes
    assert (model.view.resize, model.view.crop) == (109, 96)
    with pytest.raises(InputError, match="does not take a batch of"):
        extraction.check_head(model.network, model.head, images[..., :32, :32])


def test_file_to_features(path, tmp_path):
    save(model_of(shape=("n", 3, "h", "w")), path, ("w",))
    images = np.random.default_rng(0).integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(images, np.arange(14) % C, np.arange(14).astype(str))
    data = Dataset(
        {"test": split}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3, 0, False,
        {"spec": "random", "index_digest": "x"},
    )  # fmt: skip
    model = checkpoints.load(path, LoadSettings(mean=(0.4,) * 3, std=(0.2,) * 3))
    output = tmp_path / "f.h5"
    extraction.extract(model, data, ("test",), output, ExtractSettings(batch_size=8))
    found = features_file.read(output)
    values = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.4) / 0.2
    logits = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(logits, logits_of(values), atol=1e-4)
