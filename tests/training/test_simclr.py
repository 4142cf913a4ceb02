"""SimCLR's views against naive forms: pixels in float64, colours by the standard library."""

import colorsys

import numpy as np
import pytest
import torch

from ltkit.training import simclr
from ltkit.training.augment import VIEWS, ImageStore

pytestmark = pytest.mark.usefixtures("one_thread")


def pictures(count=6, height=9, width=7, channels=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, channels), generator=generator).byte()


def naive(image, top, left, high, wide):
    """One part of an image at the image's size, pixel by pixel."""
    height, width, _ = image.shape
    part = image[top : top + high, left : left + wide].astype(np.float64)
    found = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            y = min(max((row + 0.5) * high / height - 0.5, 0), high - 1)
            x = min(max((column + 0.5) * wide / width - 0.5, 0), wide - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, high - 1), min(x0 + 1, wide - 1)
            above = part[y0, x0] * (1 - x + x0) + part[y0, x1] * (x - x0)
            below = part[y1, x0] * (1 - x + x0) + part[y1, x1] * (x - x0)
            found[row, column] = above * (1 - y + y0) + below * (y - y0)
    return found


def test_parts_are_what_they_are_pixel_by_pixel():
    images = pictures()
    boxes = [(0, 0, 9, 7), (2, 1, 5, 4), (8, 6, 1, 1), (0, 3, 9, 2), (3, 0, 2, 7), (1, 1, 3, 3)]
    given = [torch.tensor([float(box[i]) for box in boxes]) for i in range(4)]
    found = simclr.resized(images, *given)
    for image, box, view in zip(images.numpy(), boxes, found.numpy(), strict=True):
        assert np.abs(naive(image, *box) - view).max() < 0.51
    assert torch.equal(found[0], images[0])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 40), (40, 20)])
def test_parts_have_the_areas_and_ratios_of_the_source(height, width):
    images = torch.zeros(4000, height, width, 3, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    top, left, high, wide = simclr.boxes(images, generator)
    assert ((top >= 0) & (top + high <= height) & (left >= 0) & (left + wide <= width)).all()
    area, ratio = (high * wide) / (height * width), wide / high
    assert 0.2 * 0.85 < area.min() < 0.3
    assert area.max() > (0.8 if height == width else 0.6)  # 4 / 3 of a side of 20 by 20, of 800
    assert ((ratio > 0.75 * 0.85) & (ratio < 4 / 3 * 1.15)).all()
    if height == width:
        assert area.mean() == pytest.approx(0.57, abs=0.03)  # large wide parts do not fit
        middle = (top + high / 2).mean() / height
        assert middle == pytest.approx(0.5, abs=0.01)


def test_a_part_that_never_fits_is_the_middle():
    generator = torch.Generator().manual_seed(0)
    top, left, high, wide = simclr.boxes(torch.zeros(50, 64, 4, 3, dtype=torch.uint8), generator)
    assert set(high.tolist()) == {5.0}
    assert set(wide.tolist()) == {4.0}
    assert set(top.tolist()) == {29.0}
    assert set(left.tolist()) == {0.0}


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1, 0.5, 0.99])
def test_hues_are_those_of_the_standard_library(turn):
    images = pictures()
    found = simclr.turned(images, torch.full((6,), turn))
    for pixel, view in zip(
        images.reshape(-1, 3).tolist(), found.reshape(-1, 3).tolist(), strict=True
    ):
        hue, saturation, value = colorsys.rgb_to_hsv(*(p / 255 for p in pixel))
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        assert max(abs(255 * e - v) for e, v in zip(expected, view, strict=True)) < 0.51


def test_grey_pixels_have_no_hue():
    images = pictures(channels=1).expand(-1, -1, -1, 3)
    assert torch.equal(simclr.turned(images, torch.full((6,), 0.3)), images)


def test_a_fifth_is_grey_and_a_fifth_keeps_its_colours():
    images = pictures(1).expand(5000, -1, -1, -1)
    views = simclr.coloured(images, torch.Generator().manual_seed(0))
    grey = (views.amax(dim=3) == views.amin(dim=3)).flatten(1).all(dim=1)
    same = (views == images).flatten(1).all(dim=1)
    assert grey.float().mean() == pytest.approx(0.2, abs=0.03)
    assert same.float().mean() == pytest.approx(0.2 * 0.8, abs=0.03)


def test_the_generator_alone_decides_the_views():
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    first = simclr.simclr(pictures(), True, generator)
    assert not torch.equal(first, simclr.simclr(pictures(), True, generator))
    generator.set_state(state)
    torch.manual_seed(9)
    assert torch.equal(first, simclr.simclr(pictures(), True, generator))


def test_half_are_mirrored_where_that_is_allowed(monkeypatch):
    monkeypatch.setattr(simclr, "SCALE", (1.0, 1.0))
    monkeypatch.setattr(simclr, "RATIO", (1.0, 1.0))
    images = pictures(1, 8, 8, 1).expand(1000, -1, -1, -1)
    for flip, part in ((True, 0.5), (False, 0.0)):
        views = simclr.simclr(images, flip, torch.Generator().manual_seed(0))
        mirrored = (views == images.flip(2)).flatten(1).all(dim=1)
        assert ((views == images).flatten(1).all(dim=1) | mirrored).all()
        assert mirrored.float().mean() == pytest.approx(part, abs=0.06)


def test_a_store_gives_each_view_that_is_asked_for():
    images = ImageStore(pictures(), (0.5,) * 3, (0.25,) * 3, 2, True, "standard")
    index = torch.arange(6)
    for view in VIEWS.values():
        own = ImageStore(pictures(), (0.5,) * 3, (0.25,) * 3, 2, True, view)
        found = images.augmented(index, torch.Generator().manual_seed(0), view)
        assert torch.equal(found, own.augmented(index, torch.Generator().manual_seed(0)))
        assert found.shape == (6, 3, 9, 7)
