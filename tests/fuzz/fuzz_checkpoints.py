"""Damage checkpoints in every way and read them: all is read or refused, and nothing runs.

    python tests/fuzz/fuzz_checkpoints.py --count 2000 --seed 0 [--container torch-zip ...]
        [--json OUT] [--keep FOLDER]

For each kind of container, small sound checkpoints are made, and `count` mutants of them: bits
flipped, bytes overwritten, cut, put in, taken out and swapped, numbers set to extremes, two files
joined; opcodes of pickles exchanged, with payloads among them that would make a canary file;
members of zips renamed, doubled, compressed, swollen; values in JSON, and objects in what is saved,
exchanged for others of any kind. Each is read as ``ltkit inspect FILE`` does (programs mostly
with ``--trust-code``, pickles of the published AlphaNet code as ``ltkit extract --from-alphanet``),
in a child process with limited memory and time. The same count and seed give the same mutants.

Outcomes: ok and refused (exit codes 0 and 2) are right. Wrong are noise (warnings, or more than the
one line), a traceback (exit code 1), a crash, a hang of more than 5 s, and executed (anything done
beside reading). Wrong ones are kept with --keep, and the exit code is 1 when there are any.
"""

import argparse
import copy
import datetime
import importlib.util
import io
import json
import os
import pickle
import pickletools
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))
import payloads
from watched import SECONDS, Watched

from ltkit import architectures

NUMBERS = (0, 1, 2, 127, 255, 256, 32767, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
           (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
EDGE = 4000
"""Most damage is done in so many bytes at the ends, where what is no weight lies."""

BOMB = 256 << 20
"""Bytes that a member of a zip unpacks to."""

IMPORTS = 100
"""Seconds that the first reading of a kind may take."""


# Sound checkpoints


def network(arch="resnet20", classes=7):
    """A network with values of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build(arch, classes)


def theirs(head="fc", prefix=""):
    """The tensors of a CIFAR ResNet-20, as others write them."""
    state = network().state_dict()
    return OrderedDict(
        (prefix + name.replace("backbone.", "").replace("head.", f"{head}."), tensor)
        for name, tensor in state.items()
    )


def native():
    """What ``ltkit train`` writes of its smallest network."""
    recipe = {"arch": "digits_net", "cosine": False, "scale": 1.0, "mean": [0.3], "std": [0.4],
              "recipe": {"dataset": {"spec": "digits_lt"}}}  # fmt: skip
    head = {"format": "ltkit-checkpoint", "format_version": 1, **recipe}
    return head, network("digits_net").state_dict()


class Config(dict):
    """A project's class."""


def objects():
    """What scripts give to ``torch.save``."""
    head, state = native()
    args = argparse.Namespace(lr=0.1, arch="resnet20", path=Path("x"))
    optimizer = {"state": {0: {"momentum": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    ldam = theirs("linear")
    ldam["linear.weight"] = ldam["linear.weight"].T.contiguous()
    del ldam["linear.bias"]
    return [
        {**head, "state_dict": state},
        theirs(),
        {"state_dict": theirs(prefix="module."), "epoch": 3, "args": args, "best": np.float64(0.5),
         "optimizer": optimizer, "config": Config(a=1), "losses": np.zeros(3)},
        {"epoch": 2, "arch": "resnet32", "state_dict": ldam, "best_acc1": torch.tensor(1.0)},
    ]  # fmt: skip


def saved(thing, zipped=True):
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


class Small(nn.Module):
    """A program."""

    def __init__(self) -> None:
        """Make its layers."""
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        """Return logits."""
        return self.fc(torch.relu(self.conv(images)).mean((2, 3)))


def torchscript():
    """A scripted, a traced and a frozen program."""
    with warnings.catch_warnings(action="ignore"):
        model, images = Small().eval(), torch.zeros(1, 3, 8, 8)
        programs = [torch.jit.script(model), torch.jit.trace(model, images)]
        programs.append(torch.jit.freeze(programs[0]))
        files = [io.BytesIO() for _ in programs]
        for program, file in zip(programs, files, strict=True):
            torch.jit.save(program, file)
    return [{"m.pt": file.getvalue()} for file in files]


def torch_export():
    """An exported program."""
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt2"
        torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 3, 8, 8),)), path)
        return [{"m.pt2": path.read_bytes()}]


def onnx_models():
    """Models with their values in the file, and beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(4, 3, 3, 3)), "fc": rng.normal(size=(5, 4)), "b": np.ones(5)}
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "b"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inside, data = model.SerializeToString(), b""
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, "m.onnx.data", len(data), len(tensor.raw_data)
        )
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    return [{"m.onnx": inside}, {"m.onnx": model.SerializeToString(), "m.onnx.data": data}]


def safetensors():
    """Ours with metadata, and others'."""
    head, state = native()
    metadata = {key: json.dumps(value) for key, value in head.items()}
    half = {name: t.half() if t.is_floating_point() else t for name, t in theirs().items()}
    return [{"m.safetensors": save(state, metadata)}, {"m.safetensors": save(half, {"a": "b"})}]


def sharded():
    """Two files of tensors with their index."""
    state = theirs()
    parts = {"m-1.safetensors": list(state)[:9], "m-2.safetensors": list(state)[9:]}
    listed = {tensor: name for name, own in parts.items() for tensor in own}
    files = {name: save({tensor: state[tensor] for tensor in own}) for name, own in parts.items()}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}).encode()
    return [{"model.safetensors.index.json": index, **files}]


