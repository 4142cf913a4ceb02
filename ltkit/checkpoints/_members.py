"""Tensors that are members of a zip: read by their places, and changed there.

Members are stored as they are, so values can be changed in place, and the checksums with them;
every other byte of the zip stays.
"""

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ltkit.errors import FormatError, InputError

LOCAL_CHECKSUM, LISTED_CHECKSUM = 14, 16
"""Where the CRC-32 stands in a member's own header and in the zip's list, in bytes."""


@dataclass(frozen=True)
class Member:
    """A tensor: a member of the zip, and which of its values; offset and strides in elements."""

    name: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensors(archive: zipfile.ZipFile, placed: Mapping[str, Member]) -> dict[str, Tensor]:
    """Read tensors; those that share a member share its values.

    Raises:
        KeyError, RuntimeError, ValueError: when the zip does not have them.
    """
    flat: dict[tuple[str, torch.dtype], Tensor] = {}
    found = {}
    for name, member in placed.items():
        key = member.name, member.dtype
        if key not in flat:
            data = bytearray(archive.read(member.name))
            flat[key] = torch.frombuffer(data, dtype=member.dtype) if data else torch.empty(0)
        found[name] = flat[key].as_strided(member.shape, member.strides, member.offset)
    return found


def overwrite(
    path: Path, output: Path, placed: Mapping[str, Member], changes: Mapping[str, Tensor]
) -> None:
    """Write a copy of a zip with some tensors' values replaced.

    Args:
        path: the zip.
        output: the new file.
        placed: all its tensors.
        changes: names to new values, of the same shape and type.

    Raises:
        FormatError: when a member is compressed.
        InputError: when another tensor would change with one of them.
    """
    users = Counter(member.name for member in placed.values())
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        listed = _listed(raw, archive.start_dir)
    for name, value in changes.items():
        member = placed[name]
        if users[member.name] > 1:
            raise InputError(
                f"{path}: {name}: shares its values with another tensor, which would change with "
                "it; use --to npz"
            )
        info = infos[member.name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"{path}: {member.name}: is compressed, torch stores it; save again")
        lengths = struct.unpack_from("<HH", raw, info.header_offset + 26)
        start = info.header_offset + 30 + sum(lengths)
        stored = memoryview(raw)[start : start + info.file_size]
        whole = torch.frombuffer(stored, dtype=member.dtype)
        whole.as_strided(member.shape, member.strides, member.offset).copy_(value)
        checksum = zlib.crc32(stored)
        del whole, stored
        struct.pack_into("<I", raw, listed[member.name] + LISTED_CHECKSUM, checksum)
        if info.flag_bits & 8:  # the checksum follows the data, after a mark or not
            end = start + info.file_size
            struct.pack_into("<I", raw, end + 4 * (raw[end : end + 4] == b"PK\x07\x08"), checksum)
        else:
            struct.pack_into("<I", raw, info.header_offset + LOCAL_CHECKSUM, checksum)
    output.write_bytes(raw)


def _listed(raw: bytearray, start: int) -> dict[str, int]:
    """Return where the zip's list of contents has each member."""
    entries = {}
    while raw[start : start + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack_from("<HHH", raw, start + 28)
        entries[raw[start + 46 : start + 46 + name].decode()] = start
        start += 46 + name + extra + comment
    return entries
