"""timm's networks: as its own writers save them, and by name."""

import argparse
import math
from dataclasses import replace

import made
import numpy as np
import pytest
import torch
from round_trip import C, check, close, dataset, normalised, shaken
from torch import nn

from ltkit import checkpoints
from ltkit.checkpoints.families import timm as family
from ltkit.errors import FormatError, InputError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings
from ltkit.sources import extraction

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

NETWORKS = {
    "test_vit": (("head",), 64),
    "test_efficientnet": (("classifier",), 256),
    "test_convnext": (("head.fc",), 64),
    "dla46_c": (("fc",), 256),  # a 1x1 convolution
    "mobilenetv3_small_050": (("classifier",), 1024),  # not its num_features, 288
    "deit_tiny_distilled_patch16_224": (("head", "head_dist"), 2 * 192),
    "crossvit_tiny_240": (("head.0", "head.1"), 96 + 192),  # of two widths
}
"""Last layers, and the features over all of them."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


def network(name, classes=C, **settings):
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shaken(timm.create_model(name, pretrained=False, num_classes=classes, **settings))


def reloading(name, **settings):
    def reload(state):
        model = network(name, **settings)
        model.load_state_dict(state)
        return model

    return reload


def of_file(path):
    return torch.load(path, weights_only=True)


def load(path, arch=None, **wanted):
    return checkpoints.load(path, LoadSettings(arch and f"timm:{arch}", **wanted))


@pytest.mark.parametrize("name", NETWORKS)
def test_from_file_to_file(path, name):
    model, (heads, width) = network(name), NETWORKS[name]
    torch.save(model.state_dict(), path)
    found = check(path, model, of_file, reloading(name), LoadSettings(f"timm:{name}"))
    assert (found.family, found.arch) == ("timm", f"timm:{name}")
    assert (found.network.heads, found.head.feature_size) == (heads, width)
    assert found.head.experts == (2 if "deit" in name else 1)
    assert found.image_size == model.default_cfg["input_size"][1]


def saved_by_script(folder, model, name, averaged, **others):
    """What timm's training script leaves in its folder."""
    from timm.utils import CheckpointSaver

    args = argparse.Namespace(model=name, num_classes=C, opt="sgd", gp=None, **others)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    ema = None
    if averaged:
        ema = argparse.Namespace(module=network(name))
        with torch.no_grad():
            for value in model.parameters():
                value.add_(1)
    saver = CheckpointSaver(model, optimizer, args, ema, checkpoint_dir=str(folder))
    saver.save_checkpoint(3, metric=0.5)
    return folder / "last.pth.tar"


@pytest.mark.parametrize("averaged", [False, True])
def test_the_training_scripts_files(tmp_path, averaged):
    name = "test_vit"
    model = network(name)
    others = {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.8, "interpolation": "bilinear", "std": None}
    path = saved_by_script(tmp_path, network(name), name, averaged, **others)
    place = "state_dict_ema" if averaged else "state_dict"

    def read(path):
        with torch.serialization.safe_globals([argparse.Namespace]):
            return of_file(path)[place]

    found = check(path, model, read, reloading(name))
    assert (found.family, found.arch) == ("timm", "timm:test_vit")
    assert found.view == ImageView(200, 160, "bilinear")
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), tuple(model.default_cfg["std"]))
    said = ("weights: ema taken; --weights raw takes others",) if averaged else ()
    assert found.notes == said
    if averaged:
        raw = load(path, weights="raw").network.model.head.bias
        torch.testing.assert_close(raw, model.head.bias + 1)


def test_a_network_built_with_more_than_its_name(tmp_path):
    """The arguments say which image size the positions are for."""
    model = network("test_vit", img_size=96, global_pool="avg")
    path = saved_by_script(tmp_path, model, "test_vit", False, model_kwargs={"img_size": 96})
    made.refused(lambda: load(path), "does not fit test_vit", error=FormatError)
    content = torch.load(path, weights_only=False)
    content["args"].gp = "avg"
    torch.save(content, path)
    found = load(path)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        close(found.network(images), model(images))


@pytest.mark.parametrize("averaged", [False, True])
def test_scripts_after_deits(path, averaged):
    name = "deit_tiny_distilled_patch16_224"
    model = network(name)
    args = {"model": name, "nb_classes": C, "lr": 1e-3, "input_size": 224, "output_dir": ""}
    content = {"model": model.state_dict(), "optimizer": {}, "lr_scheduler": {}, "epoch": 1,
               "args": argparse.Namespace(**args)}  # fmt: skip
    if averaged:
        content["model_ema"] = content["model"]
        content["model"] = {n: t + 1 for n, t in content["model"].items()}
    torch.save(content, path)
    found = load(path)
    assert (found.family, found.arch) == ("timm", f"timm:{name}")
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        close(found.network(images), model(images))
    torch.save(content | {"args": args}, path)
    assert load(path).arch == f"timm:{name}"


