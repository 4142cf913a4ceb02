"""ltkit's own files, finished and interrupted: sound ones, and damage that knows them."""

import contextlib
import io
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from unittest import mock

import h5py
import made
import numpy as np
import readers
from damage_hdf5 import CRAFTS, any_dataset, metadata, repaired, resealed
from plain_target import Plain, bytes_damaged, text_damaged
from readers import BLOCK_BYTES, RECIPE, state
from watched import Outcome

from ltkit import records
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
