"""The long-tail field's own backbones against their published layouts.

Two things are written out here a second time, from the layouts: the names and shapes of all
tensors, in their order, and the forward pass, on raw tensors in double precision.
"""

import functools
import io

import numpy as np
import pytest
import torch
from PIL import Image
from shared_data import shared
from torch.nn import functional

from ltkit import architectures
from ltkit.architectures import wide_cifar_resnet
from ltkit.architectures.expert_resnet import CifarExperts, ImagenetExperts
from ltkit.architectures.imagenet_resnet import ResNet
from ltkit.architectures.l2t_resnet import L2TResNet
from ltkit.architectures.two_branch_resnet import TwoBranchResNet
from ltkit.architectures.wide_cifar_resnet import WideCifarResNet
from ltkit.checkpoints.recognised import IMAGENET

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"depths": (1, 1, 1, 1), "bottleneck": False}
LARGE = {"depths": (3, 4, 6, 3), "bottleneck": True}
RESNEXT = {**LARGE, "groups": 32, "group_width": 4}

NETWORKS = {
    "two branches": functools.partial(TwoBranchResNet, 32),
    "L2T-ww": functools.partial(L2TResNet, 32),
    "twice as wide": functools.partial(WideCifarResNet, 32, 2),
    "CIFAR, 3 experts, reduced": functools.partial(CifarExperts, 3, True),
    "CIFAR, 2 experts": functools.partial(CifarExperts, 2, False),
    "ResNet-10, 3 experts, reduced": functools.partial(ImagenetExperts, 3, True, **SMALL),
    "ResNet-50, 2 experts": functools.partial(ImagenetExperts, 2, False, **LARGE),
    "ResNeXt-50, 2 experts, reduced": functools.partial(ImagenetExperts, 2, True, **RESNEXT),
}
QUICK = [name for name in NETWORKS if "50" not in name]


# ------------------------------------------------------------------ the published layouts


def conv(name, channels_in, channels, size, bias=False):
    return {f"{name}.weight": (channels, channels_in, size, size)} | (
        {f"{name}.bias": (channels,)} if bias else {}
    )


def norm(name, channels):
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean",
                                                       "running_var")}  # fmt: skip


def basic(name, channels_in, channels, projected):
    found = conv(f"{name}.conv1", channels_in, channels, 3) | norm(f"{name}.bn1", channels)
    found |= conv(f"{name}.conv2", channels, channels, 3) | norm(f"{name}.bn2", channels)
    return found | (projection(name, channels_in, channels) if projected else {})


