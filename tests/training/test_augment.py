"""AutoAugment and Cutout: each operation against Pillow, a whole policy image by image."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made import refused
from PIL import Image, ImageEnhance, ImageOps
from trained import SETTINGS, Stop, dataset_of, fit, log, same, stop_after, weights

from ltkit.errors import InputError
from ltkit.training import auto_augment
from ltkit.training.augment import ImageStore
from ltkit.training.auto_augment import KINDS, auto_augmented, cut_out, turned

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(32, 32, 3), (32, 32, 1), (8, 8, 1), (33, 20, 3), (5, 64, 3), (2, 2, 3), (1, 7, 1)]


def pictures(height, width, channels):
    """Images of several kinds: noise, few values, ramps, dark ones, flat ones."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, height, width, channels)).astype(np.uint8)
    noise[6:12] = noise[6:12] // 4 + 60
    noise[12:16] = np.linspace(0, 255, width)[:, None]
    noise[16:20] = noise[16:20].astype(int) ** 3 // 255**2
    noise[20:22] = np.where(noise[20:22] < 30, 200, 7)
    noise[22:] = np.array([0, 77])[:, None, None, None]
    return noise


def by_pillow(name, pixels, amount):
    """One (H, W, channels) image after an operation of Pillow's."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    fill = 128 if pixels.shape[2] == 1 else (128, 128, 128)
    width, height = image.size
    moved = partial(image.transform, image.size, Image.Transform.AFFINE, fillcolor=fill)
    operations = {
        "invert": lambda: ImageOps.invert(image),
        "auto-contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, amount),
        "posterize": lambda: ImageOps.posterize(image, round(amount)),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(amount),
        "color": lambda: ImageEnhance.Color(image).enhance(amount),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(amount),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(amount),
        "shear-y": lambda: moved((1, 0, 0, amount, 1, 0)),
        "translate-x": lambda: moved((1, 0, amount * width, 0, 1, 0)),
        "translate-y": lambda: moved((1, 0, 0, 0, 1, amount * height)),
        "rotate": lambda: image.rotate(amount, fillcolor=fill),
    }
    return np.asarray(operations[name]()).reshape(pixels.shape)


def amount_of(name, level, sign):
    """As the paper's table has it: ranges in ten steps."""
    part = level / 9
    return {
        "solarize": 256 * (1 - part),
        "posterize": round(8 - 4 * part),
        "brightness": 1 + sign * 0.9 * part,
        "color": 1 + sign * 0.9 * part,
        "contrast": 1 + sign * 0.9 * part,
        "sharpness": 1 + sign * 0.9 * part,
        "shear-y": sign * 0.3 * part,
        "translate-x": sign * 150 / 331 * part,
        "translate-y": sign * 150 / 331 * part,
        "rotate": sign * 30 * part,
    }.get(name, 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", KINDS)
def test_each_operation_is_that_of_pillow(name, shape):
    images = pictures(*shape)
    before = torch.from_numpy(images.copy())
    levels, signs = np.arange(24) % 10, np.where(np.arange(24) // 3 % 2, 1, -1)
    amounts = [amount_of(name, level, sign) for level, sign in zip(levels, signs, strict=True)]
    found = KINDS[name].operation(
        torch.from_numpy(images), torch.tensor(amounts, dtype=torch.float64)
    )
    assert found.dtype == torch.uint8
    for image, amount, result in zip(images, amounts, found, strict=True):
        np.testing.assert_array_equal(result, by_pillow(name, image, amount))
    assert torch.equal(torch.from_numpy(images), before)


def test_directions_by_hand():
    image = torch.arange(9, dtype=torch.uint8).view(1, 3, 3, 1)

    def after(name, amount):
        amounts = torch.tensor([amount], dtype=torch.float64)
        return KINDS[name].operation(image, amounts)[0, :, :, 0].tolist()

    assert after("translate-x", 1 / 3) == [[1, 2, 128], [4, 5, 128], [7, 8, 128]]
    assert after("translate-y", -1 / 3) == [[128, 128, 128], [0, 1, 2], [3, 4, 5]]
    assert after("shear-y", 0.5) == [[0, 4, 5], [3, 7, 8], [6, 128, 128]]
    assert after("rotate", 90.0) == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert after("solarize", 4.0) == [[0, 1, 2], [3, 251, 250], [249, 248, 247]]
    assert after("posterize", 6.0) == [[0, 0, 0], [0, 4, 4], [4, 4, 8]]
    assert after("brightness", 0.5) == [[0, 0, 1], [1, 2, 2], [3, 3, 4]]
    assert after("contrast", 2.0) == [[0, 0, 0], [2, 4, 6], [8, 10, 12]]
    assert after("sharpness", 0.0)[1] == [3, 4, 5]  # (36 + 4 * 4) / 13


def test_the_colours_by_hand():
    image = torch.tensor([100, 50, 200], dtype=torch.uint8).view(1, 1, 1, 3)
    grey = auto_augment.color(image, torch.tensor([0.0]))  # 29.9 + 29.35 + 22.8
    assert grey.flatten().tolist() == [82, 82, 82]
    more = auto_augment.color(image, torch.tensor([1.5]))
    assert more.flatten().tolist() == [109, 34, 255]


def test_the_policy_has_its_levels_and_probabilities():
    lines = [line.split() for line in auto_augment.POLICY.split("\n") if line.strip()]
    assert len(lines) == 25
    assert all(len(line) == 6 for line in lines)
    for line in lines:
        for name, chance, level in (line[:3], line[3:]):
            assert 0 <= float(chance) <= 0.9
            assert 0 <= int(level) <= 9
            kind = KINDS[name]
            for sign in (1, -1) if kind.either_way else (1,):
                amount = kind.neutral + sign * kind.span * int(level) / 9
                amount = round(amount) if name == "posterize" else amount
                assert amount == pytest.approx(amount_of(name, int(level), sign), abs=1e-12)
    firsts = [line[0] for line in lines]
    assert firsts.count("equalize") == 5  # of the paper's table, counted
    assert sum(line[3] == "equalize" for line in lines) == 4
    assert sum(float(line[1]) for line in lines) == pytest.approx(13.4)
    assert sum(float(line[4]) for line in lines) == pytest.approx(13.1)


def replayed(images, generator):
    """The same draws, image by image, by Pillow."""
    lines = [line.split() for line in auto_augment.POLICY.strip().split("\n")]
    chosen = torch.randint(25, (len(images),), generator=generator).tolist()
    chances = torch.rand(len(images), 2, generator=generator).tolist()
    signs = torch.randint(2, (len(images), 2), generator=generator).tolist()
    results = []
    for i, image in enumerate(images):
        line = lines[chosen[i]]
        for turn in (0, 1):
            name, chance, level = line[3 * turn : 3 * turn + 3]
            if chances[i][turn] < np.float32(chance):
                amount = amount_of(name, int(level), 2 * signs[i][turn] - 1)
                image = by_pillow(name, image, amount)
        results.append(image)
    return np.array(results)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_as_its_images_one_by_one(channels):
    rng = np.random.default_rng(1)
    images = rng.integers(20, 200, (400, 12, 16, channels)).astype(np.uint8)
    given = torch.from_numpy(images.copy())
    found = auto_augmented(given, torch.Generator().manual_seed(2))
    expected = replayed(images, torch.Generator().manual_seed(2))
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(given, torch.from_numpy(images))
    changed = (expected != images).any(axis=(1, 2, 3)).mean()
    assert 0.5 < changed < 0.95


# Cutout


@pytest.mark.parametrize("size", [(8, 8), (9, 16), (16, 7), (1, 1), (3, 3)])
def test_cutout_is_a_square_of_zeros_anywhere(size):
    height, width = size
    images = 1 + torch.rand(1500, 2, height, width)
    before = images.clone()
    found = cut_out(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)
    gone = found == 0
    assert torch.equal(found, torch.where(gone, 0.0, images))
    assert torch.equal(gone[:, 0], gone[:, 1])
    half = min(size) // 4
    masks = {}
    for row in range(height):
        for column in range(width):
            mask = np.zeros(size, bool)
            mask[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = True
            masks[mask.tobytes()] = masks.get(mask.tobytes(), 0) + 1 / (height * width)
    seen = [mask.numpy().tobytes() for mask in gone[:, 0]]
    assert set(seen) <= set(masks)
    for mask, chance in masks.items():
        spread = math.sqrt(1500 * chance * max(1 - chance, 0))
        assert abs(seen.count(mask) - 1500 * chance) <= 5 * spread + 1e-6


# The store


def store(augment, shape=(7, 10, 10, 3), flip=True):
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).byte()
    count = shape[3]
    return ImageStore(pixels, (0.5,) * count, (0.2,) * count, 2, flip, augment)


def views(augment, **options):
    return store(augment, **options).augmented(torch.arange(7), torch.Generator().manual_seed(4))


def test_none_gives_the_images_as_they_are():
    images = store("none")
    generator = torch.Generator().manual_seed(4)
    state = generator.get_state()
    found = images.augmented(torch.arange(7), generator)
    assert torch.equal(found, images.plain(torch.arange(7)))
    assert torch.equal(generator.get_state(), state)


def test_the_parts_come_one_after_the_other():
    generator = torch.Generator().manual_seed(4)
    standard = store("standard").augmented(torch.arange(7), generator)
    after_crop = generator.get_state()
    assert torch.equal(views("cutout"), cut_out(standard, generator))

    generator.set_state(after_crop)
    pixels = ((standard * 0.2 + 0.5) * 255).round().byte().permute(0, 2, 3, 1)
    changed = auto_augmented(pixels, generator).permute(0, 3, 1, 2)
    expected = (changed.float() / 255 - 0.5) / 0.2
    assert not torch.equal(changed, pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(views("autoaugment"), expected, atol=1e-5, rtol=0)
    both = cut_out(expected, generator)
    torch.testing.assert_close(views("autoaugment+cutout"), both, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_turned_images_are_as_pillow_turns_them(channels):
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (40, 16, 12, channels), generator=generator).byte()
    found = turned(pixels, torch.Generator().manual_seed(6)).numpy()
    draws = torch.rand(40, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    degrees = (30 * draws - 15).tolist()
    assert min(degrees) < -12 < 12 < max(degrees)
    for image, angle, turn in zip(pixels.numpy(), degrees, found, strict=True):
        expected = np.asarray(Image.fromarray(image.squeeze()).rotate(angle))
        np.testing.assert_array_equal(turn.squeeze(), expected)


def test_a_view_is_turned_after_the_crop_and_the_flip():
    generator = torch.Generator().manual_seed(4)
    standard = store("standard").augmented(torch.arange(7), generator)
    pixels = standard.permute(0, 2, 3, 1) * (0.2 * 255) + 0.5 * 255
    changed = turned(pixels.round().byte(), generator).permute(0, 3, 1, 2)
    expected = (changed / 255 - 0.5) / 0.2
    torch.testing.assert_close(views("rotation"), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("augment", ["autoaugment", "autoaugment+cutout"])
def test_the_policy_is_for_grey_and_coloured_images(augment):
    assert views(augment, shape=(7, 4, 4, 1)).shape == (7, 1, 4, 4)
    message = refused(partial(store, augment, shape=(7, 4, 4, 2)), error=InputError)
    assert message == f"augment {augment}: found images of 2 channels, expected 1 or 3"


# In a run


@pytest.mark.parametrize(
    "augment", ["none", "rotation", "cutout", "autoaugment", "autoaugment+cutout"]
)
def test_an_augmented_run_repeats_itself_and_is_resumed(tmp_path, augment):
    digits = dataset_of([40, 20, 10])
    settings = replace(SETTINGS, epochs=2, augment=augment)
    whole, cut, standard = (tmp_path / f"{n}.pt" for n in ("whole", "cut", "standard"))
    fit(digits, whole, settings)
    with pytest.raises(Stop):
        fit(digits, cut, settings, report=stop_after(1))
    refused(
        partial(fit, digits, cut, replace(settings, augment="standard"), resume=True), "augment:"
    )
    fit(digits, cut, settings, resume=True)
    assert same(weights(cut), weights(whole))
    fit(digits, standard, replace(settings, augment="standard"))
    assert log(standard)[0]["loss"] != log(whole)[0]["loss"]
    assert torch.load(whole, weights_only=True)["recipe"]["augment"] == augment


def test_validation_images_are_left_as_they_are(tmp_path, monkeypatch):
    augments = []
    made = ImageStore.__init__

    def spy(self, *arguments):
        made(self, *arguments)
        augments.append(self.augment)

    monkeypatch.setattr(ImageStore, "__init__", spy)
    settings = replace(SETTINGS, epochs=1, augment="cutout")
    fit(dataset_of([5, 5], val=[2, 2]), tmp_path / "m.pt", settings)
    assert augments == ["cutout", "none"]


def test_the_command_line(ltkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--epochs", "1", "-q")
    words += ("--batch-size", "256")
    code, _, error = ltkit(*words, "--augment", "autoagument")
    assert code == 2
    assert "autoaugment" in error
    assert not list(Path().iterdir())
    assert ltkit(*words, "--augment", "autoaugment+cutout", "--device", "cpu")[0] == 0
    recipe = torch.load("ce.pt", weights_only=True)["recipe"]
    assert recipe["augment"] == "autoaugment+cutout"
