"""What a network sees of a picture: who says it, and what the pixels are."""

import io
import struct
import zlib
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from ltkit import architectures, checkpoints, datasets
from ltkit.checkpoints.recognised import Recognised
from ltkit.datasets.images import ImageFiles, Rescaled, brought, transform
from ltkit.datasets.view import Known, resolve
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.files import features as features_file
from ltkit.records import ImageView
from ltkit.settings import Interpolation, ViewSettings

RNG = np.random.default_rng(0)


def folder(root, side=32, classes=3, each=4, mode="RGB"):
    """Write a folder of pictures, train and test."""
    for split in ("train", "test"):
        for c in range(classes):
            (root / split / f"c{c}").mkdir(parents=True)
            for i in range(each):
                shape = (side, side, 3) if mode == "RGB" else (side, side)
                pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / f"c{c}" / f"{i}.png")
    return root


@pytest.fixture
def pictures(tmp_path):
    return folder(tmp_path / "pictures")


def of(spec, said=None, known=None):
    text = str(spec)
    dataset = datasets.load(text if text == "digits_lt" or ":" in text else f"{text}:val=none")
    return resolve(dataset, said or ViewSettings(), known or Known(None))


def test_each_part_is_of_the_first_who_says_it(pictures):
    library = of(pictures)
    assert (library.view, {*library.origin.values()}) == (
        ImageView(256, 224),
        {"library", "pictures"},
    )
    usual = Known(ImageView(32, 32), name="resnet20")
    assert of(pictures, known=usual).view == ImageView(32, 32)
    assert of(pictures, known=usual).origin["crop"] == "architecture"
    file = Known(ImageView(40, 36, "bicubic", "squeeze"), said=True)
    found = of(pictures, known=file)
    assert (found.view, found.origin["fit"]) == (file.view, "checkpoint")
    said = of(pictures, ViewSettings(crop=30, fit="pad"), file)
    assert said.view == ImageView(30, 30, "bicubic", "pad")
    assert said.origin["crop"] == said.origin["resize"] == "command line"
    assert said.origin["interpolation"] == "checkpoint"
    assert said.notes == ("note: the checkpoint says 36 pixels, 30 are taken, as you said",)


@pytest.mark.parametrize("kind", get_args(Interpolation))
def test_how_pictures_are_scaled(pictures, kind):
    """As Pillow does it."""
    file = Known(ImageView(40, 40, "bicubic"), said=True)
    found = of(pictures, ViewSettings(image_size=20, interpolation=kind), file)
    assert f"interpolation {kind} (command line)" in found.line()
    assert found.record()["interpolation"] == kind
    split = datasets.load(f"{pictures}:val=none").split("train")
    with Image.open(split.images.paths[0]) as image:
        width, height = brought(image.size, found.view)
        scaled = image.convert("RGB").resize((width, height), Image.Resampling[kind.upper()])
    left, top = round((width - 20) / 2), round((height - 20) / 2)
    expected = np.asarray(scaled)[top : top + 20, left : left + 20]
    np.testing.assert_array_equal(found.of(split).images[:1][0], expected)


@pytest.mark.parametrize(
    ("parameters", "said", "sizes"),
    [
        ("resize=40,crop=36", {}, (40, 36)),
        ("resize=40", {}, (40, 40)),
        ("crop=36", {}, (36, 36)),
        ("", {"image_size": 48}, (48, 48)),
        ("", {"image_size": 48, "resize": 64}, (64, 48)),
        ("", {"resize": 300}, (300, 224)),
        ("", {"resize": 50, "crop": 40}, (50, 40)),
    ],
)
def test_sizes_that_are_said(pictures, parameters, said, sizes):
    found = of(
        f"{pictures}:{parameters}", ViewSettings(**said), Known(ImageView(32, 32), said=True)
    )
    assert (found.view.resize, found.view.crop) == sizes