def bottleneck(name, channels_in, inner, channels, groups, projected):
    found = conv(f"{name}.conv1", channels_in, inner, 1) | norm(f"{name}.bn1", inner)
    found |= conv(f"{name}.conv2", inner // groups, inner, 3) | norm(f"{name}.bn2", inner)
    found |= conv(f"{name}.conv3", inner, channels, 1) | norm(f"{name}.bn3", channels)
    return found | (projection(name, channels_in, channels) if projected else {})


def projection(name, channels_in, channels):
    there = f"{name}.downsample"
    return conv(f"{there}.0", channels_in, channels, 1) | norm(f"{there}.1", channels)


def stage(name, channels_in, channels, blocks=5):
    """Basic blocks of a CIFAR ResNet, whose shortcuts have no tensors."""
    found = {}
    for number in range(blocks):
        found |= basic(f"{name}.{number}", channels_in, channels, projected=False)
        channels_in = channels
    return found


def stem(channels, size=3, bias=False):
    return conv("conv1", 3, channels, size, bias) | norm("bn1", channels)


def two_branches():
    """Megvii's BBN: four blocks in the third stage, then two that see the same maps."""
    found = stem(16) | stage("layer1", 16, 16) | stage("layer2", 16, 32)
    found |= stage("layer3", 32, 64, blocks=4)
    return found | basic("cb_block", 64, 64, False) | basic("rb_block", 64, 64, False)


def l2t():
    found = stem(16, bias=True) | basic("block1", 16, 16, False) | stage("blocks2", 16, 16, 4)
    found |= basic("block3", 16, 32, True) | stage("blocks4", 32, 32, 4)
    return found | basic("block5", 32, 64, True) | stage("blocks6", 64, 64, 4)


def twice_as_wide():
    found = stem(32) | stage("layer1", 32, 32)
    return found | stage("layer2", 32, 64) | stage("layer3", 64, 128)


def cifar_experts(experts, second, third):
    """RIDE's and SADE's: all second stages stand before all third ones."""
    found = stem(16) | stage("layer1", 16, 16)
    for expert in range(experts):
        found |= stage(f"layer2s.{expert}", 16, second)
    for expert in range(experts):
        found |= stage(f"layer3s.{expert}", second, third)
    return found


def resnet10_experts():
    """Three of 192 and 384 channels."""
    found = stem(64, 7) | basic("layer1.0", 64, 64, False) | basic("layer2.0", 64, 128, True)
    for expert in range(3):
        found |= basic(f"layer3s.{expert}.0", 128, 192, True)
    for expert in range(3):
        found |= basic(f"layer4s.{expert}.0", 192, 384, True)
    return found


def large_experts(third, fourth, groups):
    """Two of four times these widths; ResNeXt's inner convolutions have twice the channels."""
    factor = 2 if groups > 1 else 1

    def several(name, channels_in, width, blocks):
        found = {}
        for number in range(blocks):
            found |= bottleneck(
                f"{name}.{number}", channels_in, factor * width, 4 * width, groups, number == 0
            )
            channels_in = 4 * width
        return found

    found = stem(64, 7) | several("layer1", 64, 64, 3) | several("layer2", 256, 128, 4)
    for expert in range(2):
        found |= several(f"layer3s.{expert}", 512, third, 6)
    for expert in range(2):
        found |= several(f"layer4s.{expert}", 4 * third, fourth, 3)
    return found


PUBLISHED = {
    "two branches": two_branches,
    "L2T-ww": l2t,
    "twice as wide": twice_as_wide,
    "CIFAR, 3 experts, reduced": lambda: cifar_experts(3, 24, 48),
    "CIFAR, 2 experts": lambda: cifar_experts(2, 32, 64),
    "ResNet-10, 3 experts, reduced": resnet10_experts,
    "ResNet-50, 2 experts": lambda: large_experts(256, 512, groups=1),
    "ResNeXt-50, 2 experts, reduced": lambda: large_experts(192, 384, groups=32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tensors_are_the_published_ones_in_their_order(name):
    with torch.device("meta"):
        state = NETWORKS[name]().state_dict()
    found = {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert list(found.items()) == list(PUBLISHED[name]().items())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # a stage of width w after v: 9 v w + 9 w w + 4 w, then four times 18 w w + 4 w
        ("two branches", 464 + 23_360 + 88_192 + 351_488 + 73_984),
        ("L2T-ww", 464 + 16 + 23_360 + 88_192 + 512 + 64 + 351_488 + 2048 + 128),
        ("twice as wide", 928 + 92_800 + 351_488 + 1_403_392),
        ("CIFAR, 3 experts, reduced", 464 + 23_360 + 3 * (50_592 + 197_952)),
        ("CIFAR, 2 experts", 464 + 23_360 + 2 * (88_192 + 351_488)),
    ],
)
def test_parameters_counted_by_hand(name, count):
    assert sum(p.numel() for p in NETWORKS[name]().parameters()) == count


def test_one_full_expert_is_as_large_as_the_plain_network():
    """Torchvision's counts, 25,557,032 and 25,028,904, less 1000 classes of 2048 and a bias."""
    for settings, count in ((LARGE, 25_557_032), (RESNEXT, 25_028_904)):
        with torch.device("meta"):
            network = ImagenetExperts(1, False, **settings)
        assert sum(p.numel() for p in network.parameters()) == count - 2_049_000


# ------------------------------------------------------------------ the forward pass, once more


def shuffled(network, seed=0):
    """Give batch norm statistics and weights that are not its first ones, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
                positive = name.endswith(("running_var", "weight"))
                tensor.copy_(noise + 0.5 if positive else noise - 0.5)
    return network


class Raw:
    """The layers' formulas on the tensors of a state dict."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1):
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        groups = x.shape[1] // weight.shape[1]
        return functional.conv2d(x, weight, bias, stride, weight.shape[2] // 2, groups=groups)

    def norm(self, x, name):
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5) ** 0.5 * weight + bias

    def stem(self, x, stride=1):
        return self.norm(self.conv(x, "conv1", stride), "bn1").clamp(min=0)

    def block(self, x, name, stride):
        """The stride is on the first 3x3 convolution: the second of a bottleneck."""
        layers = 3 if f"{name}.conv3.weight" in self.state else 2
        out = x
        for number in range(1, layers + 1):
            step = stride if number == layers - 1 else 1
            out = self.norm(self.conv(out, f"{name}.conv{number}", step), f"{name}.bn{number}")
            out = out.clamp(min=0) if number < layers else out
        return (out + self.shortcut(x, name, stride, out.shape[1])).clamp(min=0)

    def shortcut(self, x, name, stride, channels):
        there = f"{name}.downsample"
        if f"{there}.0.weight" in self.state:
            return self.norm(self.conv(x, f"{there}.0", stride), f"{there}.1")
        x = x[:, :, ::stride, ::stride]
        zeros = x.new_zeros(len(x), (channels - x.shape[1]) // 2, *x.shape[2:])
        return torch.cat([zeros, x, zeros], dim=1)

    def stage(self, x, name, stride):
        number = 0
        while f"{name}.{number}.conv1.weight" in self.state:
            x = self.block(x, f"{name}.{number}", stride if number == 0 else 1)
            number += 1
        return x

    def experts(self, x, first, second):
        features, number = [], 0
        while f"{first}.{number}.0.conv1.weight" in self.state:
            maps = self.stage(self.stage(x, f"{first}.{number}", 2), f"{second}.{number}", 2)
            features.append(maps.mean(dim=(2, 3)))
            number += 1
        return torch.stack(features, dim=1).flatten(1)  # (B, E, d), then expert after expert

    def run(self, x, name):
        if name == "L2T-ww":
            x = self.stem(x)
            for number, stride in ((1, 1), (3, 2), (5, 2)):
                x = self.block(x, f"block{number}", stride)
                x = self.stage(x, f"blocks{number + 1}", 1)
            return functional.avg_pool2d(x, 8).flatten(1)
        if name.startswith("Res"):
            x = functional.max_pool2d(self.stem(x, 2), 3, 2, 1)
            return self.experts(
                self.stage(self.stage(x, "layer1", 1), "layer2", 2), "layer3s", "layer4s"
            )
        x = self.stage(self.stem(x), "layer1", 1)
        if "experts" in name:
            return self.experts(x, "layer2s", "layer3s")
        x = self.stage(self.stage(x, "layer2", 2), "layer3", 2)
        if name == "two branches":
            both = [self.block(x, branch, 1) for branch in ("cb_block", "rb_block")]
            x = torch.cat(both, dim=1)
        return x.mean(dim=(2, 3))


def images(count=2, side=32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_features_are_those_of_the_published_forward_pass(name):
    network = shuffled(NETWORKS[name]())
    found = network(images())
    assert found.std() > 1e-3
    torch.testing.assert_close(found, Raw(network.state_dict()).run(images(), name))


@pytest.mark.parametrize("name", QUICK)
@torch.no_grad()
def test_an_image_has_its_features_in_any_batch_and_twice_the_same(name):
    network, batch = shuffled(NETWORKS[name]()), images(3)
    together = network(batch)
    torch.testing.assert_close(together, torch.cat([network(batch[i : i + 1]) for i in range(3)]))
    torch.testing.assert_close(together.flip(0), network(batch.flip(0)))
    assert torch.equal(together, network(batch))


@torch.no_grad()
def test_images_of_other_sizes():
    """Pooling takes the whole map: the means over 64x64 pixels differ from those of a corner."""
    for name in QUICK:
        network = shuffled(NETWORKS[name]())
        found = network(images(2, 64))
        assert found.shape == network(images()).shape
        assert not torch.allclose(found, network(images(2, 64)[:, :, :32, :32]))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("two branches", (("cb_block.",), ("rb_block.",))),
        ("CIFAR, 3 experts, reduced", [(f"layer2s.{i}.", f"layer3s.{i}.") for i in range(3)]),
        ("ResNet-10, 3 experts, reduced", [(f"layer3s.{i}.", f"layer4s.{i}.") for i in range(3)]),
    ],
)
def test_a_part_of_the_features_depends_on_the_trunk_and_its_own_layers_alone(name, own):
    network = shuffled(NETWORKS[name]())
    parts = network(images()).chunk(len(own), dim=1)
    every = tuple(prefix for prefixes in own for prefix in prefixes)
    for part, prefixes in zip(parts, own, strict=True):
        network.zero_grad()
        part.square().sum().backward(retain_graph=True)
        for parameter, tensor in network.named_parameters():
            used = tensor.grad is not None and bool(tensor.grad.any())
            assert used == (parameter.startswith(prefixes) or not parameter.startswith(every))


@torch.no_grad()
def test_a_full_expert_is_a_plain_network():
    """With its own stages put where a ResNet-10 has its, the trunk and expert are one."""
    experts, plain = shuffled(ImagenetExperts(2, False, **SMALL)), ResNet(**SMALL).double().eval()
    for number in range(2):
        state = experts.state_dict()
        own = {
            k.replace(f"layer3s.{number}.", "layer3.").replace(f"layer4s.{number}.", "layer4."): v
            for k, v in state.items()
        }
        plain.load_state_dict(
            {k: v for k, v in own.items() if not k.startswith(("layer3s", "layer4s"))}
        )
        torch.testing.assert_close(plain(images()), experts(images())[:, number * 512 :][:, :512])


@torch.no_grad()
def test_a_wide_network_with_its_head():
    for cosine, shapes in ((False, [(7, 128), (7,)]), (True, [(7, 128)])):
        network = wide_cifar_resnet.build(7, cosine=cosine, scale=4.0, depth=20, factor=2)
        assert [tuple(p.shape) for p in network.head.parameters()] == shapes
        logits = network.eval()(images().float())
        assert logits.shape == (2, 7)
        assert not cosine or logits.abs().max() <= 4.0 + 1e-4
    with pytest.raises(ValueError, match="depth: found 21, expected 6n"):
        WideCifarResNet(21, 2)


@torch.no_grad()
def test_a_network_once_as_wide_is_the_plain_one():
    plain = shuffled(architectures.build("resnet20", 7).backbone)
    same = WideCifarResNet(20, 1).double().eval()
    same.load_state_dict(plain.state_dict())
    assert torch.equal(same(images()), plain(images()))


def test_wide_convolutions_start_from_hes_rule():
    torch.manual_seed(0)
    for parameter, tensor in WideCifarResNet(32, 2).named_parameters():
        if tensor.ndim == 4:
            expected = (2 / tensor[0].numel()) ** 0.5
            assert tensor.std().item() == pytest.approx(expected, rel=0.1), parameter


# ------------------------------------------------------------------ published weights


@torch.no_grad()
def test_the_published_tiny_imagenet_network_on_every_twentieth_image():
    """91 of 500; of all 10,000, in a slow test of the families, 1769, as others measured."""
    path = shared("checkpoints", "tinyimagenet_resnet32.pth.tar")
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    with np.load(shared("tiny_imagenet32", "tiny_imagenet32_lt.npz")) as file:
        data, offset, labels = file["val_jpeg"].tobytes(), file["val_offset"], file["val_y"]
    chosen = range(0, len(labels), 20)
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]]))) for i in chosen]
    )
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    network = L2TResNet(32).eval()
    network.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith(("fc.", "alphas."))}
    )
    features = network(x)
    torch.testing.assert_close(features, Raw(state).run(x, "L2T-ww"), rtol=1e-3, atol=1e-4)
    predicted = (features @ state["fc.weight"].T + state["fc.bias"]).argmax(dim=1)
    hits = predicted.numpy() == labels[::20]
    assert (hits.sum(), len(hits)) == (91, 500)
