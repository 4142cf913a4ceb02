"""Lists, groups, CIFAR's archives, folders and pictures."""

import contextlib
import gzip
import io
import os
import pickle
import re
import warnings

import numpy as np
import payloads
from damage import (
    NUMBERS,
    mutate_pickle,
)
from PIL import Image, features
from plain_target import WORDS, Plain, bytes_damaged, text_damaged
from readers import NAMES


class Lists(Plain):
    """List files, plain and compressed, and CSVs."""

    def sound(self):
        """One of each."""
        images = [f"{'train' if i % 4 else 'other'}/n{i % 5:08d}/a b{i}.jpg" for i in range(60)]
        lines = "".join(f"{name} {i % 5}\n" for i, name in enumerate(images)).encode()
        rows = [
            f'"{name}",{i % 5},{("train", "val", "test")[i // 25]}' for i, name in enumerate(images)
        ]
        named = [f"{name},c {i % 5}" for i, name in enumerate(images)]
        return [
            {"train.txt": lines, "val.txt": lines[:500].rpartition(b"\n")[0]},
            {"train.txt.gz": gzip.compress(lines, mtime=0)},
            {"a.csv": "\r\n".join(["path,label,split", *rows, ""]).encode()},
            {"a.csv": "\n".join(["path,label", *named]).encode()},
        ]

    def command(self, folder, files):
        """Load it."""
        return "dataset", {"spec": folder / next(iter(files)), "root": None}

    def damage(self, name, raw, others, rng, canary):
        """Damage text, before it is compressed or after."""
        if not name.endswith(".gz"):
            return text_damaged(raw, rng), False
        if rng.random() < 0.5:
            return bytes_damaged(raw, others, rng), False
        return gzip.compress(text_damaged(gzip.decompress(raw), rng), mtime=0), False


class Groups(Plain):
    """Files of groups of classes."""

    def sound(self):
        """With tabs, as CSV, by number."""
        rows = [f"{name}\t{'pet' if i < 2 else 'thing'}" for i, name in enumerate(NAMES)]
        quoted = [f'"{name}",g{i}' for i, name in enumerate(NAMES)]
        return [{"g.tsv": "\n".join(text).encode()} for text in (rows, quoted, [*rows[1:], "0\tx"])]

    def command(self, folder, files):
        """Read it."""
        return "groups", {"path": folder / "g.tsv"}

    def damage(self, name, raw, others, rng, canary):
        """Damage text."""
        return text_damaged(raw, rng), False


# Pictures


class Cifar(Plain):
    """The archives of CIFAR-10 and CIFAR-100."""

    def sound(self):
        """In both forms, with one image a class in each file."""
        rng = np.random.default_rng(0)

        def part(classes, **more):
            pixels = rng.integers(0, 256, (classes, 3072), dtype=np.uint8)
            return pixels, rng.permutation(classes)

        def pickled(pixels, key, labels, **more):
            content = {b"batch_label": b"x", key: labels.tolist(), b"data": pixels}
            return pickle.dumps(content | {k.encode(): v for k, v in more.items()}, 2)

        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        ten, hundred = [part(10) for _ in names], [part(100), part(100)]
        if self.name == "cifar-binary":
            return [
                {f"cifar-10-batches-bin/{n}.bin": np.column_stack((y, x)).astype(np.uint8).tobytes()
                 for n, (x, y) in zip(names, ten, strict=True)},
                {f"cifar-100-binary/{n}.bin":
                 np.column_stack((y % 20, y, x)).astype(np.uint8).tobytes()
                 for n, (x, y) in zip(("train", "test"), hundred, strict=True)}
                | {"cifar-100-binary/coarse_label_names.txt": b"a\nb\nc\n" * 7},
            ]  # fmt: skip
        coarse = [f"super {i}".encode() for i in range(20)]
        return [
            {f"cifar-10-batches-py/{n}": pickled(x, b"labels", y)
             for n, (x, y) in zip(names, ten, strict=True)},
            {f"cifar-100-python/{n}": pickled(x, b"fine_labels", y, coarse_labels=(y % 20).tolist())
             for n, (x, y) in zip(("train", "test"), hundred, strict=True)}
            | {"cifar-100-python/meta": pickle.dumps({b"coarse_label_names": coarse}, 2)},
        ]  # fmt: skip

    def command(self, folder, files):
        """Load it."""
        kind = "cifar100_lt" if "100" in next(iter(files)) else "cifar10_lt"
        return "dataset", {"spec": f"{kind}:ir=1,val=none", "root": folder}

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes, or opcodes."""
        if name.endswith("bin") or rng.random() < 0.4:
            return bytes_damaged(raw, others, rng), False
        if name.endswith("txt"):
            return text_damaged(raw, rng), False
        if rng.random() < 0.5:
            return pixels_crafted(raw, rng), False
        return mutate_pickle(raw, rng, canary), False


def pixels_crafted(raw, rng):
    """Exchange an argument of what builds an array."""
    pushed = rng.choice((
        b"K" + bytes([rng.randrange(256)]), payloads.number(rng.choice(NUMBERS)), b"N", b"\x88",
        payloads.text(rng.choice(("O", "O8", "|O", "V8", "f4", "u1", "S1000000", "b", "", "<", ">",
                                  "|", "U4", "M8", "c16", "(2,2)f4", "i4,O"))),
        b")", b"}", b"]", b"(K\x01K\x02t", b"(" + payloads.number(1 << 40) + b"t",
        payloads.named("numpy", "ndarray"), payloads.named("numpy", "dtype"),
        payloads.call(payloads.named("numpy", "dtype"), payloads.text("O8")),
        payloads.call(payloads.named("numpy", "ndarray"), b"(" + payloads.number(1 << 34) + b"t"),
        payloads.call(payloads.named("numpy", "ndarray"), b"(K\x05t", payloads.text("O")),
    ))  # fmt: skip
    places = [at.start() for at in re.finditer(rb"K.|[N\x88\x89]|U\x01.|X.\0\0\0", raw[:400])]
    if not places:
        return raw
    at = rng.choice(places)
    size = {b"K": 2, b"X": 5 + raw[at + 1]}.get(raw[at : at + 1], 1)
    return raw[:at] + pushed + raw[at + size :]


class Folder(Plain):
    """A folder of images: names."""

    def sound(self):
        """With splits, and without."""
        names = [f"{c}/{i}.jpg" for c in ("ant", "bee") for i in range(4)]
        splits = [f"{s}/{n}" for s in ("train", "test") for n in names]
        return [dict.fromkeys(names, b""), dict.fromkeys(splits, b"")]

    def command(self, folder, files):
        """Load it."""
        return "dataset", {"spec": folder, "root": None}

    def mutant(self, files, seeds, rng, canary):
        """Rename, take out, and put links."""
        files = dict(files)
        words = [w.replace("/", "-").replace("\0", "-")[:200] for w in WORDS if w != "\ud800"]
        words = [w for w in words if w.strip(".")] + [
            os.fsdecode(b"\xff\xfe"),
            "e\u0301",
            " .jpg",
            ".x",
        ]
        for _ in range(rng.choice((1, 2, 4))):
            old = rng.choice(sorted(files))
            parts = old.split("/")
            kind = rng.randrange(4)
            if kind == 0 and len(files) > 1:
                del files[old]
                continue
            where = rng.randrange(len(parts))
            parts[where] = rng.choice(words) + (".png" if where == len(parts) - 1 else "")
            new = "/".join(parts)
            if any(new.startswith(f"{n}/") or n.startswith(f"{new}/") for n in files):
                continue
            link = rng.choice((".", "..", "/dev/zero", "/proc/version", "none", parts[-1]))
            files[new] = link if kind == 1 else b""
        return files, -1


def encoded(kind, image, **how):
    """Return an image in a format."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