@pytest.mark.parametrize(
    ("parameters", "said", "message"),
    [
        ("", {"crop": 64, "resize": 32}, "crop: found 64, expected at most resize, 32"),
        ("", {"image_size": 0}, "image_size: found 0, expected a whole number from 1 to 4096"),
        ("", {"resize": 5000}, "resize: found 5000, expected"),
        ("resize=32", {"resize": 64}, "resize: found 64, and resize=32 with the dataset"),
        ("", {"window": (5.0, 5.0)}, "window: found 5,5, expected the lower value first"),
        ("", {"window": (9.0, 5.0)}, "window: found 9,5, expected the lower value first"),
    ],
)
def test_sizes_that_cannot_be(pictures, parameters, said, message):
    with pytest.raises(InputError, match=message):
        of(f"{pictures}:{parameters}", ViewSettings(**said))


def test_pictures_that_are_stored_at_one_size_stay_so():
    known = Known(ImageView(256, 224), name="resnet50")
    found = of("digits_lt", known=known)
    assert found.view is None
    assert found.notes == (
        "note: pictures of 8 pixels stay so; resnet50 usually sees 224: --image-size 224 scales "
        "them",
    )
    assert found.line() == "view: pictures as they are stored"
    assert of("digits_lt", ViewSettings(image_size=8), known).view is None
    assert of("digits_lt", known=replace(known, said=True)).view == ImageView(256, 224)


def test_stored_pictures_are_scaled_as_files_are(tmp_path):
    pixels = RNG.integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture).save(path)
    view = ImageView(20, 16, "bicubic")
    scaled = Rescaled(pixels, view)
    assert len(scaled) == 5
    np.testing.assert_array_equal(scaled[1:4], ImageFiles(paths, view)[1:4])
    grey = Rescaled(pixels[..., :1], view)[:]
    expected = ImageFiles(paths[:1], view)
    assert grey.shape == (5, 16, 16, 1)
    assert expected[:].shape == (1, 16, 16, 3)


