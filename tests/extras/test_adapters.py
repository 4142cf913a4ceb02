"""LoRA adapters merged into transformers' networks, and networks without a head."""

import json
import math

import made
import numpy as np
import pytest
import safetensors.torch
import torch
from round_trip import C

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.exports.checkpoint import export_into
from ltkit.records import Correction
from ltkit.settings import LoadSettings

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "image_size": 32, "patch_size": 8}  # fmt: skip
LAYERS = {
    "encoder.layer.0.attention.attention.query": (16, 16),
    "encoder.layer.1.intermediate.dense": (32, 16),
}
BUILT = {"layers.0.attention.q_proj": (16, 16), "layers.1.attention.o_proj": (16, 16)}
"""Names in transformers' files, and in its networks since version 5, with their sizes."""


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def base(tmp_path):
    """An image classifier of 3 classes; `headless` of the same weights has none."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, num_labels=3)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "vit")
    model.vit.save_pretrained(tmp_path / "headless")
    return model


def adapter(folder, prefix="vit.", alpha=6, rank=2, whole=True, layers=LAYERS, **said):
    """What peft's save_pretrained writes."""
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none",
                "base_model_name_or_path": "somebody/vit", **said}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tensors = {}
    for number, (layer, (rows, columns)) in enumerate(layers.items()):
        name = f"base_model.model.{prefix}{layer}"
        tensors[f"{name}.lora_A.weight"] = rand(rank, columns, seed=number)
        tensors[f"{name}.lora_B.weight"] = rand(rows, rank, seed=number + 9)
    if whole:
        tensors["base_model.model.classifier.weight"] = rand(C, 16, seed=5)
        tensors["base_model.model.classifier.bias"] = rand(C, seed=6)
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    return tensors


@torch.no_grad()
def merged(folder, base, tensors, scale, layers):
    """The network by hand, W + s B A in its file or in itself, and its classifier."""
    import transformers

    if layers is LAYERS:
        state = safetensors.torch.load_file(folder / "model.safetensors")
    else:
        state = {n: t.clone() for n, t in base.state_dict().items()}
    for layer in layers:
        a, b = (next(t for n, t in tensors.items() if f"{layer}.lora_{part}" in n) for part in "AB")
        state[f"vit.{layer}.weight"] += scale * b @ a
    if layers is LAYERS:
        safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
        base = transformers.ViTForImageClassification.from_pretrained(folder)
    else:
        base.load_state_dict(state)
    base.classifier = torch.nn.Linear(16, C)
    base.classifier.weight.copy_(tensors["base_model.model.classifier.weight"])
    base.classifier.bias.copy_(tensors["base_model.model.classifier.bias"])
    return base.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("said", "scale"),
    [({}, 3.0), ({"use_rslora": True}, 6 / math.sqrt(2)),
     ({"alpha_pattern": {"query": 6, "intermediate.dense": 6}, "alpha": 9}, 3.0)],
)  # fmt: skip
@pytest.mark.parametrize("layers", [LAYERS, BUILT], ids=["files", "networks"])
@pytest.mark.parametrize("name", ["vit", "headless"])
def test_a_merged_adapter_there_and_back(tmp_path, base, said, scale, name, layers):
    folder, output = tmp_path / "lora", tmp_path / "fixed"
    base.save_pretrained(tmp_path / "by hand")
    if layers is BUILT and "vit.layers.0.attention.q_proj.weight" not in base.state_dict():
        pytest.skip("this transformers has its files' names in its networks")
    if layers is BUILT and "alpha_pattern" in said:
        said = said | {"alpha_pattern": {"q_proj": 6, "attention.o_proj": 6}}
    tensors = adapter(folder, layers=layers, **said)
    network = merged(tmp_path / "by hand", base, tensors, scale, layers)
    images = rand(3, 3, 32, 32, seed=7)
    wanted = LoadSettings(base_model=str(tmp_path / name))
    found = checkpoints.load(folder, wanted)
    features, logits = found.network.features_and_logits(images)
    expected = network(images).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    base_head, rows = found.head.fold(), np.array([1, 5])
    correction = Correction("made", rows, (base_head.weight[rows] * 2)[None],
                            (base_head.bias[rows] + 1)[None], ({},))  # fmt: skip
    export_into(folder, correction, 0, output, made_from=found.digest, wanted=wanted)
    again = checkpoints.load(output, wanted)
    np.testing.assert_allclose(
        again.network(images), correction.classifier(base_head, 0).logits(features.numpy()),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    new = safetensors.torch.load_file(output / "adapter_model.safetensors")
    changed = {n for n in tensors if not torch.equal(new[n], tensors[n])}
    assert changed == {f"base_model.model.classifier.{leaf}" for leaf in ("weight", "bias")}


def test_the_base_lies_beside_the_adapter(tmp_path, base):
    adapter(tmp_path / "lora")
    found = checkpoints.load(tmp_path / "lora")
    assert found.wanted.base_model == str(tmp_path / "vit")
    assert (found.head.num_classes, found.class_names) == (C, None)
    adapter(tmp_path / "lora", base_model_name_or_path="somebody/else")
    words = ("is a LoRA adapter of 'somebody/else'", "--base-model DIR")
    made.refused(lambda: checkpoints.load(tmp_path / "lora"), *words, error=InputError)


def test_a_classifier_of_the_base_takes_no_correction(tmp_path, base):
    adapter(tmp_path / "lora", whole=False)
    found = checkpoints.load(tmp_path / "lora")
    assert (found.head.num_classes, dict(found.stored)) == (3, {})
    changed = Correction("m", np.array([0]), np.ones((1, 1, 16), np.float32),
                         np.ones((1, 1), np.float32), ({},))  # fmt: skip
    made.refused(
        lambda: export_into(tmp_path / "lora", changed, 0, tmp_path / "o", made_from=found.digest),
        "lies in the base model and not in the adapter", "--to npz", error=InputError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "words"),
    [({"peft_type": "IA3"}, "found 'IA3', expected plain LORA"),
     ({"use_dora": True}, "found 'LORA' with use_dora"),
     ({"alpha_pattern": {"a.*b": 3}}, "alpha_pattern: found 'a.*b'"),
     ({"alpha": "x"}, "lora_alpha: found 'x'"), ({"prefix": "other.model."}, "--base-model DIR"),
     ({"fan_in_fan_out": True}, "of the base model")],
)  # fmt: skip
def test_what_cannot_be_merged(tmp_path, base, said, words):
    adapter(tmp_path / "lora", **said)
    made.refused(lambda: checkpoints.load(tmp_path / "lora"), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda t: t | {"base_model.model.x.lora_magnitude_vector": torch.ones(3)}, "not known in a"),
     (lambda t: t | {"other.weight": torch.ones(3)}, "other.weight: not known in a"),
     (lambda t: {n: v for n, v in t.items() if "lora_B" not in n}, "lora_A and lora_B do not fit"),
     (lambda t: {n: v[:1] if "lora_A" in n else v for n, v in t.items()}, "do not fit")],
)  # fmt: skip
def test_damaged_adapters(tmp_path, base, change, words):
    tensors = change(adapter(tmp_path / "lora"))
    tensors = {n: t.contiguous() for n, t in tensors.items()}
    safetensors.torch.save_file(tensors, tmp_path / "lora" / "adapter_model.safetensors")
    made.refused(lambda: checkpoints.load(tmp_path / "lora"), words, error=FormatError)


