"""Damage all other files in every way and read them: same result, or refused, and nothing runs.

    python tests/fuzz/fuzz_files.py --count 10000 --seed 0 [--kind features ...]
        [--json OUT] [--keep FOLDER]

What `fuzz_checkpoints` is for checkpoints, this is for the files that ltkit writes (features,
classifiers, neighbours, what an interrupted extraction, sweep or training leaves), for arrays to
import, lists, CSVs, groups of classes, CIFAR's archives, folders and images.

- ``<kind>``: bytes, as for checkpoints; of ltkit's files also the library's metadata, its checksums
  made right again, and copies in the layout that other programs write.
- ``<kind>-values``: some bits of one dataset. Each mutant must be refused, with the dataset, the
  block and its rows named.
- ``headers``: of arrays to import and of features files what they say of themselves: types, shapes,
  orders, all other numbers being right. Each must give the same result, or be refused.
- ``import-<form>``: what other programs write: arrays and tables in every form that `import` reads,
  probabilities, class embeddings. All of them together have a reader's count.
- ``<kind>-crafted``: what HDF5 can do, and ltkit does not: links, virtual and external data,
  filters, other types and shapes, loops; wrong values. Half have a right digest.

A count is of mutants of each reader: of those of ltkit's own files two fifths are bytes, two fifths
values and one fifth crafted, each kind of the others has all of its reader's.

Outcomes: as for checkpoints (HDF5's and libtiff's own words on stderr do not count), and further
wrong ones: changed (read, with another result than the sound file, where the format has checksums)
and missed (values refused for another reason). Where the HDF5 library crashes or hangs, the outcome
is that of ``ltkit validate``, which has it happen in a child process; "isolated" says how often.
"""

import contextlib
import gzip
import importlib.util
import io
import json
import math
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
from PIL import Image, features

sys.path.append(str(Path(__file__).parents[1]))
import foreign
import made
import payloads
import readers
import strange_types
from damage import (
    BYTES,
    NUMBERS,
    members,
    mutate_pickle,
    mutate_safetensors,
    mutate_zip,
    place,
    zipped,
)
from damage_hdf5 import CRAFTS, any_dataset, metadata, repaired, resealed, retyped
from fuzz_records import Records
from fuzzing import Target, main
from readers import BLOCK_BYTES, NAMES, RECIPE, state
from watched import Outcome

from ltkit import records
from ltkit.errors import LtkitError
from ltkit.files import classifiers, hdf5, neighbors
from ltkit.files.contents import encode
from ltkit.files.features_writer import FeaturesWriter
from ltkit.records import Correction, Neighbors
from ltkit.sources.arrays import import_arrays
from ltkit.training import checkpoint

PATIENCE = 1.0
"""Seconds of processor time for the library, before another process has a try."""

ISOLATED = 120
"""Seconds that the command in its own process may take, imports included."""


def bytes_damaged(raw, seeds, rng):
    """Damage bytes in any way, once or more often."""
    if rng.random() < 0.05:
        return raw[: place(raw, rng)] + rng.choice(seeds)[place(raw, rng) :]
    for _ in range(rng.choice((1, 1, 2, 3))):
        raw = rng.choice(BYTES)(raw, rng)
    return raw


