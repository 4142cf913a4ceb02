"""CLIP models as zero-shot classifiers: the names of the classes make the head."""

import json
import logging
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from round_trip import C, close, dataset, normalised

from ltkit import checkpoints
from ltkit.checkpoints.families import open_clip as family
from ltkit.errors import FormatError, InputError
from ltkit.files import features as features_file
from ltkit.records import ImageView
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

NAMES = ("golden_retriever", "cat", "größe", "a b", "猫", "dog", "7")
TEXTS = ["golden retriever", *NAMES[1:]]
SIZE = 32
CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": SIZE, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SIGMOID = {**CONFIG, "init_logit_bias": -10, "custom_text": True, "text_cfg": CONFIG["text_cfg"]}


@pytest.fixture(scope="module", autouse=True)
def configurations(tmp_path_factory):
    """Two small models, and their own names among open_clip's."""
    import open_clip

    folder = tmp_path_factory.mktemp("configurations")
    for name, config in (("made-clip", CONFIG), ("made-sigmoid", SIGMOID)):
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "made-clip-quickgelu.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    open_clip.add_model_config(folder)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


def network(name):
    import open_clip

    logging.disable(logging.WARNING)  # that there are no weights
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained=None).eval()
    logging.disable(logging.NOTSET)
    with torch.no_grad():
        model.logit_scale.add_(0.5)
    return model


def own_logits(model, name, images):
    """By the library's own forward pass."""
    import open_clip

    tokens = open_clip.get_tokenizer(name)([f"a photo of a {text}." for text in TEXTS])
    image, text, scale, *bias = model(images, tokens)
    return scale * image @ text.T + (bias[0] if bias else 0)


def load(path, name="made-clip", names=NAMES, **wanted):
    return checkpoints.load(
        path, LoadSettings(name and f"open_clip:{name}", class_names=names, **wanted)
    )


@pytest.mark.parametrize("name", ["made-clip", "made-sigmoid"])
@pytest.mark.parametrize("script", [False, True])
@torch.no_grad()
def test_zero_shot_logits_are_the_models_own(path, tmp_path, name, script):
    model = network(name)
    state = {f"module.{n}" if script else n: t for n, t in model.state_dict().items()}
    content = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {}}
    torch.save(content if script else state, path)
    found, data = load(path, name), dataset(SIZE)
    assert (found.family, found.arch) == ("open-clip", f"open_clip:{name}")
    assert (found.head.normalize, found.head.num_classes) == ("cosine", C)
    assert found.head.scale == pytest.approx(float(model.logit_scale.exp()))
    assert set(found.head.bias) == {-10.0 if "sigmoid" in name else 0.0}
    assert found.view == ImageView(SIZE, SIZE, "bicubic")
    assert found.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)

    extraction.extract(found, data, ("test",), tmp_path / "f.h5", ExtractSettings())
    features = features_file.read(tmp_path / "f.h5")
    images = normalised(data.split("test").images, found.mean, found.std)
    logits = features.classifier().logits(features.split("test").features[:])
    close(logits, own_logits(model, name, images))
    assert features.settings["load"]["class_names"] == list(NAMES)
    assert found.wanted.class_names == NAMES


def test_many_texts_are_embedded_in_parts(path, monkeypatch):
    torch.save(network("made-clip").state_dict(), path)
    whole = load(path).head.weight
    monkeypatch.setattr(family, "TEXTS", 3)
    np.testing.assert_allclose(load(path).head.weight, whole, atol=1e-6)


def test_without_a_dataset_there_are_no_classes(path):
    torch.save(network("made-clip").state_dict(), path)
    found = load(path, names=None)
    assert (found.head.num_classes, found.head.feature_size) == (0, 8)
    assert any("no classes yet" in note for note in found.notes)
    assert any("made-clip-quickgelu" in note for note in found.notes)
    words = ("m.pt: a zero-shot head is made of the classes' names", "has none")
    made.refused(lambda: load(path, names=()), *words, error=InputError)


def test_the_head_cannot_be_written_back(path):
    torch.save(network("made-clip").state_dict(), path)
    found = load(path)
    words = ("zero-shot head is made by the text tower", "--to npz")
    made.refused(lambda: found.network.hold(found.head.fold()), *words, error=InputError)
    assert found.stored == {}


