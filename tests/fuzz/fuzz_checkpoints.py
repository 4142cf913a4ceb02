"""Damage checkpoints in every way and read them: all is read or refused, and nothing runs.

    python tests/fuzz/fuzz_checkpoints.py --count 2000 --seed 0 [--container torch-zip ...]
        [--json OUT] [--keep FOLDER]

For each kind of container, small sound checkpoints are made, and `count` mutants of them: bits
flipped, bytes overwritten, cut, put in, taken out and swapped, numbers set to extremes, two files
joined; opcodes of pickles exchanged, with payloads among them that would make a canary file;
members of zips renamed, doubled, compressed, swollen; values in JSON, and objects in what is saved,
exchanged for others of any kind; pickles made of opcodes at random; zips written with wrong fields
or two lists of contents; single bits flipped in what sound zips hold. Each is read as ``ltkit
inspect FILE`` does (programs mostly with ``--trust-code``, pickles of the published AlphaNet code
as ``ltkit extract --from-alphanet``), in a child process with limited memory and time. The same
count and seed give the same mutants.

Outcomes: ok and refused (exit codes 0 and 2) are right. Wrong are noise (warnings, or more than the
one line), a traceback (exit code 1), a crash, a hang of more than 5 s of processor time, executed
(anything done beside reading), missed (read, though its bytes are surely wrong), and two readings
or one (another reader finds something else in the zip, or refuses it). Wrong ones are kept with
--keep, and the exit code is 1 when there are any.
"""

import argparse
import copy
import dataclasses
import datetime
import importlib.util
import os
import pickle
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import damage_config
import damage_pickles
import damage_zips
import numpy as np
import torch
from damage import (
    BYTES,
    STRANGE,
    exchange,
    members,
    mutate_json,
    mutate_pickle,
    mutate_safetensors,
    mutate_zip,
    place,
    zipped,
)
from fuzzing import Target, main
from sound_checkpoints import (
    Config,
    alphanet,
    hugging_face,
    lightning,
    objects,
    onnx_models,
    safetensors,
    saved,
    sharded,
    theirs,
    torch_export,
    torchscript,
)
from torch import nn

from ltkit.errors import FormatError
from ltkit.untrusted.zips import Zip

# Damage


def tensors(rng):
    """A tensor of any kind."""
    kinds = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64,
             torch.bool, torch.complex64, torch.uint16, torch.float8_e4m3fn]  # fmt: skip
    shape = rng.choice(((), (0,), (1,), (7,), (64,), (7, 64), (64, 7), (0, 64), (3, 3, 3), (7, 0),
                        (16, 3, 3, 3), (1, 1, 1, 1, 1), (16,)))  # fmt: skip
    found = torch.zeros(shape).to(rng.choice(kinds))
    if rng.random() < 0.15:
        found = torch.zeros(1).expand(rng.choice(((1 << 40,), (7, 64), (1 << 20, 1 << 20))))
    if rng.random() < 0.1:
        found = rng.choice((torch.zeros(2, 2).to_sparse(), torch.zeros(3, device="meta"),
                            torch.full((7, 64), float("nan")), nn.Parameter(torch.ones(3)),
                            torch.arange(20.0)[::3], torch.ones(7, 64).T))  # fmt: skip
    return found


def strange(rng):
    """An object of any kind."""
    kind = rng.randrange(10)
    if kind < 4:
        return tensors(rng)
    if kind < 8:
        return copy.deepcopy(rng.choice(STRANGE))
    return rng.choice((
        np.float32(1), np.zeros((2, 2)), np.array([object()]), Path("x"), argparse.Namespace(a=1),
        Config(a=1), OrderedDict(a=1), Counter("a"), {1: 2}, {(1, 2): torch.ones(2)}, b"x",
        bytearray(3), {1, 2}, (1, 2), 1j, torch.float32, torch.Size([1]), torch.device("cpu"),
        datetime.date(1, 1, 1),
        np.array(["a"]), np.array([1 + 2j]), np.datetime64("2000-01-01"), slice(1), range(3),
        {10**5000: torch.ones(1)}, {"\ud800": torch.ones(1)}, {b"a": torch.ones(1)},
        {"a" * 5000: torch.ones(1)}, {"a\nb\x1b[31m": torch.ones(1)}, {True: 1, None: 2, 0.5: 3},
    ))  # fmt: skip


