"""A device whose memory is full gets fewer images at a time."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltkit import architectures, datasets
from ltkit.architectures.network import Network
from ltkit.checkpoints import Recognised
from ltkit.errors import InputError
from ltkit.files import features
from ltkit.settings import ExtractSettings
from ltkit.sources import extraction

sys.path.append(str(Path(__file__).parent / "faults"))

pytestmark = pytest.mark.usefixtures("one_thread")


# Memory


class Hungry(Network):
    """A network that takes so many images at a time, for so many batches; then `least`."""

    most, batches, least = 1000, 1000, 1000

    def features_and_logits(self, images):
        limit = self.most if self.batches > 0 else self.least
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.batches -= 1
        return super().features_and_logits(images)


@pytest.fixture
def extract(tmp_path):
    """Extract the validation split with a hungry network; return features and notes."""
    data = datasets.load("digits_lt:ir=20")
    own = architectures.build("digits_net", 10)
    model = Recognised(
        tmp_path / "m.pt", "0" * 64, "native", "digits_net", own, data.mean, data.std
    )

    def run(size=100, **limits):
        network = Hungry(own.backbone, own.head)
        vars(network).update(limits)
        notes, path = [], tmp_path / f"{size}-{len(limits)}.h5"
        hungry = replace(model, network=network)
        settings = ExtractSettings(batch_size=size)
        extraction.extract(hungry, data, ("val",), path, settings, note=notes.append)
        return features.read(path).split("val").features[:], notes

    return run


@pytest.mark.parametrize(("most", "said", "size"), [
    (100, [], 100), (99, [50], 50), (30, [50, 25], 25), (1, [50, 25, 13, 7, 4, 2, 1], 1),
])  # fmt: skip
def test_a_device_without_memory_gets_half_as_many_images(extract, most, said, size):
    expected, notes = extract(size)
    assert notes == []
    found, notes = extract(100, most=most)
    assert notes == [
        f"note: the device's memory is full, continuing with {n} images at a time" for n in said
    ]
    np.testing.assert_array_equal(found, expected)


def test_memory_that_is_gone_in_the_middle(extract):
    whole, _ = extract()
    found, notes = extract(100, batches=2, least=50)  # the check of the head, and a batch
    assert len(notes) == 1
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)


def test_one_image_that_does_not_fit(extract):
    with pytest.raises(InputError, match="device: one image does not fit its memory"):
        extract(4, most=0)
