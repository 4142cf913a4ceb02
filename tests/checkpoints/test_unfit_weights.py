"""Checkpoints whose weights do not fit the network."""

import sys

import made
import numpy as np
import pytest
import torch
import torch.hub
from stored_networks import load, published

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread")

# Weights that do not fit


def test_missing_and_unexpected_tensors_are_named(path):
    state = published()
    del state["layer2.1.bn1.bias"]
    state["layer2.1.bn1.offset"] = torch.zeros(32)
    torch.save(state, path)
    words = ("does not fit resnet20: tensors missing: 1 (backbone.layer2.1.bn1.bias)",
             "unexpected: 1 (backbone.layer2.1.bn1.offset)", "--arch")  # fmt: skip
    made.refused(load(path), *words, error=FormatError)


def test_another_architecture_lists_the_first_five(path):
    torch.save(published(), path)
    message = made.refused(
        load(path, "resnet32"), "m.pt: does not fit resnet32: tensors missing: 60"
    )
    assert message.count("backbone.") == 5
    assert "unexpected: 0 (none)" in message


@pytest.mark.parametrize("change", [lambda t: t[:, :2], lambda t: t.to(torch.int8)])
def test_tensors_of_another_shape_or_type(path, change):
    state = published()
    state["layer1.0.conv1.weight"] = change(state["layer1.0.conv1.weight"]).clone()
    torch.save(state, path)
    words = (
        "backbone.layer1.0.conv1.weight: found torch.",
        "expected torch.float32 (16, 16, 3, 3)",
    )
    made.refused(load(path), *words, "for resnet20", error=FormatError)


def test_a_head_of_another_width(path):
    state = published()
    state["linear.weight"] = torch.zeros(10, 63)
    torch.save(state, path)
    words = ("head: found 0 that are 64 wide (none)", "name it with --head")
    made.refused(load(path), *words, error=InputError)


@pytest.mark.parametrize("shape", [(), (10,)])
def test_a_head_that_is_no_matrix(path, shape):
    state = published()
    state["linear.weight"] = torch.zeros(shape)
    torch.save(state, path)
    made.refused(load(path), "head: found 0 that are 64 wide (none)", error=InputError)


@pytest.mark.parametrize("arch", ["resnet23", "digits_nt"])
def test_an_unknown_architecture_suggests_the_nearest(path, arch):
    torch.save(published(), path)
    nearest = "resnet20" if arch == "resnet23" else "digits_net"
    made.refused(load(path, arch), arch, "unknown architecture", "did you mean", nearest)


@pytest.mark.parametrize("arch", ["resnet10t", "efficientnet_b0"])
def test_an_architecture_of_a_library_that_is_not_installed(path, monkeypatch, arch):
    for library in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    torch.save(published(), path)
    words = (f"arch {arch}: unknown architecture", "timm and torchvision, not installed",
             "or LIBRARY:NAME")  # fmt: skip
    made.refused(load(path, arch), *words, error=InputError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_named(path, value, dtype):
    state = published()
    broken = state["bn1.weight"].clone()
    broken[3] = value
    state["bn1.weight"] = broken.to(dtype)
    torch.save(state, path)
    made.refused(load(path), "m.pt: bn1.weight: holds NaN or infinity", error=FormatError)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"epoch": 3}, "found epoch"),
        ({"encoder.weight": torch.zeros(3)}, "found encoder.weight"),
        ({}, "found nothing"),
        ({"state_dict": [1]}, "found state_dict"),
    ],
)
def test_an_unknown_layout_has_two_ways_out(path, content, word):
    torch.save(content, path)
    ways = ("--arch timm:NAME", "--model PKG.MODULE:NAME", "ltkit import", "inspect --families")
    made.refused(load(path), "m.pt: layout not recognised", word, *ways, error=InputError)


@pytest.mark.parametrize(
    "name", ["vit.embeddings.cls_token", "module.swin.embeddings.norm.bias",
             "resnet.embedder.embedder.convolution.weight", "embeddings.position_ids"],
)  # fmt: skip
def test_what_looks_like_a_network_of_transformers_is_told_its_own_way(path, name):
    torch.save({"state_dict": {name: torch.zeros(3)}}, path)
    words = ("looks like transformers': save it there with save_pretrained(FOLDER)", "--model")
    made.refused(load(path), *words, error=InputError)


def test_statistics_that_are_assumed_are_said(path):
    torch.save(published(), path)
    assert checkpoints.load(path).notes == (made.ASSUMED,)
    own = LoadSettings(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert checkpoints.load(path, own).notes == ()
    half = checkpoints.load(path, LoadSettings(mean=(0.5,) * 3))
    assert (half.mean, half.notes) == ((0.5,) * 3, (made.ASSUMED,))


def test_a_bottleneck_network_is_not_taken_for_basic_blocks(path):
    torch.save(published() | {"layer1.0.conv3.weight": torch.zeros(1)}, path)
    words = ("does not fit resnet20", "unexpected: 1 (backbone.layer1.0.conv3.weight)")
    made.refused(load(path), *words, error=FormatError)
