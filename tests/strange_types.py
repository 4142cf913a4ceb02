"""HDF5 types that NumPy has no name for, and files that have them, with right checksums."""

import math
from unittest import mock

import h5py
import numpy as np

from ltkit.files import hdf5
from ltkit.files.blocks import checksum

F16, F32, F64 = h5py.h5t.IEEE_F16LE, h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F64LE
I16, I64 = h5py.h5t.STD_I16LE, h5py.h5t.STD_I64LE


def float_type(base, size, bits, exponent, bias):
    """A float of so many bytes, bits in all, bits of exponent, and bias."""
    kind, mantissa = base.copy(), bits - exponent - 1
    kind.set_fields(bits - 1, mantissa, exponent, 0, mantissa)
    kind.set_precision(bits)
    kind.set_size(size)
    kind.set_ebias(bias)
    return kind


def whole_type(size, bits, offset=0, base=I64):
    """An integer of so many bytes, of which some bits count."""
    kind = base.copy()
    kind.set_precision(bits)
    kind.set_offset(offset)
    kind.set_size(size)
    return kind


def enumeration():
    """An enumeration of 8 bytes."""
    kind = h5py.h5t.enum_create(I64)
    for number in range(5):
        kind.enum_insert(f"c{number}".encode(), number)
    return kind


def text_type(padding, size=32):
    """A text of so many bytes."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(padding)
    return kind


def plain(*names):
    """Types that NumPy has, too."""
    return {name: h5py.h5t.py_create(np.dtype(name)) for name in names}


FLOATS = {
    "bfloat16": float_type(F32, 2, 16, 8, 127),
    "big-endian bfloat16": float_type(h5py.h5t.IEEE_F32BE, 2, 16, 8, 127),
    "float8 of 5 bits": float_type(F16, 1, 8, 5, 15),
    "float8 of 4 bits": float_type(F16, 1, 8, 4, 7),
    "float4": float_type(F16, 1, 4, 2, 1),
    "padded float": float_type(F64, 8, 32, 8, 127),
    "another bias": float_type(F32, 4, 32, 8, 100),
    "longer exponent": float_type(F32, 4, 32, 9, 255),
}
WHOLES = {
    "24 bits": whole_type(3, 24),
    "12 bits": whole_type(2, 12, base=I16),
    "shifted": whole_type(2, 12, 4, I16),
    "enumeration": enumeration(),
    "bits": h5py.h5t.STD_B64LE,
    "bits of the other order": h5py.h5t.STD_B64BE,
}
TEXTS = {"text padded by spaces": text_type(h5py.h5t.STR_SPACEPAD)}

EXACT = {
    "f": plain("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "longdouble"),
    "i": plain("<i8", ">i8", "<i4", ">i2", "<u8", ">u4", "u1", "i1"),
    "S": {f"{pad} {size}": text_type(pad, size) for size in (32, 40)
          for pad in (h5py.h5t.STR_NULLPAD, h5py.h5t.STR_NULLTERM)},
}  # fmt: skip
"""Types that hold small numbers and half precision as they are, by the kind of a dataset."""

STRANGE = {"f": FLOATS, "i": WHOLES, "S": TEXTS}
"""Types that are not what NumPy calls them."""


def rewrite(file, name, kind, shape=None):
    """Store a dataset in another type, as HDF5 converts it, and another shape."""
    values = file[name][...]
    del file[name]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.CONTIGUOUS)
    space = h5py.h5s.create_simple(values.shape if shape is None else shape)
    stored = h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=made)
    own = kind.get_class() in (h5py.h5t.ENUM, h5py.h5t.BITFIELD)
    if shape is None or math.prod(shape) == values.size:
        values = np.ascontiguousarray(values.reshape(values.shape if shape is None else shape))
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, values, kind if own else None)


def seal(path):
    """Make checksums and digest such as a reader would find who knows NumPy's types only."""
    with mock.patch.object(hdf5, "_is_plain", return_value=True):
        sums = {}
        with h5py.File(path, "r+") as file, path.open("rb") as raw:
            for name, rows in hdf5._datasets(file, path).items():
                raw.seek(rows.offset)
                left, found = rows.shape[0], []
                while left > 0:
                    count = min(left, rows.block_rows)
                    found.append(
                        checksum(np.frombuffer(raw.read(count * rows.row_bytes), np.uint8))
                    )
                    left -= count
                sums[name] = np.array(found, np.uint64)
        hdf5.seal(path, sums)