def test_under_any_attribute_of_lightnings_module(path):
    model = network("test_vit")
    state = {f"net.body.{n}": t for n, t in model.state_dict().items()}
    torch.save({"pytorch-lightning_version": "2.0", "state_dict": state}, path)
    found, images = load(path, "test_vit"), torch.randn(2, 3, 160, 160)
    assert {there.name for there in found.stored.values()} == {
        "net.body.head.weight", "net.body.head.bias",
    }  # fmt: skip
    with torch.no_grad():
        close(found.network(images), model(images))


def test_a_folder_as_on_the_hub(tmp_path):
    import safetensors.torch
    from timm.models import save_for_hf

    model = network("test_vit", img_size=128)
    folder = tmp_path / "hub"
    data = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 128, 128], "crop_pct": 0.5}
    save_for_hf(
        model, folder, model_config={"pretrained_cfg": model.pretrained_cfg | data},
        model_args={"img_size": 128, "checkpoint_path": str(tmp_path / "never.pt")},
        safe_serialization=True,
    )  # fmt: skip
    found = check(
        folder, model, lambda path: safetensors.torch.load_file(path / "model.safetensors"),
        reloading("test_vit", img_size=128),
    )  # fmt: skip
    assert (found.family, found.arch) == ("timm", "timm:test_vit")
    assert found.view == ImageView(256, 128, "bicubic")
    assert found.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("name", ["resnet18", "deit3_small_patch16_224", "inception_v3"])
def test_the_view_is_timms(path, name):
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    from ltkit.datasets.images import transform

    with torch.device("meta"):
        model = timm.create_model(name)
    content = checkpoints.Content(path, "torch", {}, {}, "")
    images, notes = family.images_of(content, model, {})
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (500, 400, 3), dtype=np.uint8))
    expected = create_transform(**resolve_data_config({}, model=model))(picture)
    pixels = transform(picture, images.view)
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.mean, images.std))
    torch.testing.assert_close((values - mean) / std, expected)
    assert notes == []


def test_what_timm_squeezes_is_squeezed_and_its_borders_are_said(path):
    import timm

    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_siglip_224", num_classes=C)
    content = checkpoints.Content(path, "torch", {}, {}, "")
    images, notes = family.images_of(content, model, {"crop_mode": "squash", "crop_pct": 1.0})
    assert (images.view, notes) == (ImageView(224, 224, "bicubic", "squeeze"), [])
    _, (note,) = family.images_of(content, model, {"crop_mode": "border", "crop_pct": 1.0})
    assert note.startswith("timm squeezes images to 224 x 224; here the shorter side becomes 224")
    assert family.images_of(content, model, {"crop_mode": "center"})[1] == []
    with pytest.raises(FormatError, match="timm does not know its image settings"):
        family.images_of(content, model, {"mean": (0.5, 0.5)})
    for said, words in (
        ({"crop_pct": math.nan}, "crop_pct: found nan"), ({"crop_pct": -1}, "crop_pct: found -1"),
        ({"crop_pct": 0.01}, "crop_pct: found 22400"), ({"img_size": 8000}, "size: found 8000"),
        ({"img_size": -8}, "input_size: found -8"), ({"img_size": True}, "size: found True"),
        ({"input_size": (3, 8, "8")}, "input_size: found '8'"),
        ({"input_size": (4 * 10**8, 8, 8), "mean": [0.5]}, "input_size: found 400000000"),
        ({"input_size": (3, 8, 10**60)}, "input_size: found a number of"),
    ):  # fmt: skip
        made.refused(lambda: family.images_of(content, model, said), words, error=FormatError)  # noqa: B023


class Headed(nn.Module):
    """A stand-in with a configuration and layers."""

    def __init__(self, classifier, *layers):
        super().__init__()
        self.default_cfg = {"classifier": classifier, "architecture": "made"}
        for name in layers:
            self.add_module(name, nn.Linear(3, C))


@pytest.mark.parametrize(
    ("classifier", "layers", "expected"),
    [("head", ["head"], ("head",)), (("head", "head_dist"), ["head", "head_dist"],
                                     ("head", "head_dist")),
     ("head", ["head", "head_dist"], ("head", "head_dist"))],
)  # fmt: skip
def test_the_last_layers(path, classifier, layers, expected):
    content = checkpoints.Content(path, "torch", {}, {}, "")
    assert family.last_layers(content, Headed(classifier, *layers)) == expected