class Plain(Target):
    """Files that are read by a function of `readers`.

    Subclasses say in their notes what a sound file, by its number, gives; None where a damaged
    one may be another sound one.

    own_words: how a library begins what it writes to stderr itself, which cannot be turned off.
    """

    own_words: re.Pattern[str] | None = None

    def __init__(self, name) -> None:
        """Nothing is known of sound ones yet."""
        super().__init__(name)
        self.expected = {}

    def command(self, folder, files):
        """Return the function and its arguments."""
        raise NotImplementedError

    def read(self, watched, folder, files, note, number, **limits):
        """Read; compare with what the sound file gives."""
        function, named = self.command(folder, files)
        found = watched.run(function, **named, writes=folder, **limits)
        if note is None:
            if found.kind == "executed":  # it was imports
                found = watched.run(function, **named, writes=folder, **limits)
            if found.kind != "ok":
                raise ValueError(f"{self.name}: a sound one, {number}, was {found}")
            self.expected[number] = found.output
            return found
        if found.kind == "noise" and self.own_words:
            found = self.without_own_words(found)
        if found.kind == "ok" and note >= 0 and found.output != self.expected[note]:
            return replace(found, kind="changed")
        return found

    def without_own_words(self, found):
        """Leave out what the library says."""
        lines = found.message.splitlines()
        said = [line for line in lines if not self.own_words.match(line)]
        if len(said) < len(lines) and (not said or said[0].startswith("ltkit: ")) and len(said) < 2:
            return replace(found, kind="refused" if said else "ok", message="\n".join(said))
        return found

    def mutant(self, files, seeds, rng, canary):
        """Damage one of the files."""
        name = rng.choice(sorted(files))
        others = [content for seed in seeds for content in seed.values()]
        new, exact = self.damage(name, files[name], others, rng, canary)
        number = next(i for i, seed in enumerate(seeds) if seed is files)
        return {**files, name: new}, number if exact else -1

    def damage(self, name, raw, others, rng, canary):
        """Return damaged bytes, and whether they may be read only with the same result."""
        return bytes_damaged(raw, others, rng), False


# ltkit's own files


def small_blocks():
    """Write files with many blocks, as the child does."""
    return mock.patch.object(records.arrays, "BLOCK_BYTES", BLOCK_BYTES)


