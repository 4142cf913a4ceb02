"""Damage to HDF5 files: to metadata behind its checksums, and by the library itself."""

import struct

import h5py
import numpy as np
import strange_types
from damage import NUMBERS, STRANGE

from ltkit.errors import LtkitError
from ltkit.files import hdf5
from ltkit.files.blocks import checksum

# Metadata, with its checksums made right again


UNWRITABLE = "/proc/version"
"""A file outside that even root cannot write: a later change may write where this one leads."""


def lookup3(raw):
    """The checksum of HDF5's metadata, Jenkins's lookup3."""
    mask = 0xFFFFFFFF

    def rot(value, by):
        return (value << by | value >> 32 - by) & mask

    a = b = c = (0xDEADBEEF + len(raw)) & mask
    padded = raw + b"\0" * (-len(raw) % 12)
    triples = list(struct.iter_unpack("<3I", padded))
    for x, y, z in triples[:-1]:
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        for first, second, third in ((4, 6, 8), (16, 19, 4)):
            a = (a - c) & mask ^ rot(c, first)
            c = (c + b) & mask
            b = (b - a) & mask ^ rot(a, second)
            a = (a + c) & mask
            c = (c - b) & mask ^ rot(b, third)
            b = (b + a) & mask
    x, y, z = triples[-1]
    a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
    c = ((c ^ b) - rot(b, 14)) & mask
    a = ((a ^ c) - rot(c, 11)) & mask
    b = ((b ^ a) - rot(a, 25)) & mask
    c = ((c ^ b) - rot(b, 16)) & mask
    a = ((a ^ c) - rot(c, 4)) & mask
    b = ((b ^ a) - rot(a, 14)) & mask
    return ((c ^ b) - rot(b, 24)) & mask


LONGEST = {b"\x89HDF": 44, b"OHDR": 0, b"OCHK": 1500, b"FRHP": 200, b"BTHD": 60, b"FHDB": 1100,
           b"BTLF": 1100}  # fmt: skip
"""Signatures of metadata, and within how many bytes its checksum follows."""


def metadata(raw):
    """Find pieces of metadata: their beginnings, and where their checksums are."""
    found = []
    for sign, most in LONGEST.items():
        at = raw.find(sign)
        while at >= 0:
            ends = range(at + 12, min(at + most, len(raw) - 4) + 1)
            if sign == b"OHDR":  # it says how long it is
                flags = raw[at + 5]
                start = at + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
                size = 1 << (flags & 3)
                ends = (start + size + int.from_bytes(raw[start : start + size], "little"),)
            for end in ends:
                if lookup3(raw[at:end]) == struct.unpack_from("<I", raw, end)[0]:
                    found.append((at, end))
                    break
            at = raw.find(sign, at + 1)
    return found


def repaired(raw, pieces, rng):
    """Damage a piece of metadata and make its checksum right."""
    new = bytearray(raw)
    at, end = rng.choice(pieces)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, size = rng.randrange(3), rng.choice((1, 1, 2, 4, 8))
        where = rng.randrange(at + 4, end)
        size = min(size, end - where)
        if kind == 0:
            new[where] ^= 1 << rng.randrange(8)
        elif kind == 1:
            value = rng.choice((*NUMBERS, at, end, len(raw), len(raw) - 1)) % (1 << 8 * size)
            new[where : where + size] = value.to_bytes(size, "little")
        else:
            new[where : where + size] = rng.randbytes(size)
    new[end : end + 4] = struct.pack("<I", lookup3(bytes(new[at:end])))
    return bytes(new)


# What the library allows


def any_dataset(file, rng):
    """A dataset of a file, by its path; not one that may be made of itself, which has no end."""
    names = []

    def look(name, thing):
        if isinstance(thing, h5py.Dataset) and not name.startswith("checksums"):
            names.extend([name] * (not thing.is_virtual))

    file.visititems(look)
    return rng.choice(names) if names else None


def replaced(file, name, **how):
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, **how)