MODELS = {
    "ViTModel": ("ViTConfig", SMALL), "Dinov2Model": ("Dinov2Config", SMALL),
    "ResNetModel": ("ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16],
                                     "depths": [1, 1]}),
    "ConvNextModel": ("ConvNextConfig", {"hidden_sizes": [8, 8, 8, 12], "depths": [1] * 4}),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_networks_without_a_head(tmp_path, name):
    import transformers

    torch.manual_seed(0)
    config, settings = MODELS[name]
    model = getattr(transformers, name)(getattr(transformers, config)(**settings)).eval()
    model.save_pretrained(tmp_path / "hub")
    found, images = checkpoints.load(tmp_path / "hub"), rand(2, 3, 32, 32)
    assert (found.head, found.arch) == (None, name)
    features = found.network.features_and_logits(images)[0]
    expected = torch.flatten(model(images).pooler_output, 1)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert "no head: the features are what the backbone gives: its pooled output" in found.notes


@torch.no_grad()
def test_a_network_whose_pooler_was_not_saved_gives_its_first_token(tmp_path, base):
    found, images = checkpoints.load(tmp_path / "headless"), rand(2, 3, 32, 32)
    expected = base.eval().vit(images).last_hidden_state[:, 0]
    features = found.network.features_and_logits(images)[0]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert found.notes[-1].endswith("its first token")


def test_a_configuration_without_a_head_on_weights_with_one(tmp_path, base):
    path = tmp_path / "vit" / "config.json"
    said = json.loads(path.read_text(encoding="utf-8")) | {"architectures": ["ViTModel"]}
    path.write_text(json.dumps(said), encoding="utf-8")
    words = ("does not fit ViTModel", "unexpected: 2 (classifier.bias, classifier.weight)")
    made.refused(lambda: checkpoints.load(tmp_path / "vit"), *words, error=FormatError)