def written(write):
    """Return the bytes of a file that a function writes."""
    with small_blocks(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        write(path)
        return path.read_bytes()


def as_others(raw, version):
    """Return a copy of a file as another program writes it, in another layout."""

    def write(path):
        with h5py.File(io.BytesIO(raw), "r") as old, h5py.File(path, "w", libver=version) as new:
            for key, value in old.attrs.items():
                new.attrs[key] = value.decode() if isinstance(value, bytes) else value
            for group in old:
                old.copy(group, new)

    return written(write)


def features_file(path, **changes):
    """Write a features file."""
    made.write_features(path, made.plan(**changes))


def classifier_file(path):
    """Write a classifier file of three runs."""
    rng = np.random.default_rng(2)
    weight, bias = (rng.normal(size=s).astype(np.float32) for s in ((3, 4, 8), (3, 4)))
    runs = tuple({"rho": rho, "seed": 0, "k": 5, "note": "ü"} for rho in (0.5, 1.0, 2.0))
    extra = {"alpha": rng.normal(size=(3, 4, 6)), "log": np.zeros((3, 2, 2), np.float32),
             "what": encode(("a", "b", "c"))}  # fmt: skip
    found = Correction("alphanet", np.array([0, 2, 3, 9]), weight, bias, runs, False, extra)
    classifiers.write(path, found, settings={"k": 5}, inputs={"features": "0" * 64}, command="x")


def neighbors_file(path):
    """Write a neighbours file."""
    distance = np.sort(np.random.default_rng(0).random((9, 5)).astype(np.float32), axis=1)
    near = np.arange(45).reshape(9, 5) % 11
    found = Neighbors(np.arange(3, 12), near, distance, "cosine")
    neighbors.write(path, found, settings={"k": 5}, inputs={"features": "0" * 64}, command="x")


OWN = {
    "features": [features_file, lambda path: features_file(path, dtype="float16", head=None)],
    "classifier": [classifier_file], "neighbors": [neighbors_file],
}  # fmt: skip


class Own(Plain):
    """One kind of ltkit's own files."""

    share = 0.4
    own_words = re.compile(r"H5\w+: Heap ID type not supported yet!")

    def sound(self):
        """As ltkit writes them, and as others do."""
        own = [written(write) for write in OWN[self.name.split("-")[0]]]
        if self.name in OWN:
            self.pieces = {raw: metadata(raw) for raw in own}
            own += [as_others(own[0], version) for version in ("earliest", "latest")]
        return [{"f.h5": raw} for raw in own]

    def command(self, folder, files):
        """Validate and read it."""
        return "ltkit_file", {"path": folder / "f.h5"}

    def read(self, watched, folder, files, note, number, **limits):
        """Where it hangs or crashes the library, read it as a user does, in its own process."""
        found = super().read(
            watched, folder, files, note, number, **{"seconds": PATIENCE, **limits}
        )
        if found.kind in ("hang", "crash"):
            return isolated("validate", folder / "f.h5")
        return found

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes, or metadata."""
        if raw in self.pieces and rng.random() < 0.4:
            return repaired(raw, self.pieces[raw], rng), True
        if rng.random() < 0.5:
            return bytes_damaged(raw, others, rng), True
        at = rng.randrange(len(raw))  # anywhere
        size = min(rng.choice((1, 1, 2, 8, 64)), len(raw) - at)
        return raw[:at] + rng.randbytes(size) + raw[at + size :], True


def isolated(*words, sound="changed"):
    """Run a command in a process of its own, as a user does; return what became of it.

    Args:
        *words: the command.
        sound: what it is when the command finds nothing wrong.
    """
    begun = processor_seconds()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ltkit", *words],
            capture_output=True, text=True, timeout=ISOLATED,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome("hang", ISOLATED)
    one = done.stdout.count("\n") + done.stderr.count("\n") == 1
    kind = {0: sound, 1: "refused", 2: "refused"}.get(done.returncode, "crash")
    if kind == "refused" and not one:
        kind = "traceback"
    return Outcome(kind, processor_seconds() - begun, done.stderr, isolated=True)


def processor_seconds():
    """Return the time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Values(Own):
    """Bits of what a file holds."""

    def sound(self):
        """As ltkit writes them, with where the values lie."""
        seeds = super().sound()
        self.places = {}
        for seed in seeds:
            with tempfile.NamedTemporaryFile() as file:
                file.write(seed["f.h5"])
                file.flush()
                contents = hdf5.read(Path(file.name), *hdf5.KINDS.values())
                self.places[seed["f.h5"]] = [
                    rows for rows in contents.datasets.values() if math.prod(rows.shape)
                ]
        return seeds

    def mutant(self, files, seeds, rng, canary):
        """Change values; note what has to be named."""
        raw = bytearray(files["f.h5"])
        rows = rng.choice(self.places[files["f.h5"]])
        block = rng.randrange(len(rows.checksums))
        begin = block * rows.block_rows
        end = min(begin + rows.block_rows, rows.shape[0])
        at = rows.offset + rng.randrange(begin * rows.row_bytes, end * rows.row_bytes)
        limit = rows.offset + end * rows.row_bytes
        before = bytes(raw)
        kind = rng.randrange(3)
        size = min(rng.choice((1, 2, 4, 8, 64)), limit - at)
        if kind == 0:
            raw[at : at + size] = rng.randbytes(size)
        elif kind == 1:
            raw[at : at + size] = rng.choice((b"\0", b"\xff")) * size
        if raw == before:
            raw[at] ^= 1 << rng.randrange(8)
        return {"f.h5": bytes(raw)}, f"{rows.name}: block {block} (rows {begin}..{end - 1})"

    def read(self, watched, folder, files, note, number, **limits):
        """Look whether the place is named."""
        if note is None:
            return super().read(watched, folder, files, None, number, **limits)
        function, named = self.command(folder, files)
        found = watched.run(function, **named, **limits)
        lines = found.output.splitlines()
        if found.kind == "refused" and not (len(lines) == 1 and note in lines[0]):
            return replace(found, kind="missed", message=note)
        return found


class Crafted(Own):
    """Files that HDF5 allows, and ltkit does not write."""

    share = 0.2

    def mutant(self, files, seeds, rng, canary):
        """Change a file with the library."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "f.h5"
            path.write_bytes(files["f.h5"])
            for _ in range(rng.choice((1, 1, 2))):
                try:
                    with (
                        warnings.catch_warnings(action="ignore"),
                        mock.patch("sys.unraisablehook"),
                        h5py.File(path, "r+") as file,
                    ):
                        name = any_dataset(file, rng)
                        if name is not None:
                            rng.choice(CRAFTS)(file, name, rng)
                except (*hdf5.DAMAGED, KeyError):
                    continue  # this change cannot be made here
            if rng.random() < 0.5:
                resealed(path, rng)
                return {"f.h5": path.read_bytes()}, -1
            return {"f.h5": path.read_bytes()}, next(
                i for i, seed in enumerate(seeds) if seed is files
            )


# What `import` reads of other programs


class Foreign(Plain):
    """Arrays and tables of other programs; all kinds together have a reader's mutants."""

    share = 1 / len(foreign.WORDS)
    own_words = re.compile(r"H5\w+: ")

    def sound(self):
        """See `foreign`."""
        return foreign.sound(self.kind)

    @property
    def kind(self):
        """The form of the files."""
        return self.name.removeprefix("import-")

    def command(self, folder, files):
        """Import them."""
        words = [
            ",".join(str(folder / name) for name in word.split(",")) if "." in word else word
            for word in foreign.WORDS[self.kind]
        ]
        output = folder / "o.hdf5"
        more = ["-o", str(output), "--overwrite", "--quiet"]
        return "imported", {"words": ["import", *words, *more], "output": output}

    def read(self, watched, folder, files, note, number, **limits):
        """Where it hangs or crashes the library, read it as a user does, in its own process."""
        found = super().read(watched, folder, files, note, number, **limits)
        if found.kind in ("hang", "crash") and self.kind in ("hdf5", "parquet"):
            return isolated(*self.command(folder, files)[1]["words"], sound="ok")
        return found

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes, or what such a file is made of."""
        if rng.random() < 0.4:
            return bytes_damaged(raw, others, rng), False
        match name.rpartition(".")[2]:
            case "csv":
                return text_damaged(raw, rng), False
            case "npy":
                return craft_array(name, raw, rng, canary), False
            case "npz":
                entries = members(raw)
                at = rng.randrange(len(entries))
                entries[at] = entries[at][0], craft_array(*entries[at], rng, canary)
                return zipped(entries), False
            case "safetensors":
                return mutate_safetensors(raw, rng), False
            case "pt":
                return foreign.pickled(raw, rng, canary), False
            case "parquet":
                return foreign.table(rng), False
        return crafted(raw, rng), False


def crafted(raw, rng):
    """Change a file of HDF5 with the library."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        path.write_bytes(raw)
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                mock.patch("sys.unraisablehook"),
                h5py.File(path, "r+") as file,
            ):
                name = any_dataset(file, rng)
                if name is not None:
                    rng.choice(CRAFTS)(file, name, rng)
        except (*hdf5.DAMAGED, KeyError):
            return raw  # this change cannot be made here
        return path.read_bytes()


