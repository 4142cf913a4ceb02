"""How wrong files of torch, safetensors and pickles are made, in the working folder."""

import io
import json
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import payloads
import torch
from bad_inputs.makers import Maker, scripted
from safetensors.torch import save
from torch import nn

MARK = "@@@@@"
TWICE = payloads.ONE + b"2\x86" * 64
"""A tuple of itself twice, 64 deep: it has 2 ** 64 leaves."""

AS_KEY, IN_SET = b"}" + TWICE + b"Ns", b"\x8f(" + TWICE + b"\x90"
FROZEN = b"(" + TWICE + b"\x91"
ITSELF = b"}q\x01(" + b"".join(payloads.text(f"{n}") + b"h\x01" for n in range(700)) + b"u"
LOAD = payloads.named("torch.storage", "_load_from_bytes")
COLLIDING = b"}(" + b"".join(payloads.number(n * ((1 << 61) - 1)) + b"N" for n in range(40_000))
CLASSES = b"".join(f"cx\nC{n}\n0".encode() for n in range(20_000)) + b"N"
LISTS = b"](K\x01K\x02e" + b"".join(
    b"r" + struct.pack("<I", 999 + n) + b"0](" + 2 * (b"j" + struct.pack("<I", 999 + n)) + b"e"
    for n in range(40)
)  # fmt: skip
"""A list of a list twice, 40 deep."""

BYTES_AGAIN = payloads.raw(b"\0" * 60_000) + b"q\x010" + payloads.listed(
    *[payloads.call(payloads.named("builtins", "bytearray"), b"h\x01")] * 20_000
)  # fmt: skip


def content(**more):
    """Return what ``m.pt`` holds."""
    return torch.load("m.pt", weights_only=True) | more


def head(change):
    """Write ``bad.pt``: m.pt with another head; return the maker."""

    def make():
        found = content()
        with warnings.catch_warnings(action="ignore"):
            found["state_dict"]["head.weight"] = change(found["state_dict"]["head.weight"])
            torch.save(found, "bad.pt")

    return make


def members(name="bad.pt"):
    """Return a zip's members."""
    with zipfile.ZipFile(name) as archive:
        return {one: archive.read(one) for one in archive.namelist()}


def rezipped(change, method=zipfile.ZIP_STORED, source="m.pt") -> Maker:
    """Write ``bad.pt``: a zip with changed members; `change` takes them all."""

    def make():
        found = change(members(source))
        with zipfile.ZipFile("bad.pt", "w", method) as archive:
            for name, raw in found.items():
                archive.writestr(name, raw)

    return make


def raw(change) -> Maker:
    """Write ``bad.pt``: m.pt with changed bytes."""
    return lambda: Path("bad.pt").write_bytes(bytes(change(bytearray(Path("m.pt").read_bytes()))))


def flipped(found):
    """Flip a bit of the bias."""
    values = torch.load("m.pt", weights_only=True)["state_dict"]["head.bias"].numpy().tobytes()
    found[found.index(values) + 3] ^= 0x40
    return found


def twice(found):
    """Put a second pickle in, of the same name but for the case."""
    return found | {name.upper(): b"x" for name in found if name.endswith("data.pkl")}


def wrong_checksum(found):
    """Put a wrong checksum where the bias is, before it and in the list."""
    values = torch.load("m.pt", weights_only=True)["state_dict"]["head.bias"].numpy().tobytes()
    return found.replace(struct.pack("<I", zlib.crc32(values)), b"abcd")


def twice_listed(found):
    """Put a second list of contents and a second end after the first."""
    at = found.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", found, at + 16)[0]
    return found + found[start:]