@pytest.mark.parametrize(
    ("classifier", "layers", "said"),
    [(None, ["head"], "no linear last layer"), ("fc", ["head"], "no linear last layer"),
     (("head", "aux_head"), ["head", "aux_head"], "linear in no features")],
)  # fmt: skip
def test_what_has_no_linear_head(path, classifier, layers, said):
    content = checkpoints.Content(path, "torch", {}, {}, "")
    made.refused(
        lambda: family.last_layers(content, Headed(classifier, *layers)), "timm:made: ", said,
        error=InputError,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["levit_conv_384_s8", "volo_d1_224", "vit_tiny_patch16_224"])
def test_the_last_layers_that_timm_names(path, name):
    import timm

    content = checkpoints.Content(path, "torch", {}, {}, "")
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=C)
    if name.startswith("volo"):
        made.refused(lambda: family.last_layers(content, model), "timm:volo_d1_224", "maximum")
    else:
        levit = ("head.linear", "head_dist.linear")
        assert family.last_layers(content, model) == (levit if "levit" in name else ("head",))


@pytest.mark.parametrize(
    "name", ["nope", "hf-hub:timm/resnet18", "local-dir:/tmp", "hf_hub:timm/resnet18"]
)
def test_unknown_networks_and_sources_are_refused(path, name):
    torch.save(network("test_vit").state_dict(), path)
    made.refused(lambda: load(path, name), f"timm:{name}: unknown network", error=InputError)


def test_a_tag_that_timm_does_not_have(path):
    torch.save(network("test_vit").state_dict(), path)
    words = ("timm:test_vit.nope: timm does not build it", "--arch timm:NAME")
    made.refused(lambda: load(path, "test_vit.nope"), *words, error=InputError)
    assert load(path, "test_vit.r160_in1k").image_size == 160


def test_the_file_may_name_what_is_no_network(tmp_path):
    path = saved_by_script(tmp_path, network("test_vit"), "visiontransformer", False)
    words = ("timm:visiontransformer: unknown network", "--arch timm:NAME")
    made.refused(lambda: load(path), *words, error=InputError)
    assert load(path, "test_vit").arch == "timm:test_vit"


def test_tensors_that_do_not_fit_are_named(path):
    state = network("test_vit").state_dict()
    state["pos"] = state.pop("pos_embed")
    torch.save(state, path)
    words = ("does not fit test_vit", "tensors missing: 1 (pos_embed)", "unexpected: 1 (pos)")
    made.refused(lambda: load(path, "test_vit"), *words, error=FormatError)


def test_a_head_that_is_half_of_it_is_met(path):
    name = "deit_tiny_distilled_patch16_224"
    torch.save(network(name).state_dict(), path)
    found, data = load(path, name, head="head"), dataset(224)
    images = normalised(data.split("test").images, found.mean, found.std)
    words = ("features times head differ",)
    made.refused(lambda: extraction.check_head(found.network, found.head, images), *words)
    assert replace(found).network.heads == ("head",)


@pytest.mark.parametrize(
    ("said", "words"),
    [({"std": [0.5, 0.0, 0.5]}, "std: found 0.0"), ({"std": [1, 1, -1]}, "std: found -1"),
     ({"std": "abc"}, "std: found 'a'"), ({"mean": [0.5, 0.5, True]}, "mean: found True"),
     ({"mean": [0.5, math.inf, 0.5]}, "mean: found inf")],
)  # fmt: skip
def test_statistics_that_cannot_be(path, said, words):
    import timm

    state = timm.create_model("resnet10t", num_classes=C).state_dict()
    args = {"model": "resnet10t", "nb_classes": C, **said}
    torch.save({"model": state, "args": args, "optimizer": {}}, path)
    made.refused(lambda: checkpoints.load(path), f"m.pt: {words}", error=FormatError)
    given = LoadSettings(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert checkpoints.load(path, given).std == given.std


def test_a_head_of_other_features_is_refused_before_it_is_built(path):
    torch.save({"conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(10**6, 1)}, path)
    wanted = LoadSettings(arch="timm:resnet18")
    words = ("m.pt: fc.weight: found (1000000, 1), expected (classes, 512)",)
    made.refused(lambda: checkpoints.load(path, wanted), *words, error=FormatError)


def test_arguments_cannot_make_a_network_of_any_size(path):
    torch.save({"model": {"head.weight": torch.zeros(2, 3)}, "optimizer": {},
                "args": {"model": "vit_tiny_patch16_224", "nb_classes": 2,
                         "model_kwargs": {"embed_dim": 1 << 20}}}, path)  # fmt: skip
    words = ("m.pt: its configuration: weight: claims", "expected at most")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