# What is left of an interrupted command


class Resumed(Own):
    """A features file in the making, with its journal."""

    share = 1.0

    def sound(self):
        """As they are after no row, some rows, all rows."""
        found = []
        for stop in (1, 40, 100, 137):
            with small_blocks(), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "f.h5"
                plan = made.plan()
                with FeaturesWriter(path, plan, command="ltkit extract x", resume=False) as writer:
                    made.append(writer, plan, None if stop > 100 else stop)
                found.append({p.name: p.read_bytes() for p in Path(folder).iterdir()})
        self.pieces = {}
        return found

    def command(self, folder, files):
        """Go on."""
        return "resumed", {"folder": folder}

    def read(self, watched, folder, files, note, number, **limits):
        """There is no child process here: a crash is one."""
        return Plain.read(self, watched, folder, files, note, number, **limits)


def problem(**changes):
    """Arrays of a small long-tailed problem; None takes one away."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    found = {"weight": centres.astype(np.float32), "bias": np.zeros(6, np.float32)}
    for split, counts in (
        ("train", (150, 120, 60, 30, 10, 5)),
        ("val", (5,) * 6),
        ("test", (5,) * 6),
    ):
        labels = np.repeat(np.arange(6), counts)
        features = centres[labels] + rng.normal(size=(len(labels), 8))
        found |= {f"{split}_features": features.astype(np.float32), f"{split}_labels": labels}
    found |= changes
    return {name: value for name, value in found.items() if value is not None}


class Sweep(Own):
    """The fits that an interrupted sweep has kept."""

    share = 1.0

    def sound(self):
        """As they are before the last is made, and after."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / "a.npz", **problem())
            import_arrays(folder / "a.npz", folder / "feats.h5")
            with contextlib.redirect_stdout(io.StringIO()):
                readers.sweep(folder)
            parts = [
                f"out.h5.parts/{x}" for x in ("ltkit-parts", "euclidean-1.h5", "euclidean-2.h5")
            ]
            files = {name: (folder / name).read_bytes() for name in ("feats.h5", *parts)}
        self.pieces = {files[name]: metadata(files[name]) for name in parts[1:]}
        return [files, dict(list(files.items())[:3])]

    def mutant(self, files, seeds, rng, canary):
        """Damage a fit."""
        parts = {name: raw for name, raw in files.items() if name.startswith("out.h5.parts/euc")}
        name = rng.choice(sorted(parts))
        new, _ = self.damage(name, files[name], [*parts.values()], rng, canary)
        return {**files, name: new}, seeds.index(files)

    def command(self, folder, files):
        """Go on."""
        return "sweep", {"folder": folder}

    def read(self, watched, folder, files, note, number, **limits):
        """Where it hangs or crashes the library, read the fits as `validate` does."""
        found = Plain.read(self, watched, folder, files, note, number, **limits)
        if found.kind in ("hang", "crash"):
            parts = [
                isolated("validate", path)
                for path in sorted((folder / "out.h5.parts").glob("*.h5"))
            ]
            return next((part for part in parts if part.kind != "changed"), parts[0])
        return found


