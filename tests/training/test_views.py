"""The views of images that training sees: crops and mirror images, drawn by a generator."""

import math

import numpy as np
import pytest
import torch

from ltkit.training.augment import ImageStore

pytestmark = pytest.mark.usefixtures("one_thread")


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)


def store(height=6, width=5, padding=2, flip=True, count=8):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, height, width, 3), generator=generator).byte()
    return pixels, ImageStore(pixels, MEAN, STD, padding, flip)


def normalised(pixels):
    """(B, H, W, channels) bytes to (B, channels, H, W), in double precision."""
    values = (pixels.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    return values.permute(0, 3, 1, 2).float()


def test_plain_images_are_normalised():
    pixels, images = store()
    index = torch.tensor([3, 0, 3])
    torch.testing.assert_close(images.plain(index), normalised(pixels[index]), rtol=0, atol=1e-5)


def test_without_padding_and_flip_nothing_is_changed():
    _, images = store(padding=0, flip=False)
    index = torch.tensor([5, 1])
    assert torch.equal(images.augmented(index, torch.Generator()), images.plain(index))


@pytest.mark.parametrize("flip", [False, True])
def test_every_view_is_a_crop_of_the_padded_image_and_all_occur(flip):
    pixels, images = store(padding=1, flip=flip, count=1)
    padded = np.pad(pixels[0].numpy(), ((1, 1), (1, 1), (0, 0)))
    crops = [padded[top : top + 6, left : left + 5] for top in range(3) for left in range(3)]
    if flip:
        crops += [crop[:, ::-1] for crop in crops]
    expected = normalised(torch.from_numpy(np.array(crops)))
    views = images.augmented(torch.zeros(500, dtype=torch.int64), torch.Generator().manual_seed(0))
    distance = (views[:, None] - expected).abs().amax(dim=(2, 3, 4))
    assert (distance.min(dim=1).values < 1e-5).all()
    seen = torch.bincount(distance.argmin(dim=1), minlength=len(crops))
    expected_count = 500 / len(crops)
    assert ((seen - expected_count).abs() < 5 * math.sqrt(expected_count)).all()


def test_each_image_gets_its_own_view_of_itself():
    pixels = torch.arange(1, 41, dtype=torch.uint8).reshape(40, 1, 1, 1).expand(40, 4, 4, 3)
    images = ImageStore(pixels.contiguous(), (0, 0, 0), (1, 1, 1), 3, True)
    views = images.augmented(torch.arange(40), torch.Generator().manual_seed(0)) * 255
    torch.testing.assert_close(views.amax(dim=(1, 2, 3)), torch.arange(1.0, 41.0))
    assert len({tuple(view.flatten().bool().tolist()) for view in views}) > 10


def test_the_generator_alone_decides_the_views():
    _, images = store()
    index = torch.arange(8)
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    first = images.augmented(index, generator)
    assert not torch.equal(first, images.augmented(index, generator))
    generator.set_state(state)
    torch.manual_seed(99)
    assert torch.equal(first, images.augmented(index, generator))