LIBTIFF = re.compile(r"_?TIFF\w*: |\w*(Decode|Lib|State|Setup|Strip|Tile|Read|VSet|Required)\w*: |"
                     r"tempfile\.tif: ")  # fmt: skip
"""How libtiff begins its words."""


class Pictures(Plain):
    """Images, by whatever name."""

    own_words = LIBTIFF

    def sound(self):
        """In the formats that are read."""
        rng = np.random.default_rng(0)
        rgb = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        grey, palette, wide = rgb.convert("L"), rgb.convert("P"), Image.fromarray(
            rng.integers(0, 65536, (40, 50), dtype=np.uint16))  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = 6
        found = [
            encoded("JPEG", rgb, exif=exif), encoded("JPEG", rgb, progressive=True),
            encoded("JPEG", rgb.convert("CMYK")), encoded("JPEG", grey),
            encoded("PNG", rgb), encoded("PNG", rgb.convert("RGBA")), encoded("PNG", wide),
            encoded("PNG", palette, transparency=b"\0\x80\xff"), encoded("PNG", rgb.convert("1")),
            encoded("PNG", grey, transparency=3), encoded("BMP", rgb), encoded("BMP", palette),
            encoded("PPM", rgb), encoded("PPM", wide), encoded("GIF", palette),
            encoded("TIFF", rgb), encoded("TIFF", rgb, compression="tiff_lzw"),
            encoded("TIFF", rgb, compression="jpeg"), encoded("TIFF", wide),
            encoded("TIFF", rgb.convert("CMYK"), compression="tiff_adobe_deflate"),
            encoded("MPO", rgb, save_all=True, append_images=[rgb]),
        ]  # fmt: skip
        if features.check("webp"):
            found += [encoded("WEBP", rgb, lossless=lossless) for lossless in (True, False)]
        others = ("EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "IM", "DDS", "MSP", "SPIDER",
                  "JPEG2000", "ICNS", "XBM")  # fmt: skip
        self.others = []
        for kind in others:
            image = rgb.convert({"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB"))
            with contextlib.suppress(KeyError, OSError), warnings.catch_warnings(action="ignore"):
                self.others.append(encoded(kind, image))
        return [{"x.jpg": content} for content in found]

    def command(self, folder, files):
        """Decode it."""
        return "picture", {"path": folder / "x.jpg"}

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes; or take one of a format that is not read."""
        if rng.random() < 0.1:
            raw = rng.choice(self.others)
            return raw if rng.random() < 0.5 else bytes_damaged(raw, others, rng), False
        if rng.random() < 0.1:
            return raw[: rng.randrange(len(raw))], False
        return bytes_damaged(raw, others, rng), False
