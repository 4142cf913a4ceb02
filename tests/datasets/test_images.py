"""Pictures to pixels: one fixed conversion, in order, and refusals that name the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ltkit.datasets import images
from ltkit.datasets.images import ImageFiles, brought, transform
from ltkit.errors import InputError
from ltkit.records import ImageView


def noise(width, height, channels=3, seed=0):
    shape = (height, width, channels)[: 2 + (channels > 1)]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [(10, 10), (13, 10), (10, 17), (12, 10)])
def test_the_centre_is_cut_where_no_scaling_is_needed(size):
    pixels = noise(*size)
    top, left = round((size[1] - 7) / 2), round((size[0] - 7) / 2)
    expected = pixels[top : top + 7, left : left + 7]
    np.testing.assert_array_equal(transform(Image.fromarray(pixels), ImageView(10, 7)), expected)


def bilinear(pixels, size):
    """Scale by hand: triangle filter, as wide as the reduction, one axis after the other."""
    for axis, out in ((1, size[0]), (0, size[1])):
        length = pixels.shape[axis]
        ratio = length / out
        support = max(ratio, 1)
        centres = (np.arange(out) + 0.5) * ratio
        distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / support
        weights = np.clip(1 - distance, 0, None)
        weights /= weights.sum(axis=1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, axes=(1, axis)), 0, axis)
    return pixels


@pytest.mark.parametrize("size", [(40, 30), (21, 50), (9, 7)])
def test_scaling_is_bilinear_and_antialiased(size):
    pixels = noise(*size)
    width, height = brought(size, ImageView(12, 12))
    top, left = round((height - 10) / 2), round((width - 10) / 2)
    expected = bilinear(pixels.astype(float), (width, height))[top : top + 10, left : left + 10]
    found = transform(Image.fromarray(pixels), ImageView(12, 10)).astype(float)
    assert np.abs(found - expected).max() <= 1.01  # Pillow rounds after each axis


def test_sizes_are_rounded_as_torchvision_does():
    for shorter in range(50, 400, 7):
        for longer in range(shorter, 900, 13):
            expected = int(256 * longer / shorter)
            assert brought((longer, shorter), ImageView(256, 256)) == (expected, 256)
            assert brought((shorter, longer), ImageView(256, 256)) == (256, expected)


def test_grey_becomes_three_equal_channels():
    pixels = noise(8, 8, 1)
    found = transform(Image.fromarray(pixels), ImageView(8, 8))
    np.testing.assert_array_equal(found, np.stack([pixels] * 3, axis=-1))


def stored(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return Image.open(file)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_256(format):
    wide = np.random.default_rng(0).integers(0, 1 << 16, (8, 8), dtype=np.uint16)
    image = stored(Image.fromarray(wide), format)
    found = transform(image, ImageView(8, 8))
    np.testing.assert_array_equal(found, np.stack([wide // 256] * 3, axis=-1))


def test_thirty_two_bits_are_treated_like_sixteen():
    image = Image.fromarray(np.array([[255, 256], [65_535, -5]], dtype=np.int32))
    assert transform(image, ImageView(2, 2))[..., 0].tolist() == [[0, 1], [255, 0]]


def test_transparency_is_dropped():
    pixels = noise(8, 8, 4)
    found = transform(stored(Image.fromarray(pixels, "RGBA"), "PNG"), ImageView(8, 8))
    np.testing.assert_array_equal(found, pixels[..., :3])


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 160, 10))])
def test_a_palette_gives_its_colours(transparency):
    image = Image.fromarray(noise(8, 8)).quantize(16)
    colours = np.array(image.getpalette()).reshape(-1, 3)[np.asarray(image)]
    options = {} if transparency is None else {"transparency": transparency}
    found = transform(stored(image, "PNG", **options), ImageView(8, 8))
    np.testing.assert_array_equal(found, colours)


def test_cmyk_becomes_rgb():
    image = stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert transform(image, ImageView(8, 8))[0, 0].tolist() == [255, 0, 0]


def test_exif_rotation_is_not_applied():
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    found = transform(stored(Image.fromarray(pixels), "PNG", exif=exif), ImageView(8, 8))
    np.testing.assert_array_equal(found, pixels)


# Files


@pytest.fixture
def files(tmp_path):
    for position in range(20):
        Image.new("RGB", (9 + position, 9), (position, 0, 0)).save(tmp_path / f"{position}.png")
    return [tmp_path / f"{position}.png" for position in range(20)]


@pytest.mark.parametrize("workers", [1, 4])
def test_images_come_in_the_order_of_the_list(files, workers):
    rows = ImageFiles(files[::-1], ImageView(9, 8), workers)
    assert len(rows) == 20
    assert rows[:][:, 0, 0, 0].tolist() == list(range(19, -1, -1))
    assert rows[5:8][:, 0, 0, 0].tolist() == [14, 13, 12]
    assert rows[18:99].shape == (2, 8, 8, 3)
    assert rows[7:7].shape == (0, 8, 8, 3)


def test_a_jpeg_is_decoded(tmp_path):
    Image.new("RGB", (20, 20), (10, 200, 30)).save(tmp_path / "a.jpg", quality=95)
    found = ImageFiles([tmp_path / "a.jpg"], ImageView(10, 8))[:]
    assert np.abs(found.astype(int) - [10, 200, 30]).max() < 4


def test_a_missing_image(files):
    files[3].unlink()
    with pytest.raises(InputError, match=r"3\.png: not found, expected image 3; check --root"):
        ImageFiles(files, ImageView(9, 8))[2:5]


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # of a broken TIFF, before it fails
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("keep", [0, 3, 30, 0.5, 0.9])
def test_a_truncated_image(tmp_path, format, keep):
    path = tmp_path / "image"
    Image.fromarray(noise(30, 20)).save(path, format)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(InputError, match=r"image: image 0: cannot be decoded .*--on-error skip"):
        ImageFiles([path], ImageView(16, 16))[:]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not here</html>", b"P6\n3N 20\n255\n" + bytes(99), b"P6 1 " + b"1" * 50],
)
def test_no_image(tmp_path, content):
    (tmp_path / "a.ppm").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.ppm: image 0: cannot be decoded"):
        ImageFiles([tmp_path / "a.ppm"], ImageView(16, 16))[:]


def test_a_folder_in_place_of_an_image(tmp_path):
    with pytest.raises(InputError, match="is a folder, expected image 0"):
        ImageFiles([tmp_path], ImageView(16, 16))[:]


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    with pytest.raises(InputError, match=r"bomb\.png: image 0: cannot be decoded .*exceeds limit"):
        ImageFiles([tmp_path / "bomb.png"], ImageView(16, 16))[:]


def test_an_image_above_our_own_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 399)
    Image.new("L", (20, 20)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="image 0: found 20 x 20 pixels, expected at most 399"):
        ImageFiles([tmp_path / "large.png"], ImageView(10, 10))[:]


def test_a_ribbon_is_refused_before_it_is_scaled_up(tmp_path):
    Image.new("L", (5000, 1)).save(tmp_path / "ribbon.png")
    with pytest.raises(InputError, match="found 1280000 x 256 pixels, expected at most"):
        ImageFiles([tmp_path / "ribbon.png"], ImageView(256, 224))[:]
