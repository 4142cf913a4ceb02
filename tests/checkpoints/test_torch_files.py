"""Files of torch whose pickles or values are wrong: each is refused in one line that says what."""

import io
import pickle
import tarfile
import zipfile
from collections import Counter, OrderedDict

import made
import payloads
import pytest
import torch

from ltkit import checkpoints
from ltkit.checkpoints import read_object
from ltkit.errors import FormatError, InputError

MARK = "@@@@@"
BUILTINS = "builtins"


def zipped(path, program, **members):
    """Write a zip of torch's with opcodes in its pickle, and other members."""
    torch.save({"w": torch.arange(6.0), "x": MARK}, path)
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in found.items():
            new = members.get(name.split("/")[-1], raw)
            archive.writestr(name, new.replace(payloads.text(MARK), program))


def stored(count=6, kind="FloatStorage", key="0", *more):
    saved = (payloads.text("storage"), payloads.named("torch", kind), payloads.text(key),
             payloads.text("cpu"), payloads.number(count), *more)  # fmt: skip
    return payloads.items(*saved) + b"Q"


def called(module, name, *arguments):
    return payloads.call(payloads.named(module, name), *arguments)


def tensor(storage, offset=b"K\x00", shape=b"(K\x06t", strides=b"(K\x01t"):
    return payloads.call(
        payloads.REBUILD, storage, offset, shape, strides, b"\x89", payloads.ORDERED
    )


ONES = b"(" + b"K\x01" * 17 + b"t"


@pytest.mark.parametrize(
    ("program", "words"),
    [(tensor(b"K\x05"), "it holds torch._utils._rebuild_tensor_v2"),
     (tensor(stored(5)), "a storage has two types or sizes"),
     (tensor(stored(12, "HalfStorage")), "a storage has two types or sizes"),
     (tensor(stored(key="9")), "its member m/data/9 is absent"),
     (tensor(stored(kind="EvilStorage")), "persistent id that is no storage"),
     (tensor(stored(), b"K\x01"), "a tensor's values are not in the file"),
     (tensor(stored(), shape=b"(J\xff\xff\xff\xfft"), "a tensor's shape is damaged"),
     (tensor(stored(), strides=b"(K\x01K\x01t"), "a tensor's shape is damaged"),
     (tensor(stored(), shape=b"(\x88t"), "a tensor's shape is damaged"),
     (tensor(stored(), shape=ONES, strides=ONES), "a tensor has 17 dimensions"),
     (tensor(stored(), shape=b"(K\x00t", offset=b"K\x07"), "values are not in the file"),
     (called("torch._utils", "_rebuild_tensor_v3", stored(), b"K\x00", b")", b")", b"\x89",
             payloads.ORDERED, b"N"), "it holds torch._utils._rebuild_tensor_v3"),
     (called("torch._tensor", "_rebuild_from_type_v2", payloads.REBUILD, b"N", b"N"),
      "it holds torch._tensor._rebuild_from_type_v2"),
     (called("collections", "OrderedDict", payloads.listed(stored())),
      "it holds collections.OrderedDict"),
     (called("torch", "Size", stored()), "it holds torch.Size"),
     (tensor(stored(), shape=stored()), "a tensor's shape is damaged"),
     (payloads.named("torch", "Size") + tensor(stored()) + b"R", "class Tensor of arguments"),
     (payloads.named("torch", "Size") + b")\x81", "class Maker of a class"),
     (called("collections", "OrderedDict", b"K\x01"), "it holds collections.OrderedDict"),
     (called(BUILTINS, "set", payloads.text("ab")), "it holds builtins.set"),
     (called(BUILTINS, "complex", payloads.text("1j")), "it holds builtins.complex"),
     (called(BUILTINS, "bytearray", b"K\x05"), "it holds builtins.bytearray"),
     (called("_codecs", "encode", payloads.text("a"), payloads.text("hex")), "_codecs.encode"),
     (called("torch", "device", payloads.text("c" * 200)), "it holds torch.device"),
     (called("torch.storage", "_load_from_bytes", b"N"), "torch.storage._load_from_bytes"),
     (called("torch.storage", "_load_from_bytes", payloads.raw(b"PK\3\4")), "refused"),
     (payloads.build(payloads.ORDERED, payloads.mapping(_metadata=payloads.mapping(a=b"]"))),
      "class of versions"),
     (payloads.build(payloads.named("torch", "Size"), payloads.EMPTY), "Maker to be changed")],
)  # fmt: skip
def test_what_is_not_built(path, program, words):
    zipped(path, program)
    made.refused(lambda: read_object(path), "m.pt", words, error=FormatError)