def hugging_face():
    """Folders with a configuration."""
    config = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet",
              "id2label": {"0": "a", "1": "b"}, "depths": [1], "hidden_sizes": [8],
              "embedding_size": 8, "layer_type": "basic", "num_channels": 3}  # fmt: skip
    images = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    said = {"config.json": json.dumps(config).encode(),
            "preprocessor_config.json": json.dumps(images).encode()}  # fmt: skip
    return [
        {**said, "model.safetensors": save(theirs())},
        {**said, "pytorch_model.bin": saved(theirs())},
        {"config.json": b'{"architecture": "resnet18", "num_classes": 7}',
         "model.safetensors": save(theirs())},
    ]  # fmt: skip


def lightning():
    """What Lightning writes."""
    top = {"epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.0.0", "callbacks": {},
           "state_dict": theirs("classifier", "net."), "hyper_parameters": {"lr": 0.1},
           "optimizer_states": [], "lr_schedulers": []}  # fmt: skip
    return [{"m.ckpt": saved(top)}]


def alphanet():
    """The published AlphaNet code's pickles, the classifier beside them."""
    rows, labels = np.ones((9, 6), np.float32), np.arange(9) % 4
    kinds = [rows, torch.tensor(rows), rows.tolist()]
    classifier = saved({"weight": torch.ones(4, 6), "bias": torch.zeros(4)})
    return [
        {"classifier.pth": classifier,
         "train.pkl": pickle.dumps({"feats": kind, "labels": labels, "idxs": [1, 2]}, protocol)}
        for protocol, kind in zip((2, 4, 5), kinds, strict=True)
    ]  # fmt: skip


# Damage to bytes


def place(raw, rng):
    """A place in a file, mostly near its ends."""
    kind = rng.randrange(5)
    edge = min(EDGE, len(raw))
    if kind < 2:
        return rng.randrange(max(edge, 1))
    return (
        rng.randrange(len(raw) - edge, len(raw) or 1) if kind < 4 else rng.randrange(len(raw) or 1)
    )


def flip(raw, rng):
    """Flip some bits."""
    new = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if new:
            new[place(new, rng)] ^= 1 << rng.randrange(8)
    return bytes(new)


def overwrite(raw, rng):
    """Write over a run of bytes."""
    at, length = place(raw, rng), rng.choice((1, 2, 4, 8, 64, 1000))
    run = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return raw[:at] + run[: len(raw) - at] + raw[at + length :]


def cut(raw, rng):
    """Leave out the end."""
    return raw[: place(raw, rng)]


def put_in(raw, rng):
    """Put bytes in."""
    at = place(raw, rng)
    return raw[:at] + rng.randbytes(rng.choice((1, 4, 100))) + raw[at:]


def take_out(raw, rng):
    """Take bytes out."""
    at = place(raw, rng)
    return raw[:at] + raw[at + rng.choice((1, 4, 100)) :]


def swap(raw, rng):
    """Exchange two blocks."""
    a, b = sorted((place(raw, rng), place(raw, rng)))
    size = rng.choice((1, 8, 100))
    return raw[:a] + raw[b : b + size] + raw[a + size : b] + raw[a : a + size] + raw[b + size :]


