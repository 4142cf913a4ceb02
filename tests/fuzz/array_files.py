"""Arrays to import: sound archives, damage, and headers that lie."""

import contextlib
import io
import struct
import warnings
import zipfile
from dataclasses import replace

import h5py
import made
import numpy as np
import payloads
import strange_types
from damage import (
    mutate_zip,
    zipped,
)
from damage_hdf5 import any_dataset, retyped
from own_files import problem, written
from plain_target import Plain, bytes_damaged, text_damaged

from ltkit.errors import LtkitError
from ltkit.files import hdf5
from ltkit.files.features_writer import FeaturesWriter

# Arrays


def npy(header, data, version=(1, 0)):
    """An array's file with any header."""
    text = header.encode("latin1", "replace")
    size = struct.pack("<H" if version == (1, 0) else "<I", min(len(text), 65535))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def craft_array(name, content, rng, canary):
    """Another header, other values, a pickle."""
    values = np.load(io.BytesIO(content))
    kind = rng.randrange(6)
    if kind == 0:
        evil = rng.choice((payloads.calls, payloads.mentions))(canary)
        return npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
                   payloads.whole(evil[rng.choice(list(evil))]))  # fmt: skip
    descr, shape = values.dtype.str, values.shape
    if kind < 3:
        shape = rng.choice((
            (1 << 40,), (1 << 62, 1 << 62), (-1,), (0,), (), shape[::-1], (*shape, 1), (0, 8),
            (shape[0] + 1, *shape[1:]), (shape[0] - 1, *shape[1:]), (2**100,), (True, 2), (1.5,),
            (1 << 40, 0), (0, 1 << 40), (1,) * 70, ("x",), None, [1], 7,
        ))  # fmt: skip
    elif kind == 3:
        descr = rng.choice(("<f8", ">f4", "<c8", "|V8", "<M8[ns]", "<U4", "|S3", "|O", "<f2", "|b1",
                            "<u8", "<f16", "|S0", "<U0", "x" * 10_000, "", "3f4", "f4,f4", [],
                            [("a", "<f4"), ("b", "|O")], [("a", "<f4", (1 << 30,))], None, 7,
                            "<f4, <f4", "(2,2)f4", "<m8", "|i1", "<V1000000000"))  # fmt: skip
    elif kind == 4:
        flat = values.ravel()
        wrong = (np.nan, np.inf, -1, 0.5, 1e30, 1 << 31, 1 << 62, -(1 << 62), 9_999_999, 7, 1e-320)
        if values.dtype.kind in "fiu" and flat.size:
            fits = flat.astype(rng.choice((np.float64, flat.dtype)))
            with (
                np.errstate(invalid="ignore", over="ignore"),
                warnings.catch_warnings(action="ignore"),
            ):
                fits[rng.randrange(flat.size)] = np.array(rng.choice(wrong)).astype(fits.dtype)
            file = io.BytesIO()
            np.save(file, fits.reshape(shape))
            return file.getvalue()
    order = rng.choice((False, False, False, True, 1, "x"))
    text = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}\n"
    if kind == 5:
        text = rng.choice((
            "{}", "", "[", "{'descr': '<f4'}", "__import__('os').system('x')", "(" * 5000,
            "-" * 9000 + "1", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
            text.replace("'", "é"), text + "\0" * 100, text * 2, "9" * 9999, "{**1}", "b'\\xff'",
            "{'shape': (1" + "0" * 5000 + ",), 'descr': '<f4', 'fortran_order': False}", text + "#",
            "{" + "'a': " * 3000 + "1}", "1" + "+1" * 3000, "[" * 90 + "]" * 90, text[:-3],
            "{'shape': (1L, 2L), 'descr': '<f4', 'fortran_order': False}",
        ))  # fmt: skip
    version = rng.choice(((1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (0, 0), (255, 255)))
    return npy(text, values.tobytes(), version)


class Arrays(Plain):
    """What `import` takes."""

    def sound(self):
        """With and without ids, names and a head; compressed, and not."""
        text = np.array([f"c{i} ü" for i in range(6)])
        wnids = np.array([b"n02084071", b"n02121808", b"x", b"y", b"z", b"w"])
        ids = np.array([f"train/{i}" for i in range(375)])
        found = []
        for save, changes in (
            (np.savez, {}), (np.savez_compressed, {"class_names": text, "wnids": wnids}),
            (np.savez, {"train_ids": ids, "weight": None, "bias": None}),
            (np.savez, {"train_features": None, "train_labels": None,
                        "train_counts": np.array([9.0, 8, 7, 6, 5, 4])}),
        ):  # fmt: skip
            file = io.BytesIO()
            save(file, **problem(**changes))
            found.append({"a.npz": file.getvalue()})
        names = "\n".join(("a", "b", "größe", "d", "e e", "f\t")).encode()
        return [*found, {**found[0], "names.txt": names}]

    def command(self, folder, files):
        """Import them."""
        return "arrays", {"folder": folder}

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes, the zip, or an array."""
        if name == "names.txt":
            return text_damaged(raw, rng), False
        kind = rng.random()
        if kind < 0.4:
            at = rng.randrange(len(raw))
            if rng.random() < 0.5:
                return raw[:at] + rng.randbytes(1) + raw[at + 1 :], True
            return bytes_damaged(raw, others, rng), True
        if kind < 0.6:
            return mutate_zip(raw, rng, canary), False
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        at = rng.randrange(len(entries))
        entries[at] = entries[at][0], craft_array(*entries[at], rng, canary)
        kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        return zipped(entries, kind), False


ARRAYS = {
    "f": ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<f16"),
    "i": ("<i8", ">i8", "<i4", ">i2", "<u8", ">u4", "u1", "i1", "<f8", ">f4"),
    "U": ("<U", ">U", "S"),
}  # fmt: skip
"""Types that hold the arrays of `problem` in half precision as they are."""


LIES = ("<f2", "<f8", ">f8", "<c8", "|V4", "|V2", "|b1", "<M8[ns]", "|O", "(2,2)f4", "<f4,<f4",
        "<i2", "<u8", ">i8", "<f16", "|S3", ">U2", "<U1", "|S16", "x", "|V0", "|S0")  # fmt: skip
"""Types that a header may name above other bytes."""


def other_shapes(shape, rng):
    """A shape that is not that of an array."""
    rows, *columns = shape
    return rng.choice((
        (-rows, *columns), (rows, *(-n for n in columns)), (rows - 1, *columns),
        (rows + 1, *columns), (0, *columns), (), (rows, *columns, 1), (1, rows, *columns),
        (2 * rows, *columns), (1 << 40, *columns), (2**100, *columns), (rows, *columns, 0),
        (True, *columns), (rows // 2, 2, *columns), (rows, *columns, 2), (-1, *columns),
    ))  # fmt: skip


class Headers(Plain):
    """What arrays say of themselves: sizes, shapes, types, orders.

    Every mutant holds the numbers of a sound one, in another type, or its bytes under another
    header, as long as that differs in size. So each must give the same result, or be refused.
    """

    def sound(self):
        """An archive and a features file of numbers in half precision."""
        file, content = io.BytesIO(), problem(train_ids=np.array([f"t{i}" for i in range(375)]))
        rounded = {
            name: v.astype(np.float16).astype(np.float32) if v.dtype.kind == "f" else v
            for name, v in content.items()
        }
        np.savez(file, **rounded)

        def write(path):
            plan = made.plan()
            weight, bias = (
                part.astype(np.float16).astype(np.float32)
                for part in (plan.head.weight, plan.head.bias)
            )
            plan = replace(plan, head=replace(plan.head, weight=weight, bias=bias))
            with FeaturesWriter(path, plan, command="x", resume=False) as writer:
                for name, values in made.features(plan).items():
                    writer.append(name, values.astype(np.float16).astype(np.float32))
                writer.finish()

        return [{"a.npz": file.getvalue()}, {"f.h5": written(write)}]

    def command(self, folder, files):
        """Read or import it."""
        return "headers", {"folder": folder}

    def damage(self, name, raw, others, rng, canary):
        """Change what an array says of itself."""
        return (self.archive if name == "a.npz" else self.own)(raw, rng), True

    def archive(self, raw, rng):
        """Change the header of an array, its bytes with it or not."""
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [(name, archive.read(name)) for name in archive.namelist()]
        at = rng.randrange(len(entries))
        values = np.load(io.BytesIO(entries[at][1]))
        descr, shape, data, order = values.dtype.str, values.shape, values.tobytes(), False
        kind = rng.randrange(4)
        if kind == 0:
            known = ARRAYS[values.dtype.kind if values.dtype.kind in ARRAYS else "i"]
            values = values.astype(rng.choice(known))
            descr, data = values.dtype.str, values.tobytes()
        elif kind == 1:
            shape = other_shapes(values.shape, rng)
        elif kind == 2:
            descr = rng.choice(LIES)
            with contextlib.suppress(TypeError):
                if np.dtype(descr).itemsize == values.dtype.itemsize and values.ndim > 1:
                    descr = "|O"  # other numbers of the same size: nothing tells
        else:
            order = True
        if rng.random() < 0.1:
            shape = other_shapes(values.shape, rng)
        text = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}\n"
        version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0)))
        entries[at] = entries[at][0], npy(text, data, version)
        return zipped(entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))

    def own(self, raw, rng):
        """Change the type or the shape of datasets, with right checksums and digest."""

        def change(path):
            path.write_bytes(raw)
            with (
                warnings.catch_warnings(action="ignore"),
                contextlib.suppress(*hdf5.DAMAGED, LtkitError),
            ):
                with h5py.File(path, "r+") as file:
                    names = [any_dataset(file, rng) for _ in range(rng.choice((1, 1, 2)))]
                    for name in dict.fromkeys(names):  # each once, or its numbers are others
                        retyped(file, name, rng)
                strange_types.seal(path)

        return written(change)