def mutate_onnx(raw, rng):
    """Change fields of the model."""
    import onnx

    model = onnx.load_model_from_string(raw)
    tensor = rng.choice(list(model.graph.initializer))
    node = rng.choice(list(model.graph.node))
    kind = rng.randrange(9)
    if kind == 0:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1 << 20, 1 << 40, 7))
    elif kind == 1:
        tensor.data_type = rng.randrange(30)
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(20)]
    elif kind == 3 and tensor.external_data:
        entry = rng.choice(list(tensor.external_data))
        entry.value = rng.choice(
            ("../x", "/proc/version", "-1", str(1 << 62), "x", "", "m.onnx", "é\0", "1e3")
        )
    elif kind == 4:
        node.op_type = rng.choice(
            ("Relu", "Loop", "Evil", "", "If", "Gemm", "MatMul", "Constant", "Add")
        )
    elif kind == 5:
        names = node.input if node.input and rng.random() < 0.5 else node.output
        names[rng.randrange(len(names))] = rng.choice(("x", "y", "c", "f", "fc", "", "w", "none"))
    elif kind == 6:
        del model.graph.node[rng.randrange(len(model.graph.node))]
    elif kind == 7:
        tensor.name = rng.choice(("", "x", "y", "a\nb", "fc", "a" * 5000))
    else:
        dim = model.graph.input[0].type.tensor_type.shape.dim[rng.randrange(4)]
        dim.dim_value = rng.choice((0, -1, 1, 5, 1 << 20, 1 << 40))
    return model.SerializeToString()


def mutate(files, others, rng, canary):
    """Damage one file of a checkpoint, in a way that suits it or in any."""
    name = rng.choice(sorted(files))
    raw = files[name]
    kind = rng.random()
    if kind < 0.03:
        other = rng.choice(others)
        raw = raw[: place(raw, rng)] + rng.choice(sorted(other.values()))[place(raw, rng) :]
    elif kind < 0.4:
        for _ in range(rng.choice((1, 1, 2, 3))):
            raw = rng.choice(BYTES)(raw, rng)
    elif raw.startswith(b"PK"):
        raw = mutate_zip(raw, rng, canary)
    elif name.endswith(".safetensors"):
        raw = mutate_safetensors(raw, rng)
    elif name.endswith(".json"):
        raw = mutate_json(raw, rng)
    elif name.endswith(".onnx"):
        raw = mutate_onnx(raw, rng)
    else:
        raw = mutate_pickle(raw, rng, canary)
    if kind > 0.98 and len(files) > 1:
        return {own: content for own, content in files.items() if own != name}
    return {**files, name: raw}


def changed_objects(rng, zipped):
    """Objects exchanged in what a script saves."""
    thing = copy.deepcopy(rng.choice(OBJECTS))
    for _ in range(rng.choice((1, 1, 2, 5))):
        thing = exchange(thing, rng, strange)
    try:
        return {"m.pt": saved(thing, zipped)}
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError, struct.error,
            UnicodeError, NotImplementedError, pickle.PicklingError):  # fmt: skip
        return {"m.pt": saved(rng.choice(OBJECTS), zipped)}


OBJECTS = []


def of_torch(zipped):
    """Files that ``torch.save`` writes."""
    OBJECTS[:] = OBJECTS or objects()
    return [{"m.pt": saved(thing, zipped)} for thing in OBJECTS]


CONTAINERS = {
    "torch-zip": lambda: of_torch(True), "torch-legacy": lambda: of_torch(False),
    "safetensors": safetensors, "sharded": sharded, "hugging-face": hugging_face,
    "lightning": lightning, "alphanet": alphanet, "torchscript": torchscript,
    "torch-export": torch_export, "onnx": onnx_models, "onnx-graphs": onnx_models,
    "hugging-face-numbers": damage_config.folders,
}  # fmt: skip
"""Kinds of containers to what makes sound ones: names of files to their bytes."""


def available():
    """The containers that can be made here."""
    needs = {"onnx": "onnx", "onnx-graphs": "onnx", "hugging-face-numbers": "transformers"}
    return [
        name for name in TARGETS
        if name not in needs or importlib.util.find_spec(needs[name]) is not None
    ]  # fmt: skip


class Checkpoints(Target):
    """One kind of container."""

    def sound(self):
        """Small sound ones."""
        return CONTAINERS[self.name]()

    def mutant(self, files, seeds, rng, canary):
        """Damage one, or what is saved in it."""
        if self.name in ("torch-zip", "torch-legacy") and rng.random() < 0.35:
            return changed_objects(rng, self.name == "torch-zip"), None
        if self.name in damage_config.KINDS:
            return damage_config.KINDS[self.name](files, rng), None
        return mutate(files, seeds, rng, canary), None

    def read(self, watched, folder, files, note, number, **limits):
        """Read it as a user would."""
        first = folder / next(iter(files))
        if self.name == "alphanet":
            return watched.run(
                "extract", checkpoint=folder / "classifier.pth", from_alphanet=folder,
                output=folder / "f.h5", overwrite=True, quiet=True, writes=folder, **limits,
            )  # fmt: skip
        either = self.name in ("sharded", "hugging-face") and number % 2
        given = folder if either or self.name == "hugging-face-numbers" else first
        program = self.name in ("torchscript", "torch-export")
        trusted = program and number % 4 > 0  # else it is refused whatever is in it
        return watched.run(
            "inspect", file=given, json=number % 3 == 0, trust_code=trusted, **limits
        )


