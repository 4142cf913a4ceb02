"""The networks: their sizes by formula, the shortcut and the cosine head by hand."""

import pytest
import shared_data
import torch

from ltkit import architectures
from ltkit.architectures.cifar_resnet import BasicBlock, CifarResNet
from ltkit.architectures.heads import CosineHead
from ltkit.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def parameters(depth, num_classes):
    """Weights of the convolutions, two for each normalised channel, the head."""
    n = (depth - 2) // 6
    total = 3 * 16 * 9 + 2 * 16
    for channels_in, channels in ((16, 16), (16, 32), (32, 64)):
        convolutions = channels_in * channels + (2 * n - 1) * channels**2
        total += 9 * convolutions + 2 * n * 2 * channels
    return total + (64 + 1) * num_classes


@pytest.mark.parametrize(
    ("arch", "millions"),
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)],
)
def test_cifar_resnets_have_their_published_sizes(arch, millions):
    network = architectures.build(arch, 10)
    count = sum(p.numel() for p in network.parameters())
    assert count == parameters(int(arch.removeprefix("resnet")), 10)
    assert round(count / 1e6, 2) == millions
    depth = sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in network.modules())
    assert depth == int(arch.removeprefix("resnet"))


QUICK = [
    arch
    for arch, spec in architectures.CATALOGUE.items()
    if spec.image_size < 224 or (spec.experts <= 2 and "50" not in arch)
]


@pytest.mark.parametrize("arch", QUICK)
@pytest.mark.parametrize("cosine", [False, True])
@torch.no_grad()
def test_every_network_gives_the_features_it_says_and_logits(arch, cosine):
    spec = architectures.CATALOGUE[arch]
    network = architectures.build(arch, 7, cosine=cosine, scale=16.0).eval()
    images = (
        torch.randn(2, spec.channels, 32, 32) if spec.channels == 3 else torch.randn(2, 1, 8, 8)
    )
    features = network.backbone(images)
    size = spec.features
    assert features.shape == (2, size)
    assert network(images).shape == (2, 7)
    torch.testing.assert_close(network(images), network.head(features))
    expected = [(7, size // spec.experts), (7,)][: 1 if cosine else 2] * spec.experts
    assert [p.shape for p in network.head.parameters()] == expected


@pytest.mark.parametrize("arch", architectures.CATALOGUE)
def test_the_sizes_of_all_networks_are_those_of_the_catalogue(arch):
    spec = architectures.CATALOGUE[arch]
    with torch.device("meta"):
        network = architectures.build(arch, 7)
        sizes = [p.shape[1] for p in network.head.parameters() if p.ndim == 2]
    assert (sum(sizes), len(sizes)) == (spec.features, spec.experts)


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("resnet50", 25_557_032),
        ("resnet152", 60_192_808),
        ("resnext50", 25_028_904),
        ("wide_resnet50_2", 68_883_240),
    ],
)
def test_large_resnets_have_their_published_sizes(arch, count):
    with torch.device("meta"):
        network = architectures.build(arch, 1000)
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_small_stem_keeps_the_size_of_the_image():
    """ResNet-34: torchvision's 21,797,672 with a 7x7 stem, 40 weights less a filter with 3x3."""
    with torch.device("meta"):
        network = architectures.build("resnet34_small", 1000)
        stem = network.backbone.conv1(torch.empty(1, 3, 32, 32))
    assert sum(p.numel() for p in network.parameters()) == 21_797_672 - 64 * 3 * (49 - 9)
    assert stem.shape == (1, 64, 32, 32)


@pytest.mark.parametrize("name", ["cifar10_resnet20.th", "cifar10_resnet32.th"])
def test_published_weights_fit(name):
    """Checkpoints of Idelbayev's CIFAR ResNets: the same tensors by the same names."""
    path = shared_data.shared("checkpoints", name)
    published = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    published = {k.removeprefix("module."): tuple(v.shape) for k, v in published.items()}
    ours = architectures.build(name.removesuffix(".th").removeprefix("cifar10_"), 10).state_dict()
    ours = {
        k.removeprefix("backbone.").replace("head.", "linear."): tuple(v.shape)
        for k, v in ours.items()
        if not k.endswith("num_batches_tracked")  # the files are older than these counters
    }
    assert ours == published


def test_the_shortcut_takes_every_other_pixel_and_pads_channels_on_either_side():
    block = BasicBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # the shortcut alone is left
    x = torch.arange(1.0, 33.0).reshape(1, 2, 4, 4)
    expected = torch.tensor(
        [[[0, 0], [0, 0]], [[1, 3], [9, 11]], [[17, 19], [25, 27]], [[0, 0], [0, 0]]]
    )
    torch.testing.assert_close(block(x), expected[None].float())