def extreme(raw, rng):
    """Set a number of four or eight bytes to an extreme."""
    size = rng.choice((2, 4, 8))
    at, value = place(raw, rng), rng.choice(NUMBERS) % (1 << 8 * size)
    return raw[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + raw[at + size :]


BYTES = (flip, overwrite, cut, put_in, take_out, swap, extreme)


# Damage to pickles


def opcodes(raw):
    """The chunks of a pickle, one an opcode, and what follows them."""
    starts = []
    try:
        for _, _, position in pickletools.genops(raw):
            starts.append(position)
    except Exception:
        pass
    ends = [*starts[1:], (starts[-1] + 1) if starts else 0]
    return [raw[a:b] for a, b in zip(starts, ends, strict=True)], raw[ends[-1] :]


def pieces(rng, canary):
    """Opcodes that are put into a pickle."""
    made = rng.choice((payloads.calls, payloads.mentions, payloads.tricks))(canary)
    size = rng.choice((4, 8))
    count = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    wide = rng.choice((b"X", b"B", b"T", b"\x8b", b"r", b"j", b"J", b"\x84")) if size == 4 else (
        rng.choice((b"\x8d", b"\x8e", b"\x95", b"\x96")))  # fmt: skip
    deep = rng.choice((b"]", b"(", b"\x85", b"}", b")\x85", b"0", b"2", b"\x80\x04"))
    return rng.choice((
        made[rng.choice(list(made))], wide + count, deep * rng.choice((1, 3, 100, 20_000)),
        rng.choice((b"R", b"b", b"\x81", b"\x92", b"o", b"Q", b"s", b"u", b"a", b"e", b"t", b"0",
                    b"1", b"2", b"N", b".", b"\x94", b"\x93", b"\x80\xff", b"h\xff", b"q\x00",
                    b"K\xff", b"G\x7f\xf0\0\0\0\0\0\0", b"I9" + b"9" * 5000 + b"\n", b"V\\ud800\n",
                    b"\x8a\xff" + b"\xff" * 255)),
        payloads.number(rng.choice(NUMBERS) * rng.choice((-1, 1))),
        payloads.text(rng.choice(("", "x\ny", "\x1b[31m", "a" * 10_000, "../x", "é\0"))),
        payloads.build(payloads.ORDERED, payloads.mapping(items=payloads.NONE)),
    ))  # fmt: skip


def mutate_pickle(raw, rng, canary):
    """Put opcodes in, take them out, exchange and repeat them."""
    chunks, rest = opcodes(raw)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = (rng.randrange(max(len(chunks), 1)) for _ in range(2))
        kind = rng.randrange(6)
        if kind < 2 or not chunks:
            chunks.insert(at, pieces(rng, canary) + rng.choice((b"", b"0")))
        elif kind == 2:
            chunks[at] = pieces(rng, canary)
        elif kind == 3:
            chunks[at], chunks[other] = chunks[other], chunks[at]
        elif kind == 4:
            del chunks[at]
        else:
            chunks[at : at + 1] = [chunks[at]] * rng.choice((2, 30))
    return b"".join(chunks) + rest


# Damage to JSON, and to objects


STRANGE = (
    None, True, 0, -1, 1 << 31, 1 << 40, 1 << 63, 1 << 64, -(1 << 63), 10**5000, 0.5, float("nan"),
    float("inf"), 1e308, "", "x", "..", "../../x", "/dev/zero", "a\nb\x1b[2J", "\ud800", "é" * 5000,
    [], {}, [[]], {"": None}, [0] * 50, [-1, 1 << 40], "F32", "U8", "BF16", "F4", [1, 2, 3],
    "m-1.safetensors", "model.safetensors", "torch.float32", "0" * 300, {"()": "x"},
)  # fmt: skip


def deep(rng):
    """Lists in lists."""
    found = None
    for _ in range(rng.choice((10, 900, 5000))):
        found = [found] if rng.random() < 0.9 else {"a": found}
    return found


def exchange(tree, rng, strange):
    """Exchange, add, rename or take out one entry of nested mappings and lists."""
    holders, todo = [], [tree]
    while todo:
        thing = todo.pop()
        if isinstance(thing, dict | list) and thing:
            holders.append(thing)
            todo += thing.values() if isinstance(thing, dict) else thing
    if not holders:
        return strange(rng)
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    kind = rng.randrange(6)
    if kind < 3:
        holder[key] = strange(rng)
    elif kind == 3:
        del holder[key]
    elif isinstance(holder, list):
        holder.extend([strange(rng)] * rng.choice((1, 3)))
    elif kind == 4:
        new = strange(rng)
        holder[new if new.__hash__ and not isinstance(new, torch.Tensor) else str(key)[::-1]] = (
            holder.pop(key)
        )
    else:
        others = list(holder)
        other = rng.choice(others)
        holder[key], holder[other] = holder[other], holder[key]
    return tree


def written(tree):
    """JSON, as far as JSON goes."""

    def plain(thing, depth=0):
        if isinstance(thing, dict):
            return {str(k): plain(v, depth + 1) for k, v in thing.items()}
        return thing

    try:
        return json.dumps(plain(tree)).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        return b"[" * 100_000


def mutate_json(raw, rng):
    """Exchange values, or damage the text."""
    try:
        tree = json.loads(raw)
    except ValueError:
        return flip(raw, rng)
    for _ in range(rng.choice((1, 1, 2))):
        tree = exchange(
            tree,
            rng,
            lambda rng: deep(rng) if rng.random() < 0.05 else copy.deepcopy(rng.choice(STRANGE)),
        )
    new = written(tree)
    if rng.random() < 0.1:
        new = new.replace(b"{", b'{"weight_map": {}, "a": 1, "a": 2, ', 1)
    if rng.random() < 0.1:
        new = rng.choice((b"\xef\xbb\xbf", b" \n", b"\0")) + new
    if rng.random() < 0.1:
        new = new.replace(b"0", b"9" * rng.choice((20, 5000)), 1)
    return new


def mutate_safetensors(raw, rng):
    """Exchange values of the header, which says how long it is."""
    size = int.from_bytes(raw[:8], "little")
    header = mutate_json(raw[8 : 8 + size], rng)
    said = len(header) if rng.random() < 0.8 else rng.choice(NUMBERS) % (1 << 64)
    return said.to_bytes(8, "little") + header + raw[8 + size :]


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


# Damage to zips


def members(raw):
    """The members of a zip; nothing where it is none any more."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return []


def zipped(entries, kind=zipfile.ZIP_STORED):
    """A zip, members of one name included."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def bomb():
    """A member that unpacks to `BOMB` bytes."""
    if not BOMBS:
        BOMBS.append(zipped([("archive/data.pkl", b"\0" * BOMB)], zipfile.ZIP_DEFLATED))
    return BOMBS[0]


BOMBS: list[bytes] = []


def mutate_zip(raw, rng, canary):
    """Damage a member, its name, or how the zip lists it."""
    entries = members(raw)
    if not entries:
        return flip(raw, rng)
    at, kind = rng.randrange(len(entries)), rng.randrange(12)
    name, content = entries[at]
    if kind < 3:  # a pickle or JSON in it, its checksum right
        inner = [n for n, (name, _) in enumerate(entries) if name.endswith((".pkl", ".json"))] or [
            at
        ]
        at = rng.choice(inner)
        name, content = entries[at]
        new = (
            mutate_json(content, rng)
            if name.endswith(".json")
            else mutate_pickle(content, rng, canary)
        )
        entries[at] = name, new if rng.random() < 0.8 else rng.choice(BYTES)(content, rng)
    elif kind == 3:
        root = name.split("/")[0]
        entries[at] = rng.choice((
            "../x", "/x", "C:\\x", f"{root}/../x", f"{root}/constants.pkl", f"{root}/data.pkl",
            " ", "x" * 5000, f"{root}/archive_format", f"{root}/byteorder", f"{root}/version",
            f"{root}/\0", "é/data.pkl", f"{root}/.data/serialization_id", "a/data.pkl",
            f"{root}/.format_version", f"{root}/.storage_alignment", f"{root}/code/x.py",
        )), content  # fmt: skip
    elif kind == 4:
        entries.insert(
            rng.randrange(len(entries)), (name, rng.choice((b"", content, canary.name.encode())))
        )
    elif kind == 5:
        del entries[at]
    elif kind == 6:
        other = rng.randrange(len(entries))
        entries[at], entries[other] = (name, entries[other][1]), (entries[other][0], content)
    elif kind == 7:
        entries[at] = (
            name,
            rng.choice((b"", b"\0", b"9" * 50, b"big", content[:-1], content + b"\0" * 64)),
        )
    elif kind == 8:
        return zipped(
            entries, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        )
    elif kind == 9:
        return bomb()
    new = zipped(entries)
    if kind < 10:
        return new
    listed = new.rfind(b"PK\x01\x02")  # a field of a header
    starts = [at.start() for at in re.finditer(b"PK\x01\x02", new)][:60]
    ends = (listed, new.rfind(b"PK\x05\x06"), 0)
    head = rng.choice((rng.choice(starts), *ends)) if starts else 0
    size, field = rng.choice((2, 4)), rng.randrange(4, 46)
    value = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    return new[: head + field] + value + new[head + field + size :]


# All of it


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
            ("../x", "/etc/passwd", "-1", str(1 << 62), "x", "", "m.onnx", "é\0", "1e3")
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
    "torch-export": torch_export, "onnx": onnx_models,
}  # fmt: skip
"""Kinds of containers to what makes sound ones: names of files to their bytes."""