class Programs(Target):
    """Random programs of a pickle's opcodes, wherever pickles of strangers are read."""

    def sound(self):
        """Sound files with a mark in each pickle, which tells where the program goes."""
        top = {"state_dict": theirs(), "feats": 1, "x": damage_pickles.MARK}
        pixels = np.zeros((10, 3072), np.uint8)
        cifar = {b"data": pixels, b"labels": list(range(10)), b"x": damage_pickles.MARK}
        arrays = {"feats": np.ones((9, 6), np.float32), "labels": np.arange(9) % 4}
        classifier = saved({"weight": torch.ones(4, 6), "bias": torch.zeros(4)})
        parts = [f"data_batch_{n}" for n in range(2, 6)]
        plain = pickle.dumps({b"data": pixels, b"labels": list(range(10))}, 2)
        return [
            {"m.pt": saved(top)},
            {"m.pt": saved(top, zipped=False)},
            {"train.pkl": pickle.dumps({**arrays, "x": damage_pickles.MARK}, 2),
             "classifier.pth": classifier},
            {"cifar-10-batches-py/data_batch_1": pickle.dumps(cifar, 2),
             **{f"cifar-10-batches-py/{name}": plain for name in (*parts, "test_batch")}},
        ]  # fmt: skip

    def mutant(self, files, seeds, rng, canary):
        """Put a program in."""
        name = next(iter(files))
        raw = files[name]
        if not raw.startswith(b"PK"):
            return {**files, name: damage_pickles.put(raw, rng)}, None
        entries = [
            (member, damage_pickles.put(content, rng) if member.endswith("data.pkl") else content)
            for member, content in members(raw)
        ]
        return {**files, name: zipped(entries, rng.choice((0, 0, 8)))}, None

    def read(self, watched, folder, files, note, number, **limits):
        """Read it as a user would."""
        name = next(iter(files))
        if name == "train.pkl":
            return TARGETS["alphanet"].read(
                watched, folder, {"classifier.pth": b""}, note, number, **limits
            )
        if name == "m.pt":
            return watched.run("inspect", file=folder / name, **limits)
        spec = "cifar10_lt:ir=1,val=none"
        return watched.run("dataset", spec=spec, root=folder, **limits)


class Zips(Target):
    """Zips with wrong fields, and with two readings; `must` tells which have to be refused."""

    def sound(self):
        """Sound zips of every kind."""
        zips = [of_torch(True)[2], *torchscript()[:1], *torch_export()]
        return [{"m.pt": next(iter(files.values()))} for files in zips]

    def mutant(self, files, seeds, rng, canary):
        """Write it again with something wrong."""
        raw, must = damage_zips.mutate(files["m.pt"], rng)
        return {"m.pt": raw}, must

    def read(self, watched, folder, files, note, number, **limits):
        """Read it; what is read has to be the same to Python's and to torch's own reader."""
        path = folder / "m.pt"
        outcome = watched.run("inspect", file=path, trust_code=number % 4 == 0, **limits)
        if note and outcome.kind == "ok":
            return dataclasses.replace(outcome, kind="missed")
        wrong = "" if note is None else two_readings(path)
        return dataclasses.replace(outcome, kind=wrong) if wrong else outcome


def two_readings(path):
    """Say what is wrong with a zip that we read, but Python's or torch's own reader otherwise."""
    try:
        with Zip(path) as ours:
            root, found = ours.root, {name: bytes(ours.read(name)) for name in ours.entries}
    except FormatError:
        return ""
    try:
        with zipfile.ZipFile(path) as theirs:
            if {name: theirs.read(name) for name in theirs.namelist()} != found:
                return "two readings"
    except (zipfile.BadZipFile, NotImplementedError):
        return "one reading"  # and Python refuses it
    if not root:
        return ""  # no file of torch's
    inside = {name.removeprefix(root) for name in found if name.startswith(root)} - {""}
    if len(inside) < len(found):
        return ""  # torch refuses that
    reader = torch._C.PyTorchFileReader(str(path))
    if {*reader.get_all_records()} != inside:
        return "other members"
    same = all(reader.get_record(name) == found[root + name] for name in inside)
    return "" if same else "two readings"


class Payloads(Zips):
    """Sound zips with one bit of a member flipped: every one has to be refused."""

    def mutant(self, files, seeds, rng, canary):
        """Flip a bit."""
        return {"m.pt": damage_zips.flip_payload(files["m.pt"], rng)}, True


TARGETS = {
    **{name: Checkpoints(name) for name in CONTAINERS},
    "pickle-opcodes": Programs("pickle-opcodes"),
    "zip-directories": Zips("zip-directories"),
    "zip-values": Payloads("zip-values"),
}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(__doc__, "python tests/fuzz/fuzz_checkpoints.py", TARGETS, available(), "container")