def test_a_block_of_one_size_adds_its_input():
    block = BasicBlock(2, 2, stride=1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.tensor([-1.0, 2.0]).repeat(8).reshape(1, 2, 2, 4)
    torch.testing.assert_close(block(x), x.clamp(min=0))
    x = torch.rand(1, 2, 4, 4)
    torch.nn.init.dirac_(block.conv1.weight)
    torch.nn.init.dirac_(block.conv2.weight)
    torch.testing.assert_close(block(x), 2 * x, rtol=1e-4, atol=1e-4)


def test_features_are_the_mean_over_pixels():
    backbone = CifarResNet(8).eval()
    maps = []
    backbone.layer3.register_forward_hook(lambda module, inputs, output: maps.append(output))
    features = backbone(torch.randn(2, 3, 32, 32))
    assert maps[0].shape == (2, 64, 8, 8)
    torch.testing.assert_close(features, maps[0].flatten(2).mean(dim=2))


def test_cosine_logits():
    head = CosineHead(2, 3, scale=10.0)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(3))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[5.0, 0.0], [0.0, -0.1], [3.0, 4.0]]))
    features = torch.tensor([[2.0, 0.0], [0.0, 7.0]])
    expected = torch.tensor([[10.0, 0.0, 6.0], [0.0, -10.0, 8.0]])
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(0.01 * features), expected)
    random = CosineHead(8, 50, scale=30.0)(torch.randn(100, 8))
    assert random.abs().max() <= 30.0 + 1e-4


def test_the_same_seed_builds_the_same_network():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(architectures.build("resnet20", 5).state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_an_unknown_name():
    with pytest.raises(InputError, match="resnet23: unknown architecture; did you mean resnet34"):
        architectures.build("resnet23", 10)


@pytest.mark.parametrize("depth", [2, -4, 18, 21])
def test_a_depth_that_does_not_fit(depth):
    with pytest.raises(ValueError, match=f"depth: found {depth}, expected 6n \\+ 2"):
        CifarResNet(depth)


@torch.no_grad()
def test_each_expert_has_its_own_stages():
    """Changing one expert's layers changes its own features alone; the trunk changes all."""
    network = architectures.build("resnet32_3experts_reduced", 7).eval().backbone
    images = torch.randn(2, 3, 32, 32)
    before = network(images).chunk(3, dim=1)
    for number in range(3):
        for stage in ("layer2s", "layer3s"):
            weight = network.get_parameter(f"{stage}.{number}.4.bn2.weight")
            weight.mul_(2)
            after = network(images).chunk(3, dim=1)
            changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert changed == [i == number for i in range(3)]
            weight.div_(2)
    network.layer1[4].bn2.weight.mul_(2)
    after = network(images).chunk(3, dim=1)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_reduced_experts_have_three_quarters_of_the_width():
    for arch, widths in (("resnet32_2experts_reduced", (24, 48)), ("resnet32_2experts", (32, 64))):
        shapes = architectures.backbone_shapes(arch)
        assert shapes["layer2s.1.0.conv1.weight"] == (widths[0], 16, 3, 3)
        assert shapes["layer3s.0.0.conv1.weight"] == (widths[1], widths[0], 3, 3)
    shapes = architectures.backbone_shapes("resnext50_2experts_reduced")
    assert shapes["layer3s.1.0.conv2.weight"] == (384, 12, 3, 3)  # 192 * 4 / 64 * 32 in 32 groups
    assert shapes["layer4s.1.0.downsample.0.weight"] == (1536, 768, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (256, 256, 1, 1)


@torch.no_grad()
def test_the_two_branches_are_two_last_blocks():
    """With both blocks equal to a plain network's last one, its features stand there twice."""
    plain = architectures.build("resnet32", 7).eval().backbone
    double = architectures.build("resnet32_two_branch", 7).eval().backbone
    state = plain.state_dict()
    last = {k.removeprefix("layer3.4."): v for k, v in state.items() if k.startswith("layer3.4.")}
    state = {k: v for k, v in state.items() if not k.startswith("layer3.4.")}
    for branch in ("cb_block", "rb_block"):
        state |= {f"{branch}.{k}": v for k, v in last.items()}
    double.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    features = plain(images)
    torch.testing.assert_close(double(images), torch.cat([features, features], dim=1))
    double.rb_block.bn2.weight.mul_(2)
    torch.testing.assert_close(double(images)[:, :64], features)
    assert not torch.equal(double(images)[:, 64:], features)


def test_the_tensors_of_the_published_l2t_network():
    path = shared_data.shared("checkpoints", "tinyimagenet_resnet32.pth.tar")
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    found = {k: tuple(v.shape) for k, v in state.items() if not k.startswith(("fc.", "alphas."))}
    ours = architectures.backbone_shapes("resnet32_l2t")
    assert {k: v for k, v in found.items() if not k.endswith("num_batches_tracked")} == ours


def test_the_most_like_network_is_found_by_its_tensors():
    for arch in ("resnet56", "resnet34", "resnet34_small", "resnext50", "resnet32_6experts"):
        assert architectures.most_like(architectures.backbone_shapes(arch)) == (arch, 1.0)
    shapes = dict(architectures.backbone_shapes("resnet50"))
    del shapes["layer4.2.bn3.bias"]
    name, likeness = architectures.most_like(shapes)
    assert name == "resnet50"
    assert 0.99 < likeness < 1