def test_how_a_picture_becomes_square():
    picture = Image.fromarray(RNG.integers(0, 256, (30, 60, 3), dtype=np.uint8))
    assert brought(picture.size, ImageView(20, 20, fit="squeeze")) == (20, 20)
    squeezed = transform(picture, ImageView(20, 20, fit="squeeze"))
    expected = np.asarray(picture.resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(squeezed, expected)
    padded = transform(picture, ImageView(20, 20, fit="pad"))
    inside = np.asarray(picture.resize((20, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(padded[5:15], inside)
    assert not padded[:5].any()
    assert not padded[15:].any()


def wide(path, bits, side=32, rng=RNG):
    """Write a grey picture of so many bits in 16, and return its values in 0..1."""
    shares = rng.random((side, side))
    values = np.rint(shares * ((1 << bits) - 1)).astype(np.uint16)
    values[0, 0] = (1 << bits) - 1
    Image.fromarray(values).save(path)
    return values / ((1 << bits) - 1)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_values_of_fewer_bits_than_their_type_span_the_window_they_fill(tmp_path, bits):
    root = tmp_path / "wide"
    values = []
    for c in range(2):
        (root / f"c{c}").mkdir(parents=True)
        values += [wide(root / f"c{c}" / f"{i}.png", bits) for i in range(3)]
    dataset = datasets.load(f"{root}:val=none")
    seen = resolve(dataset, ViewSettings(), Known(ImageView(32, 32)))
    assert seen.view.window == (0, (1 << bits) - 1)
    assert f"window 0-{(1 << bits) - 1:g} (pictures)" in seen.line()
    pixels = seen.of(dataset.split("train")).images[:]
    assert np.abs(pixels[..., 0] / 255 - np.stack(values)).max() <= 0.5 / 255 + 1e-9


def test_a_picture_that_is_wider_than_the_sample_is_refused(tmp_path):
    root = tmp_path / "wide"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    for i in range(200):
        wide(root / "a" / f"{i:03}.png", 16 if i == 2 else 12, side=8)
    wide(root / "b" / "0.png", 12, side=8)
    dataset = datasets.load(f"{root}:val=none")
    seen = resolve(dataset, ViewSettings(), Known(ImageView(8, 8)))
    assert seen.view.window == (0, 4095)
    with pytest.raises(InputError, match=r"002\.png: image 2: found values .* expected 0 to 4095"):
        seen.of(dataset.split("train")).images[:]
    said = resolve(dataset, ViewSettings(window=(0.0, 65535.0)), Known(ImageView(8, 8)))
    assert said.of(dataset.split("train")).images[:].max() == 255


def test_a_wide_picture_among_those_of_eight_bits_is_refused(pictures):
    for i in range(300):
        Image.new("L", (8, 8), 3).save(pictures / "train" / "c0" / f"z{i}.png")
    wide(pictures / "train" / "c0" / "z1.png", 12)
    dataset = datasets.load(f"{pictures}:val=none")
    seen = resolve(dataset, ViewSettings(), Known(ImageView(8, 8)))
    with pytest.raises(
        InputError, match=r"z1\.png: .* expected 8 bits; say with --window LOW,HIGH"
    ):
        seen.of(dataset.split("train")).images[:]


@pytest.mark.parametrize(
    "values",
    [np.float32([[0.0, 1.0]]), np.int32([[-5, 7]]), np.int32([[0, 70_000]])],
    ids=["fractions", "negative", "more than 16 bits"],
)
def test_values_whose_span_only_the_user_knows_are_asked_for(tmp_path, values):
    root = tmp_path / "odd"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.repeat(values, 2, axis=0)).save(root / name / "0.tif")
    dataset = datasets.load(f"{root}:val=none")
    with pytest.raises(SettingError, match=r"window: absent, and 0\.tif has values from"):
        resolve(dataset, ViewSettings(), Known(ImageView(2, 2)))
    low, high = float(values.min()), float(values.max())
    seen = resolve(dataset, ViewSettings(window=(low, high)), Known(ImageView(2, 2)))
    pixels = seen.of(dataset.split("train")).images[:]
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_fractions_are_refused_where_nobody_was_asked(tmp_path):
    Image.fromarray(np.float32([[0.0, 1.0]])).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match="its values are fractions; say with --window"):
        ImageFiles([tmp_path / "x.tif"], ImageView(1, 1)).decode(0)


def png16(values):
    """Return a PNG of 16-bit colour, which Pillow does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    head = chunk(b"IHDR", size)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_of_twelve_bits_in_sixteen_is_refused(pictures):
    values = RNG.integers(0, 4096, (32, 32, 3))
    (pictures / "train" / "c1" / "0.png").write_bytes(png16(values))
    dataset = datasets.load(f"{pictures}:val=none")
    seen = resolve(dataset, ViewSettings(), Known(ImageView(32, 32)))
    with pytest.raises(InputError, match="is 16-bit colour whose upper bits are empty"):
        seen.of(dataset.split("train")).images[:]
    full = RNG.integers(0, 65536, (32, 32, 3))
    (pictures / "train" / "c1" / "0.png").write_bytes(png16(full))
    found = seen.of(dataset.split("train")).images[4:5][0]
    np.testing.assert_array_equal(found, full >> 8)


def small_model(path, arch="resnet20", classes=3, **more):
    """Return a network of random weights as a checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build(arch, classes).eval()
    half = (0.5,) * 3
    return Recognised(path, "d", "test", arch, network, half, half, **more)


def test_a_cifar_checkpoint_sees_a_folder_at_its_own_size(pictures, tmp_path, ltkit):
    network = small_model(tmp_path / "m.pt").network
    state = {k.removeprefix("backbone."): v for k, v in network.state_dict().items()}
    state = {k.replace("head.", "linear."): v for k, v in state.items()}
    torch.save(state, tmp_path / "resnet20.th")
    model = checkpoints.load(tmp_path / "resnet20.th")
    assert (model.view, model.view_said) == (ImageView(32, 32), False)
    output = tmp_path / "f.h5"
    command = ["extract", tmp_path / "resnet20.th", "--data", f"{pictures}:val=none"]
    code, _, said = ltkit(*command, "-o", output)
    assert code == 0
    assert "view: resize 32 (architecture), crop 32 (architecture), interpolation bilinear" in said
    found = features_file.read(output)
    view = found.settings["view"]
    assert (view["crop"], view["from"]["crop"]) == (32, "architecture")
    images = np.stack(
        [np.asarray(Image.open(p)) for p in sorted((pictures / "train").rglob("*.png"))]
    )
    scaled = (images / 255 - np.array(model.mean)) / np.array(model.std)
    with torch.no_grad():
        expected = model.network.backbone(torch.tensor(scaled).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(found.split("train").features[:], expected, atol=1e-4)


def test_a_network_is_trained_at_its_size_and_extracted_so(pictures, tmp_path, ltkit):
    checkpoint, output = tmp_path / "m.pt", tmp_path / "f.h5"
    train = ["train", "ce", "--data", pictures, "--epochs", "1", "-o"]
    code, _, said = ltkit(*train, checkpoint)
    assert code == 0
    assert "network: resnet32, which fits the pictures; --arch names another" in said
    assert "crop 32 (architecture)" in said
    model = checkpoints.load(checkpoint)
    assert (model.view, model.view_said) == (ImageView(32, 32), True)
    assert ltkit(*train, tmp_path / "m24.pt", "--image-size", "24")[0] == 0
    small = checkpoints.load(tmp_path / "m24.pt")
    assert small.view == ImageView(24, 24)
    command = ["extract", str(tmp_path / "m24.pt"), "--data", str(pictures), "-o", str(output)]
    code, _, said = ltkit(*command)
    assert code == 0
    assert features_file.read(output).settings["view"]["crop"] == 24
    assert "crop 24 (checkpoint)" in said
    code, _, said = ltkit(*command, "--overwrite", "--image-size", "64")
    assert code == 0
    assert "crop 64 (command line)" in said
    assert "note: the checkpoint says 24 pixels, 64 are taken, as you said" in said


def test_a_network_trained_on_stored_pictures_sees_a_folder_at_their_size(tmp_path, ltkit):
    train = ["train", "ce", "--data", "digits_lt", "--epochs", "1", "-o", tmp_path / "m.pt"]
    assert ltkit(*train)[0] == 0
    model = checkpoints.load(tmp_path / "m.pt")
    assert (model.view, model.view_said) == (ImageView(8, 8), True)
    seen = of(folder(tmp_path / "a", side=20), known=Known(model.view, model.view_said))
    assert (seen.view.crop, seen.origin["crop"]) == (8, "checkpoint")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("no view", "recipe: view: found .*, expected a mapping"),
        ({"resize": -1, "crop": 8}, "view: resize: found -1"),
        ({"resize": 8}, "view: crop: found None"),
        (
            {"resize": 8, "crop": 8, "fit": "stretch"},
            "view: fit: found 'stretch', expected crop or",
        ),
        ({"resize": 8, "crop": 8, "interpolation": []}, "view: interpolation: found"),
        ({"resize": 8, "crop": 8, "window": 4}, "view: window: found 4, expected two numbers"),
        ({"resize": 8, "crop": 8, "window": [1, "x"]}, "view: window: found 'x'"),
    ],
)
def test_a_view_that_a_file_has_wrong(pictures, tmp_path, ltkit, said, message):
    checkpoint = tmp_path / "m.pt"
    train = ["train", "ce", "--data", str(pictures), "--epochs", "1", "-o", str(checkpoint), "-q"]
    assert ltkit(*train)[0] == 0
    content = torch.load(checkpoint, weights_only=True)
    content["recipe"]["dataset"]["view"] = said
    buffer = io.BytesIO()
    torch.save(content, buffer)
    checkpoint.write_bytes(buffer.getvalue())
    with pytest.raises(FormatError, match=message):
        checkpoints.load(checkpoint)


def test_grey_and_large_pictures_get_a_network_that_fits(tmp_path):
    from ltkit.training.pictures import network_for

    assert network_for(datasets.load("digits_lt")) == "digits_net"
    assert network_for(datasets.load(str(folder(tmp_path / "a", side=100)))) == "resnet18"
    assert network_for(datasets.load(str(folder(tmp_path / "b", side=64, mode="L")))) == "resnet32"


@pytest.mark.parametrize("window", ["5", "1,2,3", "a,b", "0,"])
def test_a_window_that_is_none(pictures, tmp_path, window, ltkit):
    command = ["train", "ce", "--data", str(pictures), "--window", window, "-o"]
    code, _, said = ltkit(*command, tmp_path / "m.pt")
    assert code == 2
    assert "--window" in said
