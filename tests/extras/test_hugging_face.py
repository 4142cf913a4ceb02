"""Folders of transformers' image classifiers; nothing of them runs and nothing is fetched."""

import json
import shutil
import sys
from pathlib import Path

import made
import numpy as np
import pytest
import safetensors.torch
import torch
from round_trip import C, check, close, shaken

from ltkit import checkpoints
from ltkit.checkpoints.families import _library
from ltkit.checkpoints.families import hugging_face as family
from ltkit.errors import FormatError, InputError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings
from ltkit.untrusted import budget

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32, "image_size": 32, "patch_size": 8}  # fmt: skip

NETWORKS = {
    "ViTForImageClassification": ("vit", SMALL, ["classifier"], 16),
    "BeitForImageClassification": ("beit", SMALL, ["classifier"], 16),
    "DeiTForImageClassification": ("deit", SMALL, ["classifier"], 16),
    "DeiTForImageClassificationWithTeacher": (
        "deit", SMALL, ["cls_classifier", "distillation_classifier"], 32),
    "Dinov2ForImageClassification": ("dinov2", SMALL, ["classifier"], 32),
    "ResNetForImageClassification": (
        "resnet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        ["classifier.1"], 16),
    "ConvNextForImageClassification": (
        "convnext", {"hidden_sizes": [8, 8, 8, 12], "depths": [1, 1, 1, 1]}, ["classifier"], 12),
    "SwinForImageClassification": (
        "swin", {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32,
                 "window_size": 4}, ["classifier"], 16),
    "CLIPForImageClassification": (
        "clip", {"vision_config": {**SMALL, "projection_dim": 8}}, ["classifier"], 16),
    "MobileNetV2ForImageClassification": (
        "mobilenet_v2", {"depth_multiplier": 0.1, "image_size": 32}, ["classifier"], 1280),
    "LevitForImageClassificationWithTeacher": (
        "levit", {"image_size": 64, "hidden_sizes": [16, 16, 16], "depths": [1, 1, 1],
                  "num_attention_heads": [2, 2, 2], "key_dim": [4, 4, 4], "initializer_range": 0.5},
        ["classifier.linear", "classifier_distill.linear"], 32),
    "SwiftFormerForImageClassification": (
        "swiftformer", {"depths": [1, 1, 1, 1], "embed_dims": [8, 8, 8, 8], "image_size": 64},
        ["head", "dist_head"], 16),
    "PvtV2ForImageClassification": (
        "pvt_v2", {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "image_size": 32,
                   "num_attention_heads": [1, 1, 1, 1]}, ["classifier"], 8),
    "HGNetV2ForImageClassification": ("hgnet_v2", {}, ["fc"], 2048),
    "TimmWrapperForImageClassification": ("timm_wrapper", {}, ["timm_model.head"], 64),
}  # fmt: skip
"""A small configuration of each, its last layers, the features over all of them."""


@pytest.fixture(autouse=True)
def quiet():
    import transformers

    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hub"


def config_of(name):
    import transformers

    kind, settings, *_ = NETWORKS[name]
    settings = {**settings, "id2label": {str(i): f"class {i}" for i in range(C)}}
    if kind == "timm_wrapper":
        return transformers.TimmWrapperConfig.from_dict(
            {"architecture": "test_vit", "num_classes": C, **settings}
        )
    return transformers.CONFIG_MAPPING[kind].from_dict(settings)


def network(name):
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shaken(getattr(transformers, name)(config_of(name)))


def of_folder(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def logits_of(model):
    return lambda images: model(pixel_values=images).logits


def reloading(name, folder):
    """As transformers itself reads the corrected folder."""

    def reload(state):
        import transformers

        return logits_of(getattr(transformers, name).from_pretrained(folder.with_name("fixed")))

    return reload


def changed(folder, **entries):
    """Change entries of the configuration; None takes one away."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | entries
    config = {name: value for name, value in config.items() if value is not None}
    path.write_text(json.dumps(config), encoding="utf-8")


def processor(folder, **said):
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.parametrize("name", NETWORKS)
def test_from_folder_to_folder(folder, name):
    model, (_, _, heads, width) = network(name), NETWORKS[name]
    model.save_pretrained(folder)
    size = {"ConvNextForImageClassification": 64, "ResNetForImageClassification": 32,
            "HGNetV2ForImageClassification": 64}.get(name)  # fmt: skip
    processor(folder, size={"height": size or 32}, do_normalize=False)
    found = check(folder, logits_of(model), of_folder, reloading(name, folder), size=size)
    assert (found.family, found.arch) == ("hugging-face", name)
    assert (list(found.network.heads), found.head.feature_size) == (heads, width)
    after = (folder.with_name("fixed") / "config.json").read_bytes()
    assert after == (folder / "config.json").read_bytes()


def vit(folder, **entries):
    network("ViTForImageClassification").save_pretrained(folder)
    changed(folder, **entries)
    return folder


def test_a_folder_without_a_processor(folder):
    found = checkpoints.load(vit(folder))
    assert (found.image_size, found.view) == (32, ImageView(32, 32))
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.notes[0].startswith("no preprocessor_config.json: mean and std are ImageNet's")


PROCESSORS = {
    "ViTImageProcessor": ({}, 224),
    "CLIPImageProcessor": ({}, 224),
    "DeiTImageProcessor": ({}, 256),
    "ConvNextImageProcessor": ({"size": {"shortest_edge": 224}}, 256),
    "ConvNextImageProcessor, large": ({"size": {"shortest_edge": 384}}, 384),
    "EfficientNetImageProcessor": ({"size": {"height": 64, "width": 64}}, 64),
    "EfficientNetImageProcessor, offset": (
        {"size": {"height": 64, "width": 64}, "rescale_offset": True, "rescale_factor": 1 / 127.5,
         "include_top": False}, 64),
    "MobileViTImageProcessor": ({"size": {"shortest_edge": 288}}, 288),
    "BitImageProcessor": ({"do_center_crop": False, "size": {"shortest_edge": 96}}, 96),
    "BeitImageProcessor": ({"do_normalize": False, "size": {"height": 64, "width": 64}}, 64),
    "PvtImageProcessor": ({"do_rescale": False, "image_mean": [100.0] * 3,
                           "image_std": [50.0, 60.0, 70.0]}, 224),
}  # fmt: skip
"""Settings, and pixels of a side at which nothing is interpolated."""


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_prepared_as_the_processor_does(tmp_path, name):
    """Its own values for a square picture, from its own file."""
    import transformers
    from PIL import Image

    from ltkit.datasets.images import transform

    settings, side = PROCESSORS[name]
    own = getattr(transformers, name.split(",")[0])(**settings)
    own.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    expected = own(picture, return_tensors="pt")["pixel_values"][0].float()
    content = checkpoints.Content(tmp_path, "folder", {}, {}, "")
    images, _ = family._images(content, LoadSettings())
    pixels = transform(picture, images.view)
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.mean, images.std))
    found = (values - mean) / std
    torch.testing.assert_close(found.flip(0) if images.bgr else found, expected)
    assert images.bgr == (name == "MobileViTImageProcessor")


def test_images_in_another_order_of_channels(folder):
    model = network("ViTForImageClassification")
    model.save_pretrained(folder)
    processor(folder, size={"height": 32}, do_normalize=False, do_flip_channel_order=True)
    found, images = checkpoints.load(folder), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        close(found.network(images), model(images.flip(1)).logits)


@pytest.mark.parametrize(
    ("said", "view", "squeezed"),
    [*(({"size": 224, "resample": number}, (224, 224, kind), True)
       for number, kind in ((3, "bicubic"), (1, "lanczos"), ([1], "bilinear"))),
     ({"size": 256, "crop_size": 224, "do_center_crop": True}, (256, 224, "bilinear"), False),
     ({"size": {"shortest_edge": 96}, "crop_size": {"height": 80, "width": 80}},
      (96, 80, "bilinear"), False),
     ({"crop_size": 80, "do_center_crop": False, "size": 96}, (96, 96, "bilinear"), True)],
)  # fmt: skip
def test_older_processors(said, view, squeezed):
    images = family._prepared(Path("p.json"), said, None, LoadSettings())
    assert images.view == ImageView(*view, "squeeze" if squeezed else "crop")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[]", "found a list, expected a JSON object"),
     ('{"size": {}}', "size: found None, expected a whole number from 1"),
     ('{"size": {"height": "x"}}', "size: found 'x'"), ('{"size": [8, 8]}', "size: found [8, 8]"),
     ('{"size": 8000}', "size: found 8000, expected a whole number from 1 to 2048"),
     ('{"size": true}', "size: found True"), ('{"size": {"shortest_edge": -8}}', "found -8"),
     ('{"crop_size": {"height": 0}}', "crop_size: found 0"), ('{"crop_size": 1e9}', "1000000000.0"),
     ('{"size": 1' + "0" * 400 + "}", "size: found a number of 1329 bits"),
     ('{"image_mean": 3}', "image_mean: found 3, expected a list of numbers; pass --mean"),
     ('{"image_mean": [1], "image_std": [0, "a"]}', "image_std: found 0"),
     ('{"image_mean": [0, 0, 0], "image_std": [1, 1, -0.5]}', "image_std: found -0.5"),
     ('{"image_mean": [0, 0, 0], "image_std": [1, 1, "1"]}', "image_std: found '1'"),
     ('{"image_mean": [0, 0, 0], "image_std": [1, 1, true]}', "image_std: found True"),
     ('{"image_mean": [0, 0, 0], "image_std": [1, 1, NaN]}', "image_std: found nan"),
     ('{"image_mean": [0, 0, Infinity], "image_std": [1, 1, 1]}', "image_mean: found inf"),
     ('{"image_mean": [0, 0, null], "image_std": [1, 1, 1]}', "image_mean: found None"),
     ('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1' + "0" * 400 + "]}", "1329 bits"),
     ('{"rescale_factor": 0}', "rescale_factor: found 0, expected a number from 1e-06"),
     ('{"rescale_factor": -0.01}', "rescale_factor: found -0.01"),
     ('{"rescale_factor": "1"}', "rescale_factor: found '1'"),
     ('{"size": {"shortest_edge": 8}, "crop_pct": 0}', "crop_pct: found 0"),
     ('{"size": {"shortest_edge": 8}, "crop_pct": 0.001}', "crop_pct: found 8000"),
     ('{"do_normalize": true}', "image_mean: found None")],
)  # fmt: skip
def test_processors_that_cannot_be(folder, text, words):
    vit(folder)
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
    message = made.refused(
        lambda: checkpoints.load(folder), "preprocessor_config.json", words, error=FormatError
    )
    assert len(message) < 300


def test_the_user_may_say_what_a_processor_says_wrongly(folder):
    vit(folder)
    processor(folder, image_mean="x", image_std=[0, 0, 0])
    words = ("image_mean: found 'x'", "pass --mean")
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)
    wanted = LoadSettings(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    found = checkpoints.load(folder, wanted)
    assert (found.mean, found.std) == (wanted.mean, wanted.std)
    processor(folder, image_mean=[0, 0], image_std=[1, 1])
    words = ("mean, std: found 2 and 2, expected 3 each", "--mean and --std")
    made.refused(lambda: checkpoints.load(folder), *words, error=InputError)


@pytest.mark.parametrize(
    ("entries", "words"),
    [({"num_labels": 4 * 10**8, "id2label": None}, "num_labels: found 400000000"),
     ({"num_labels": -1e9, "id2label": None}, "num_labels: found -1000000000.0"),
     ({"hidden_size": 1 << 40}, "hidden_size: found 1099511627776"),
     ({"image_size": 1 << 40}, "image_size: found 1099511627776"),
     ({"intermediate_size": 10**400}, "intermediate_size: found a number of 1329 bits"),
     ({"layer_norm_eps": float("nan")}, "layer_norm_eps: found nan"),
     ({"id2label": dict.fromkeys(map(str, range(300_000)), "x")}, "id2label: found 300000")],
)  # fmt: skip
def test_sizes_that_the_tensors_have_not(folder, entries, words):
    vit(folder, **entries)
    made.refused(lambda: checkpoints.load(folder), words, "fetch it again", error=FormatError)


def test_what_is_built_is_bounded_by_the_file(folder, monkeypatch):
    vit(folder, hidden_size=4096, intermediate_size=4096, num_attention_heads=1)
    monkeypatch.setattr(budget, "BYTES", 1 << 20)
    words = ("its configuration: ", "bytes, expected at most")
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)
    vit(folder)
    assert checkpoints.load(folder).family == "hugging-face"
    monkeypatch.setattr(_library, "FEW_PARTS", 3)
    monkeypatch.setattr(_library, "PARTS", 0)
    words = ("describes a network of more than 3 layers", "fetch the configuration again")
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)


def test_entries_that_mean_nothing_may_be_large(folder):
    vit(folder, seed=10**9, eos_token_id=10**9)
    assert checkpoints.load(folder).family == "hugging-face"


@pytest.mark.parametrize("side", ["x", True, -1, 0, 1.5])
def test_image_sizes_that_cannot_be(folder, side):
    vit(folder, image_size=side)
    made.refused(lambda: checkpoints.load(folder), "image", error=FormatError)


def test_tensors_that_do_not_fit_are_named(folder):
    vit(folder)
    state = of_folder(folder)
    state["extra"] = torch.zeros(3)
    del state["classifier.bias"]
    safetensors.torch.save_file(state, folder / "model.safetensors")
    words = ("does not fit ViTForImageClassification", "tensors missing: 1 (classifier.bias)",
             "unexpected: 1 (extra)")  # fmt: skip
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)
    state = of_folder(vit(folder)) | {"extra": torch.zeros(3)}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    words = ("tensors missing: 0 (none)", "unexpected: 1 (extra)")
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)
    state = of_folder(vit(folder))
    state["classifier.weight"] = torch.zeros(C, 5)
    safetensors.torch.save_file(state, folder / "model.safetensors")
    words = ("ViTForImageClassification cannot be built from config.json and the weights",)
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)


@pytest.mark.parametrize(
    ("entries", "said"),
    [({"architectures": ["ViTFor"]}, "found vit, ['ViTFor'], expected an image classifier"),
     ({"architectures": None}, "found vit, None, expected"),
     ({"architectures": ["os.system"]}, "or" and "found vit, ['os.system']"),
     ({"model_type": "evil"}, "found evil"),
     ({"model_type": "siglip2", "architectures": ["Siglip2ForImageClassification"]},
      "Siglip2ForImageClassification: takes patches"),
     ({"model_type": "dinat", "architectures": ["DinatForImageClassification"]},
      "DinatForImageClassification needs another package")],
)  # fmt: skip
def test_networks_that_are_no_image_classifiers(folder, entries, said):
    made.refused(lambda: checkpoints.load(vit(folder, **entries)), said, error=InputError)


@pytest.mark.parametrize("entries", [{"hidden_size": "x"}, {"num_attention_heads": 3}])
def test_configurations_that_cannot_be(folder, entries):
    words = ("ViTForImageClassification cannot be built from config.json",)
    made.refused(lambda: checkpoints.load(vit(folder, **entries)), *words, error=FormatError)


def test_code_in_a_folder_does_not_run(folder, tmp_path):
    canary = tmp_path / "ran"
    code = f"open({str(canary)!r}, 'w')\n"
    auto = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    vit(folder, auto_map=auto, attn_implementation="somebody/kernels", dtype="float16",
        quantization_config=quantised, _name_or_path="somebody/model")  # fmt: skip
    (folder / "evil.py").write_text(code, encoding="utf-8")
    found, model = checkpoints.load(folder), network("ViTForImageClassification")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        close(found.network(images), model(images).logits)
    changed(folder, model_type="evil")
    made.refused(lambda: checkpoints.load(folder), "found evil", error=InputError)
    assert not canary.exists()
    assert "evil" not in sys.modules


def test_a_last_layer_of_another_name_can_be_named(folder, monkeypatch):
    vit(folder)
    monkeypatch.setattr(family, "HEADS", (("fc",),))
    words = ("ViTForImageClassification: found no last layer", "--head")
    made.refused(lambda: checkpoints.load(folder), *words, error=InputError)
    found = checkpoints.load(folder, LoadSettings(head="classifier"))
    assert found.network.heads == ("classifier",)
    words = ("weights ema: not in the file; it has raw",)
    wanted = LoadSettings(head="classifier", weights="ema")
    made.refused(lambda: checkpoints.load(folder, wanted), *words, error=InputError)


def test_half_precision_is_said(folder):
    network("ViTForImageClassification").half().save_pretrained(folder)
    found = checkpoints.load(folder)
    assert "float16 weights are computed with in float32" in found.notes
    assert all(p.dtype == torch.float32 for p in found.network.parameters())


def test_the_library_is_as_talkative_as_before(folder):
    from transformers.utils import logging

    logging.enable_progress_bar()
    before = logging.get_verbosity()
    checkpoints.load(vit(folder))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (before, True)


def test_shards(folder, tmp_path):
    """Several files with an index; only the one with the head is written anew."""
    model = network("ViTForImageClassification")
    model.save_pretrained(folder, max_shard_size="8KB")
    shards = sorted(p.name for p in folder.glob("*.safetensors"))
    assert len(shards) > 1

    def read(folder):
        parts = [safetensors.torch.load_file(folder / name) for name in shards]
        return {name: tensor for part in parts for name, tensor in part.items()}

    check(folder, logits_of(model), read, reloading("ViTForImageClassification", folder))
    same = [
        (folder / name).read_bytes() == (tmp_path / "fixed" / name).read_bytes() for name in shards
    ]
    assert 0 < same.count(True) < len(shards)
    shutil.rmtree(tmp_path / "fixed")


def test_the_command(ltkit, tmp_path, monkeypatch):
    """From a folder and pictures to the corrected folder, which transformers reads."""
    import transformers
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for name in "abcdefg":
            pictures = tmp_path / "pictures" / split / name
            pictures.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(picture).save(pictures / f"{i}.png")
    vit(tmp_path / "hub")
    code, out, said = ltkit("inspect", "hub")
    assert code == 0, said
    assert "classifier.weight" in out
    code, _, said = ltkit("extract", "hub", "--data", "pictures")
    assert (code, "found no class a among its 7" in said) == (2, True)  # the folder has names, too
    Path("order.txt").write_text("\n".join("abcdefg"), encoding="utf-8")
    code, _, said = ltkit("extract", "hub", "--data", "pictures", "--classes", "order.txt")
    assert code == 0, said
    assert "hugging-face checkpoint, ViTForImageClassification, head 7 x 16" in said
    assert ltkit("posthoc", "tau-norm", "--set", "tau=1", "-q")[0] == 0
    code, _, said = ltkit("export", "feats.tau-norm.h5", "--into", "hub", "-o", "fixed")
    assert code == 0, said
    weight = transformers.ViTForImageClassification.from_pretrained("fixed").classifier.weight
    np.testing.assert_allclose(weight.detach().norm(dim=1), 1, atol=1e-5)


def test_doubles_that_float32_loses(folder):
    network("ResNetForImageClassification").save_pretrained(folder)
    processor(folder, size={"height": 32}, do_normalize=False)
    file = folder / "model.safetensors"
    state = {n: t.double() * 1e-50 for n, t in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(state, file, metadata={"format": "pt"})
    made.refused(lambda: checkpoints.load(folder, LoadSettings()), "save weights", error=InputError)