def test_big_endian_values(path):
    zipped(path, b"N", byteorder=b"big")
    made.refused(lambda: read_object(path), "its values are big-endian", error=FormatError)


def test_what_is_built(path):
    counts, state = Counter("aab"), OrderedDict(a=torch.ones(2))
    state._metadata = OrderedDict({"": {"version": 1}})
    attributes = torch.ones(3)
    attributes.float = 5
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.detach = 5
    kinds = [torch.float8_e4m3fn, torch.uint16, torch.bfloat16, torch.bool, torch.complex64]
    given = {
        "counts": counts, "state": state, "set": {1, "a"}, "frozen": frozenset((1, (2, 3))),
        "size": torch.Size((1, 2)), "device": torch.device("cpu"), "complex": 1 + 2j,
        "bytes": bytearray(b"ab"), "old": b"ab", "dtype": torch.float32, "a": attributes,
        "p": parameter, **{str(k): torch.ones(4).to(k) for k in kinds},
        "part": torch.arange(20.0).reshape(4, 5)[1:3, ::2], "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "grad": torch.ones(1, requires_grad=True),
        "storage": torch.ones(3).untyped_storage(),
    }  # fmt: skip
    for old in (False, True):
        torch.save(given, path, _use_new_zipfile_serialization=not old)
        found, skipped = read_object(path)
        assert "torch._tensor._rebuild_from_type_v2" in skipped
        for name, value in given.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(found[name], value), name
                assert found[name].requires_grad == value.requires_grad
            elif name not in ("state", "storage"):
                assert found[name] == value, name
        assert found["state"]._metadata == state._metadata
        assert callable(found["a"].float)
        assert callable(found["p"].detach)
        assert list(found["storage"].values) == list(given["storage"])


def old_file(path, *, objects=None, keys=("0",), values=None, magic=None, version=1001):
    """Write an old file of torch's, of any parts."""
    magic = 0x1950A86A20F9469CFC6C if magic is None else magic
    parts = [pickle.dumps(part, 2) for part in (magic, version, {"little_endian": True})]
    parts += [payloads.whole(objects or tensor(stored(6, "FloatStorage", "0", b"N")))]
    parts += [pickle.dumps(list(keys), 2)]
    value = torch.arange(6.0).numpy().tobytes()
    path.write_bytes(
        b"".join(parts) + ((6).to_bytes(8, "little") + value if values is None else values)
    )


def test_an_old_file(path):
    old_file(path)
    assert torch.equal(read_object(path)[0], torch.arange(6.0))
    view = payloads.items(payloads.text("v"), b"K\x02", b"K\x03")
    old_file(path, objects=tensor(stored(6, "FloatStorage", "0", view), shape=b"(K\x03t"))
    assert torch.equal(read_object(path)[0], torch.arange(2.0, 5.0))


