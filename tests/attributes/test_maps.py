"""The feature map before the pooling: its mean is the features, of every network that has one."""

import pytest
import torch
from made import refused
from torch import nn

from ltkit import architectures
from ltkit.attributes.maps import FeatureMaps, feature_map

pytestmark = pytest.mark.usefixtures("one_thread")


def network(arch):
    torch.manual_seed(0)
    return architectures.build(arch, 3).eval()


@pytest.mark.parametrize(
    ("arch", "side", "positions"),
    [("digits_net", 8, 2), ("resnet20", 32, 8), ("resnet18_small", 32, 4), ("resnet10", 64, 2),
     ("resnet32_l2t", 32, 8)],
)  # fmt: skip
def test_its_mean_is_the_features(arch, side, positions):
    whole = network(arch)
    images = torch.randn(3, architectures.spec(arch).channels, side, side)
    with torch.no_grad():
        features, _ = whole.features_and_logits(images)
        found = feature_map(whole.backbone, images)
    assert found.shape == (3, features.shape[1], positions, positions)
    torch.testing.assert_close(found.mean(dim=(2, 3)), features, rtol=1e-4, atol=1e-5)


def test_that_of_a_network_with_its_head_is_that_of_its_backbone():
    whole, images = network("resnet20"), torch.randn(2, 3, 32, 32)
    maps = FeatureMaps(whole, lambda given: whole.features_and_logits(given)[0])
    with torch.no_grad():
        features, found = maps(images)
        again = maps(images.flip(0))
    assert maps.module == "backbone.layer3"
    torch.testing.assert_close(found, feature_map(whole.backbone, images))
    torch.testing.assert_close(again[1].flip(0), found)
    torch.testing.assert_close(again[0].flip(0), features)


def test_the_trunk_of_a_cifar_network():
    whole, images = network("resnet20"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            feature_map(whole.backbone, images), whole.backbone.trunk(images)
        )


@pytest.mark.parametrize(
    "made",
    [
        lambda: network("resnet32_2experts").backbone,
        lambda: network("resnet10_oltr").backbone,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 32), nn.Flatten()),  # of one position
    ],
    ids=["experts", "layer after the pooling", "no convolution", "one position"],
)
def test_a_network_without_one(made):
    with torch.no_grad():
        refused(
            lambda: feature_map(made(), torch.randn(2, 3, 32, 32)), "feature map already pooled"
        )


def test_nothing_stays_hooked():
    whole = network("digits_net")
    feature_map(whole.backbone, torch.randn(2, 1, 8, 8))
    assert not any(module._forward_hooks for module in whole.modules())