def craft_links(file, name, rng):
    """Links of all kinds, and loops."""
    kind = rng.randrange(7)
    holder = rng.choice((name, f"checksums/{name}", name.split("/")[0], "checksums"))
    if kind == 6:  # as many ways as there are atoms
        group = file.require_group("checksums")
        for level in range(60):
            group = group.create_group(f"g{level}a")
        bottom = group
        for _ in range(60):
            parent = bottom.parent
            parent["b"] = bottom
            bottom = parent
        return
    if holder in file and kind < 4:
        file.move(holder, "elsewhere")
    file[holder if kind < 4 else f"checksums/{rng.choice('abc')}"] = rng.choice((
        h5py.SoftLink("/elsewhere"), h5py.SoftLink(f"/{holder}"), h5py.ExternalLink("f.h5", "/"),
        h5py.ExternalLink(UNWRITABLE, "/x"), file.get("checksums", file),
        file, h5py.SoftLink("../x" * 100), h5py.ExternalLink("/dev/zero", "/"),
    ))  # fmt: skip


def craft_storage(file, name, rng):
    """Data elsewhere, in pieces, compressed, or not there."""
    old = file[name]
    shape, dtype, values = old.shape, old.dtype, old[...]
    kind = rng.randrange(9)
    if kind == 0:
        layout = h5py.VirtualLayout(shape, dtype)
        source = rng.choice((".", "f.h5", UNWRITABLE, "none.h5"))
        layout[...] = h5py.VirtualSource(source, f"/{name}", shape)
        del file[name]
        file.create_virtual_dataset(name, layout)
    elif kind == 1:
        size = rng.choice((old.nbytes, h5py.h5f.UNLIMITED))
        outside = rng.choice((UNWRITABLE, "/dev/zero", "x", "f.h5"))
        replaced(file, name, shape=shape, dtype=dtype, external=[(outside, 0, size)])
    elif kind < 5:
        how = rng.choice(({"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True},
                          {"fletcher32": True}, {"chunks": True}, {"scaleoffset": 0}))  # fmt: skip
        if "scaleoffset" in how and dtype.kind not in "iu":
            how = {"chunks": True}
        replaced(file, name, data=values, **how)
    elif kind == 5:
        large = rng.choice(((1 << 40,), (1 << 30, 1 << 30), (1 << 62,), (0,), (1,) * 32))
        replaced(file, name, shape=large, dtype=dtype)
    elif kind == 6:
        replaced(file, name, shape=(1 << 35,), dtype=dtype, chunks=(1 << 20,), compression="gzip")
    elif kind == 7:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(shape)
        del file[name]
        file_type = h5py.h5t.py_create(dtype)
        h5py.h5d.create(file.id, name.encode(), file_type, space, dcpl=plist)
    else:
        replaced(file, name, data=h5py.Empty(dtype) if rng.random() < 0.5 else values.flat[0]
                 if values.size else h5py.Empty(dtype))  # fmt: skip


def craft_types(file, name, rng):
    """Other types, shapes and kinds of object."""
    values = file[name][...]
    rows = len(values)
    if rng.random() < 0.1:
        del file[name]
        file.create_group(name)
        return
    kinds = [np.dtype(k) for k in (">f4", ">i8", "f2", "f8", "c8", "?", "i1", "u8", "S3", "V4",
                                   "longdouble", "u2")]  # fmt: skip
    kinds += [h5py.string_dtype(), h5py.vlen_dtype(np.int32), h5py.ref_dtype, h5py.regionref_dtype,
              h5py.enum_dtype({"A": 0, "B": 1}), np.dtype([("a", "f4"), ("b", "i8")]),
              np.dtype(("f4", (2, 2))), np.dtype([("a", h5py.string_dtype())])]  # fmt: skip
    dtype = rng.choice(kinds)
    shape = rng.choice((values.shape, values.shape[:1], (rows, 1), values.shape[::-1], (0,),
                        (rows, 0), (0, 0), (rows + 1, *values.shape[1:]), ()))  # fmt: skip
    if rng.random() < 0.4 and dtype.kind in "fiu?S" and dtype.shape == ():
        replaced(file, name, data=values.astype(dtype) if values.dtype.kind != "S" else values)
    else:
        replaced(file, name, shape=shape, dtype=dtype)


def craft_attributes(file, name, rng):
    """Attributes of other kinds."""
    holders = [
        file,
        file.get(f"checksums/{name}", file),
        *([file["head"]] if "head" in file else []),
    ]
    holder = rng.choice(holders)
    names = [*holder.attrs, "x"]
    key = rng.choice(names)
    kind = rng.random()
    if kind < 0.15 and key in holder.attrs:
        del holder.attrs[key]
        return
    value = rng.choice((
        *STRANGE, np.arange(3), np.zeros((0,)), b"\xff\xfe", np.bytes_(b"x\0y"), np.float32(8.5),
        np.int64(-1), np.array([1]), h5py.Empty("f4"), "{", "[]", '{"a": NaN}', "[" * 5000, "1e999",
        '{"a": ' + "9" * 5000 + "}", np.zeros(8000, np.uint8), np.array(["a", "b"], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]), np.complex64(1), np.bool_(True),
        np.uint64(1 << 63), file.ref,
    ))  # fmt: skip
    holder.attrs[key] = value