class Training(Plain):
    """What an interrupted training leaves."""

    def sound(self):
        """After two epochs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.pt.partial"
            network, optimizer, generator = state()
            checkpoint.save_partial(path, RECIPE, 2, network, optimizer, generator)
            log = b"".join(json.dumps({"epoch": e, "loss": 0.5}).encode() + b"\n" for e in (1, 2))
            return [{"m.pt.partial": path.read_bytes(), "m.pt.jsonl": log}]

    def command(self, folder, files):
        """Go on."""
        return "training", {"folder": folder}

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes; the log has no checksum."""
        if name.endswith("jsonl"):
            return text_damaged(raw, rng), False
        if rng.random() < 0.3:
            at = rng.randrange(len(raw))
            return raw[:at] + rng.randbytes(rng.choice((1, 4, 100))) + raw[at + 1 :], True
        return bytes_damaged(raw, others, rng), True


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


# Text


WORDS = (
    "0", "-1", "1", "999999999", "10000001", "1e3", "0.5", "", " ", "\t", ",", '"', "\0", "\r",
    "\n", "..", "/", "../x", "/proc/version", "é", "١", "²", "\ufeff", "\u2028", "\x1b[2J",
    "a" * 5000, "9" * 19, "9" * 5000,
    "NaN", "null", "train", "val", "test", "label", "path", "split", "C:\\x",
    "=cmd", "'", '"""', "a/b", "\x85", "\x1c", "{", "[1]", "\ud800",
)  # fmt: skip


def text_damaged(raw, rng):
    """Damage bytes, or exchange, double, drop and put in words and lines."""
    if rng.random() < 0.4:
        return bytes_damaged(raw, [raw], rng)
    text = raw.decode()
    for _ in range(rng.choice((1, 1, 2, 5))):
        lines = text.split("\n")
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            lines[at] = rng.choice(WORDS)
        elif kind == 1:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 2:
            lines[at : at + 1] = [lines[at]] * rng.choice((0, 2, 300))
        else:
            parts = re.split(r"([ ,\t])", lines[at])
            where = rng.randrange(len(parts))
            new = rng.choice(WORDS)
            parts[where] = (
                new if kind < 5 else parts[where] + new if kind < 6 else new + parts[where]
            )
            lines[at] = "".join(parts)
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


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


TARGETS = {
    target.name: target
    for target in (
        *(kind(f"{name}{more}") for name in OWN
          for kind, more in ((Own, ""), (Values, "-values"), (Crafted, "-crafted"))),
        Resumed("extraction"), Sweep("sweep"), Training("training"), Arrays("arrays"),
        Headers("headers"), *(Foreign(f"import-{kind}") for kind in foreign.WORDS),
        Lists("lists"), Groups("groups"), Cifar("cifar-python"), Cifar("cifar-binary"),
        Folder("folder"), Pictures("images"),
        Records("run-records"),
    )
}  # fmt: skip


def available():
    """The names of what can be read here: Parquet needs pyarrow."""
    there = importlib.util.find_spec("pyarrow") is not None
    return [name for name in TARGETS if there or name != "import-parquet"]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(__doc__, "python tests/fuzz/fuzz_files.py", TARGETS, available(), "kind")