def available():
    """The containers that can be made here."""
    there = importlib.util.find_spec("onnx") is not None
    return [name for name in CONTAINERS if there or name != "onnx"]


def command(container, folder, files, number):
    """How a checkpoint is read."""
    first = folder / next(iter(files))
    if container == "alphanet":
        return "extract", {"checkpoint": folder / "classifier.pth", "from_alphanet": folder,
                           "output": folder / "f.h5", "overwrite": True, "quiet": True,
                           "writes": folder}  # fmt: skip
    given = folder if container in ("sharded", "hugging-face") and number % 2 else first
    program = container in ("torchscript", "torch-export")
    trusted = program and number % 4 > 0  # else it is refused whatever is in it
    return "inspect", {"file": given, "json": number % 3 == 0, "trust_code": trusted}


def read(watched, container, folder, files, number, **limits):
    """Write a checkpoint and read it; return what became of it."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    words, named = command(container, folder, files, number)
    return watched.run(words, **named, **limits)


def fuzz(container, count, seed, watched, keep=None):
    """Read mutants; return how often each outcome was, those that are wrong, and the longest time.

    Args:
        container: a key of `CONTAINERS`.
        count: of mutants.
        seed: of the damage.
        watched: what reads them.
        keep: where wrong ones are kept.
    """
    seeds, outcomes, wrong, slowest = CONTAINERS[container](), Counter(), [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        canaries = Path(scratch) / "canaries"
        canaries.mkdir()
        folder = Path(scratch) / "mutant"
        for number, files in enumerate(seeds):  # what is imported on the way takes its time
            read(watched, container, folder, files, number, seconds=IMPORTS)
            shutil.rmtree(folder)
        for number in range(count):
            rng = random.Random(f"{container} {seed} {number}")
            files = rng.choice(seeds)
            if container in ("torch-zip", "torch-legacy") and rng.random() < 0.35:
                files = changed_objects(rng, container == "torch-zip")
            else:
                files = mutate(files, seeds, rng, canaries / "canary")
            outcome = read(watched, container, folder, files, number)
            kind = "executed" if any(canaries.iterdir()) else outcome.kind
            outcomes[kind] += 1
            slowest = max(slowest, outcome.seconds)
            if kind not in ("ok", "refused"):
                wrong.append((number, kind, outcome))
                if keep is not None:
                    shutil.copytree(folder, keep / f"{container}-{number}", dirs_exist_ok=True)
            shutil.rmtree(folder)
            for canary in canaries.iterdir():
                canary.unlink()
    return outcomes, wrong, slowest


def main() -> None:
    """Fuzz the containers that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--container", nargs="+", choices=CONTAINERS, default=available())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    found, bad = {}, False
    with Watched() as watched:
        for container in asked.container:
            begun = time.monotonic()
            outcomes, wrong, slowest = fuzz(container, asked.count, asked.seed, watched, asked.keep)
            bad |= bool(wrong)
            found[container] = {
                "mutants": asked.count, **dict(sorted(outcomes.items())),
                "seconds": round(time.monotonic() - begun, 1), "slowest": round(slowest, 2),
            }  # fmt: skip
            print(container, found[container], flush=True)
            for number, kind, outcome in wrong:
                last = outcome.message.strip().splitlines()[:1]
                print(f"  {number} {kind} {last} {outcome.acts}"[:300], flush=True)
    if asked.json:
        document = {
            "command": "python tests/fuzz/fuzz_checkpoints.py "
            f"--count {asked.count} --seed {asked.seed}",
            "date": f"{datetime.date.today()}",
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "limit_seconds": SECONDS,
            "containers": found,
        }
        if asked.json.exists():
            document["containers"] = json.loads(asked.json.read_text())["containers"] | found
        asked.json.write_text(json.dumps(document, indent=2) + "\n")
    sys.exit(int(bad))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