HALF = stored(6, "HalfStorage", "0", b"N")
VIEW = payloads.items(payloads.text("v"), b"K\x02", b"K\x05")
SIX = (6).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("parts", "words"),
    [({"magic": 1}, "does not begin as torch's files do"), ({"version": 1}, "version 1001"),
     ({"keys": ()}, "the values of 1 storages are not in the file"),
     ({"keys": ("0", "0")}, "of a storage twice"), ({"keys": ("1",)}, "or of one that it has not"),
     ({"keys": ((1,),)}, "key of a storage"), ({"values": b"\5" + bytes(31)}, "has other values"),
     ({"values": SIX + bytes(20)}, "its values are cut off"),
     ({"objects": tensor(stored(1 << 40, "FloatStorage", "0", b"N"))}, "4398046511104 bytes"),
     ({"objects": tensor(stored(-1, "FloatStorage", "0", b"N"))}, "a storage's size is damaged"),
     ({"objects": payloads.listed(tensor(stored(6, "FloatStorage", "0", b"N")), HALF)},
      "two types or sizes"),
     ({"objects": tensor(stored(6, "FloatStorage", "0", payloads.text("abc")))},
      "a part of a storage is damaged"),
     ({"objects": tensor(stored(6, "FloatStorage", "0", VIEW))}, "a part of a storage is not"),
     ({"objects": payloads.call(payloads.named("torch.storage", "_load_from_bytes"),
                                payloads.raw(b"x"))}, "m.pt")],
)  # fmt: skip
def test_old_files_that_are_wrong(path, parts, words):
    old_file(path, **parts)
    made.refused(lambda: read_object(path), "m.pt", words, error=FormatError)


def test_bytes_that_hold_no_storage(path):
    file = io.BytesIO()
    torch.save({"a": 1}, file, _use_new_zipfile_serialization=False)
    load = payloads.named("torch.storage", "_load_from_bytes")
    zipped(path, payloads.call(load, payloads.raw(file.getvalue())))
    words = "refused: it holds torch.storage._load_from_bytes"
    made.refused(lambda: read_object(path), words, error=FormatError)


def test_storages_in_bytes_take_their_time(path):
    file = io.BytesIO()
    with pytest.warns(UserWarning, match="TypedStorage"):
        torch.save(torch.FloatStorage(3), file, _use_new_zipfile_serialization=False)
    load = payloads.named("torch.storage", "_load_from_bytes")
    again = payloads.call(load, b"h\x64") + b"0"
    zipped(path, payloads.raw(file.getvalue()) + b"q\x640" + again * 3 + b"N")
    read_object(path)
    zipped(path, payloads.raw(file.getvalue()) + b"q\x640" + again * 1500 + b"N")
    made.refused(lambda: read_object(path), "steps; it is damaged", error=FormatError)


def test_torchs_first_tars(path):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    made.refused(lambda: read_object(path), "torch's first, a tar", error=FormatError)


@pytest.mark.parametrize("thing", ["deep", "function", "storage"])
def test_what_cannot_be_saved_again(path, tmp_path, thing):
    deep = b"]" * 50_000 + b"a" * 49_999
    other = torch.ones(2).untyped_storage() if thing == "storage" else MARK
    torch.save({"w": torch.ones(2), "x": other}, path, _use_new_zipfile_serialization=False)
    program = deep if thing == "deep" else payloads.named("torch", "Size")
    path.write_bytes(path.read_bytes().replace(payloads.text(MARK), program))
    content = checkpoints.read(path)
    made.refused(
        lambda: checkpoints.rewrite(content, tmp_path / "o.pt", {((), "w"): torch.zeros(2)}),
        "holds what cannot be written again", "--to npz", error=InputError,
    )  # fmt: skip


def test_a_mapping_at_two_places_is_not_changed_at_one(path, tmp_path):
    state = {"w": torch.ones(2), "b": torch.zeros(1)}
    torch.save({"a": state, "b": state}, path)
    content = checkpoints.read(path)
    checkpoints.rewrite(content, tmp_path / "o.pt", {(("a",), "w"): torch.zeros(2)})
    found = torch.load(tmp_path / "o.pt", weights_only=True)
    assert (found["a"]["w"].tolist(), found["b"]["w"].tolist()) == ([0, 0], [1, 1])