def craft_values(file, name, rng):
    """Wrong numbers and texts."""
    data = file[name]
    if not data.size:
        return
    at = tuple(rng.randrange(n) for n in data.shape)
    if data.dtype.kind == "f":
        data[at] = rng.choice((np.nan, np.inf, -np.inf, 1e30, -0.0))
    elif data.dtype.kind in "iu":
        low, high = np.iinfo(data.dtype).min, np.iinfo(data.dtype).max
        data[at] = rng.choice((low, high, -1 if low else 0, 0, 1, 4, 5, 100, 1 << 20, 1 << 31))
    else:
        data[at] = rng.choice((b"\xff", b"", b"\x1b[2J", b"{", b"null", b"[1]", b"a\0b",
                               rng.randbytes(data.dtype.itemsize)))  # fmt: skip


def craft_more(file, name, rng):
    """Take out and add members."""
    kind = rng.randrange(5)
    if kind == 0:
        del file[rng.choice((name, f"checksums/{name}", name.split("/")[0], "checksums"))]
    elif kind == 1:
        group = file
        for part in range(rng.choice((3, 100, 500))):
            group = group.create_group(f"{part}")
        file[f"checksums/{rng.choice('ab')}"] = file["0"]
    elif kind == 2:
        group = file.require_group("checksums/many")
        for part in range(rng.choice((10, 500))):
            group.create_dataset(f"{part}", data=np.zeros(1, "u8")).attrs["block_rows"] = 1
    elif kind == 3:
        new = rng.choice((f"train/{name}", "extra/x", "extra/a/b", "test/features", "val/ids",
                          "é", "a\nb", "head/weight"))  # fmt: skip
        if new not in file:
            file.copy(name, new)
            file.copy(f"checksums/{name}", f"checksums/{new}")
    else:
        file.move(name, f"{name}2")


CRAFTS = (craft_links, craft_storage, craft_types, craft_attributes, craft_values, craft_more)


def retyped(file, name, rng):
    """Store the numbers of a dataset in another type, or under another shape."""
    shape, kind = file[name].shape, file[name].dtype.kind
    kind = "i" if kind == "u" else kind
    if rng.random() < 0.3:
        rows, *columns = shape
        shape = rng.choice((
            (rows + 1, *columns), (max(0, rows - 1), *columns), (rows, *columns, 1),
            (1, rows, *columns), (rows * max(1, *columns, 1),), (0, *columns), (rows, 0),
            (1 << 40, *columns), shape[::-1] if len({*shape}) > 1 else (rows, *columns, 1),
        ))  # fmt: skip
        strange_types.rewrite(file, name, file[name].id.get_type(), shape)
        return
    types = (strange_types.STRANGE if rng.random() < 0.6 else strange_types.EXACT)[kind]
    strange_types.rewrite(file, name, types[rng.choice(sorted(types))])


def resealed(path, rng):
    """Make checksums and digest right, as far as the file allows."""
    try:
        with h5py.File(path, "r") as file:
            found = {}
            for name, rows in hdf5._datasets(file, path).items():
                values = file[name][...]
                blocks = range(0, len(values), rows.block_rows)
                sums = [checksum(values[i : i + rows.block_rows]) for i in blocks]
                found[name] = np.array(sums, dtype=np.uint64)
        hdf5.seal(path, found)
    except (*hdf5.DAMAGED, LtkitError):
        return