def test_the_network_must_be_named(path):
    torch.save(network("made-clip").state_dict(), path)
    words = ("is a CLIP model; arch open_clip:", "name it, as ViT-B-32")
    made.refused(lambda: load(path, None), *words, error=InputError)
    words = ("arch open_clip:made-clop: unknown network", "did you mean made-clip")
    made.refused(lambda: load(path, "made-clop"), *words, error=InputError)
    made.refused(lambda: load(path, "hf-hub:x/y"), "unknown network", error=InputError)


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_a_scale_that_cannot_be(path, value):
    state = network("made-clip").state_dict()
    state["logit_scale"].fill_(value)
    torch.save(state, path)
    words = ("m.pt: exp(logit_scale): found", "fetch it again")
    made.refused(lambda: load(path), *words, error=FormatError)


def test_tensors_that_do_not_fit_are_named(path):
    state = network("made-clip").state_dict()
    state["visual.other"] = state.pop("visual.proj")
    torch.save(state, path)
    words = ("does not fit made-clip", "missing: 1 (visual.proj)", "unexpected: 1 (visual.other)")
    made.refused(lambda: load(path), *words, error=FormatError)


def test_parts_that_are_not_on_this_machine(path, monkeypatch):
    import open_clip

    def absent(*arguments, **named):
        raise OSError("we could not connect\nto the hub")

    torch.save(network("made-clip").state_dict(), path)
    monkeypatch.setattr(open_clip, "get_tokenizer", absent)
    words = ("open_clip:made-clip: open_clip does not build it (we could not connect)", "tokenizer")
    made.refused(lambda: load(path), *words, error=InputError)
    assert logging.root.level != logging.ERROR


@pytest.mark.parametrize(
    ("mode", "fit", "noted"),
    [("squash", "squeeze", False), ("longest", "pad", False), ("shortest", "crop", False),
     ("other", "crop", True)],
)  # fmt: skip
def test_how_open_clip_brings_images_to_a_square(path, monkeypatch, mode, fit, noted):
    import open_clip

    config = open_clip.get_model_preprocess_cfg(network("made-clip"))
    squash = config | {"resize_mode": mode, "size": (SIZE, SIZE)}
    torch.save(network("made-clip").state_dict(), path)
    monkeypatch.setattr(open_clip, "get_model_preprocess_cfg", lambda model: squash)
    found = load(path, mean=(0.1, 0.2, 0.3))
    said = any(note.startswith("open_clip squeezes images to 32 x 32") for note in found.notes)
    assert (found.view.fit, said) == (fit, noted)
    assert found.mean == (0.1, 0.2, 0.3)


def test_the_view_is_open_clips(path):
    import open_clip
    from PIL import Image

    from ltkit.datasets.images import transform

    model = network("made-clip")
    torch.save(model.state_dict(), path)
    found = load(path)
    config = open_clip.get_model_preprocess_cfg(model)
    own = open_clip.image_transform(
        config["size"], is_train=False, mean=config["mean"], std=config["std"],
        interpolation=config["interpolation"], resize_mode=config["resize_mode"],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8))
    pixels = transform(picture, found.view)
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (found.mean, found.std))
    torch.testing.assert_close((values - mean) / std, own(picture))


def test_the_command(ltkit, tmp_path, monkeypatch):
    """From a checkpoint and a folder of pictures to a corrected head alone."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for name in ("cat", "dog", "golden_retriever"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / f"{i}.png")
    torch.save(network("made-clip").state_dict(), "clip.pt")
    arch = ("--arch", "open_clip:made-clip")
    code, out, said = ltkit("inspect", "clip.pt", *arch)
    assert code == 0, said
    assert "no classes yet" in out
    code, _, said = ltkit("extract", "clip.pt", "--data", "pictures", *arch)
    assert code == 0, said
    assert "open-clip checkpoint, open_clip:made-clip, head 3 x 8" in said
    assert ltkit("posthoc", "tau-norm", "--set", "tau=1", "-q")[0] == 0
    words = ("export", "feats.tau-norm.h5", "-o")
    code, _, said = ltkit(*words, "fixed.pt", "--into", "clip.pt")
    assert (code, "made by the text tower" in said) == (2, True), said
    assert not (tmp_path / "fixed.pt").exists()
    assert ltkit(*words, "head.npz", "--to", "npz")[0] == 0
    found = checkpoints.load(
        tmp_path / "clip.pt",
        replace(
            LoadSettings("open_clip:made-clip"), class_names=("cat", "dog", "golden_retriever")
        ),
    )
    features = features_file.read(tmp_path / "feats.h5")
    np.testing.assert_allclose(features.head.weight, found.head.weight, atol=1e-6)
