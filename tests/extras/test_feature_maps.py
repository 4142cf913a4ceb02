"""Feature maps of libraries' networks: caught where their mean is the features, else refused."""

import pytest
import torch
from made import refused

from ltkit.architectures.network import Hooked
from ltkit.attributes.maps import FeatureMaps

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]


def caught(model, head):
    hooked, images = Hooked(model.eval(), (head,)), torch.randn(2, 3, 96, 96)
    maps = FeatureMaps(hooked, lambda given: hooked.features_and_logits(given)[0])
    with torch.inference_mode():
        features, found = maps(images)
    torch.testing.assert_close(found.mean(dim=(2, 3)), features, rtol=1e-4, atol=1e-5)
    return found.shape


@pytest.mark.parametrize(
    ("name", "head", "width"),
    [("resnet18", "fc", 512), ("efficientnet_b0", "classifier.1", 1280),
     ("densenet121", "classifier", 1024)],
)  # fmt: skip
def test_of_torchvision(name, head, width):
    from torchvision import models

    torch.manual_seed(0)
    assert caught(getattr(models, name)(), head) == (2, width, 3, 3)


@pytest.mark.parametrize(("name", "width"), [("resnet10t", 512), ("efficientnet_lite0", 1280)])
def test_of_timm(name, width):
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name)
    assert caught(model, model.default_cfg["classifier"]) == (2, width, 3, 3)


def test_of_networks_with_layers_after_the_pooling():
    from torchvision import models

    refused(lambda: caught(models.mobilenet_v3_small(), "classifier.3"), "already pooled")