def over_the_edge():
    """Write ``bad.pt`` with a tensor that has a value more than its storage."""
    first = next(raw for name, raw in members("m.pt").items() if name.endswith("data/0"))
    count = payloads.number(len(first) // 4)
    storage = payloads.items(
        payloads.text("storage"), payloads.named("torch", "FloatStorage"), payloads.text("0"),
        payloads.text("cpu"), count,
    ) + b"Q"  # fmt: skip
    put(payloads.call(
        payloads.REBUILD, storage, payloads.ONE, payloads.items(count),
        payloads.items(payloads.ONE), b"\x89", payloads.ORDERED,
    ))()  # fmt: skip


def unsummed():
    """Write ``bad.pt`` without checksums, as torch can."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content(), "bad.pt")
    finally:
        torch.serialization.set_crc32_options(True)


def put(program: bytes, where: str = "zip") -> Maker:
    """Put a pickle's opcodes where strangers' are read: zip, old, script, alphanet, cifar."""
    mark = payloads.text(MARK)

    def make():
        if where == "zip":
            torch.save(content(x=MARK), "bad.pt")
            rezipped(lambda found: {n: r.replace(mark, program) for n, r in found.items()},
                     source="bad.pt")()  # fmt: skip
        elif where == "old":
            torch.save(content(x=MARK), "bad.pt", _use_new_zipfile_serialization=False)
            path = Path("bad.pt")
            path.write_bytes(path.read_bytes().replace(mark, program))
        elif where == "script":
            scripted()
            rezipped(lambda found: {
                n: payloads.whole(program) if n.endswith("constants.pkl") else r
                for n, r in found.items()}, source="bad.pt")()  # fmt: skip
        elif where == "alphanet":
            classifier()
            arrays = {"feats": np.ones((9, 6), np.float32), "labels": np.arange(9) % 4, "x": MARK}
            Path("train.pkl").write_bytes(pickle.dumps(arrays, 2).replace(mark, program))
        else:
            cifar({b"x": MARK})
            path = Path("cifar-10-batches-py/data_batch_1")
            path.write_bytes(path.read_bytes().replace(mark, program))

    return make


def classifier(weight=None, bias=None):
    """Write ``c.pth``, a classifier of four classes."""
    weight = torch.ones(4, 6) if weight is None else weight
    torch.save({"weight": weight, "bias": torch.zeros(4) if bias is None else bias}, "c.pth")


def features():
    """Write ``train.pkl``, features for the classifier."""
    arrays = {"feats": np.ones((9, 6), np.float32), "labels": np.arange(9) % 4}
    Path("train.pkl").write_bytes(pickle.dumps(arrays, 2))


def heads(weight=None, bias=None, **experts) -> Maker:
    """Write the classifier and its features; or a list of experts, by the names of their files."""

    def make():
        features()
        classifier(weight, bias)
        for name, listed in experts.items():
            entries = [{"classifier_loader": "x", "classifier_file": file} for file in listed]
            torch.save(entries, f"{name}.pth")

    return make


def cifar(more):
    """Make the Python archive of CIFAR-10 with ten images a file; the first has more in it."""
    folder = Path("cifar-10-batches-py")
    folder.mkdir()
    plain = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        folder.joinpath(name).write_bytes(pickle.dumps(plain | more, 2))
        more = {}


def linked_archive(name: str, target: str) -> Maker:
    """Make the Python archive of CIFAR-10 in ``data``, something of it elsewhere."""

    def make():
        cifar({})
        Path("data").mkdir()
        Path("cifar-10-batches-py").rename("data/cifar-10-batches-py")
        here = Path("data", name)
        here.rename(target)
        here.symlink_to(Path(target).resolve())

    return make


def labels(program: bytes) -> Maker:
    """Make the Python archive of CIFAR-10 with labels that some opcodes make."""

    def make():
        cifar({b"labels": MARK})
        path = Path("cifar-10-batches-py/data_batch_1")
        path.write_bytes(path.read_bytes().replace(payloads.text(MARK), program))

    return make


def without_a_storage():
    """Write ``bad.pt``: an old file that leaves out a storage's key and values."""
    file, whole = io.BytesIO(), content()
    state = {name: tensor.float() for name, tensor in whole["state_dict"].items()}  # 4 bytes each
    torch.save(whole | {"state_dict": state}, file, _use_new_zipfile_serialization=False)
    file.seek(0)
    for _ in range(4):
        for _ in pickletools.genops(file):
            pass
    start = file.tell()
    keys, at = pickle.load(file), file.tell()
    data, values = file.getvalue(), {}
    for key in keys:
        size = 8 + 4 * int.from_bytes(data[at : at + 8], "little")
        values[key], at = data[at : at + size], at + size
    least = min(keys, key=lambda key: len(values[key]))
    del values[least]  # the smallest, so that the others still fit the file
    listed = pickle.dumps([key for key in keys if key != least], 2)
    Path("bad.pt").write_bytes(data[:start] + listed + b"".join(values.values()))


def tensors(**entries) -> Maker:
    """Write ``bad.safetensors``: m.pt's tensors, the header's entries changed."""

    def make():
        whole = save(content()["state_dict"])
        size = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + size])
        for name, changes in entries.items():
            header[name.replace("__", ".")] |= changes
        new = json.dumps(header).encode()
        Path("bad.safetensors").write_bytes(
            len(new).to_bytes(8, "little") + new + whole[8 + size :]
        )

    return make


def shadowed():
    """Write ``bad.pt``: m.pt with tensors whose attributes have the names of methods."""
    found = content()
    for name, tensor in list(found["state_dict"].items()):
        for method in ("float", "is_complex", "flatten", "tolist"):
            setattr(tensor, method, 5)
        found["state_dict"][name] = tensor
    weight = nn.Parameter(found["state_dict"]["head.weight"].as_subclass(torch.Tensor))
    weight.float = 5
    found["state_dict"]["head.weight"] = weight
    torch.save(found, "bad.pt")


def nested(weight):
    """Make a nested tensor of rows."""
    return torch.nested.nested_tensor(list(weight))


def views(count):
    """Write ``bad.pt``: one megabyte, shown ten thousand times."""
    values = torch.zeros(1 << 18)
    torch.save({f"w{n}": values[n:] for n in range(count)}, "bad.pt")


def cut(name):
    """Leave the end of a file out."""
    path = Path(name)
    path.write_bytes(path.read_bytes()[:-40])
