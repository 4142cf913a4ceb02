"""Tensors stored as members of a zip: read in place, and changed in place.

Members are stored as they are, so values can be changed in place, and the checksums with them;
every other byte of the zip stays.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ltkit.checkpoints.containers.pickle_reader import extent, room
from ltkit.checkpoints.content import Place
from ltkit.errors import FormatError, InputError
from ltkit.untrusted.zips import STORED, Zip


@dataclass(frozen=True)
class Member:
    """A tensor as part of a zip member; offset and strides are in elements."""

    name: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def tensors(archive: Zip, placed: Mapping[str, Member]) -> dict[str, Tensor]:
    """Read tensors; those that share a member share its values.

    Raises:
        ValueError: when a member lacks values of its tensors.
        FormatError: when the zip does not have them, or they take more than its budget.
    """
    held: dict[str, torch.UntypedStorage] = {}
    found = {}
    for name, member in placed.items():
        if member.name not in held:
            values, memory = room(archive.entry(member.name).size)
            archive.read_into(member.name, memory)
            held[member.name] = values.untyped_storage()
        whole, width = held[member.name], member.dtype.itemsize
        if extent(member.offset, member.shape, member.strides) * width > whole.nbytes():
            raise ValueError(f"the values of {name} are not in the file")
        claimed = prod(member.shape) * width
        archive.budget.take(min(claimed, whole.nbytes()), name)  # many may show the same values
        found[name] = torch.empty(0, dtype=member.dtype).set_(
            whole, member.offset, member.shape, member.strides
        )
    return found


def overwrite_named(
    path: Path,
    output: Path,
    placed: Mapping[str, Member],
    changes: Mapping[tuple[Place, str], Tensor],
) -> None:
    """Copy a zip, replacing the values of tensors by name, whatever their place.

    Raises:
        FormatError: when a member is compressed.
        InputError: when another tensor shares a value.
    """
    users = Counter(member.name for member in placed.values())
    for _, name in changes:
        if users[placed[name].name] > 1:
            raise InputError(
                f"{path}: {name}: shares its values with another tensor, which would change with "
                "it; use --to npz"
            )
    overwrite(path, output, ((placed[name], value) for (_, name), value in changes.items()))


def overwrite(path: Path, output: Path, changes: Iterable[tuple[Member, Tensor]]) -> None:
    """Copy a zip, replacing the values of some tensors.

    Args:
        path: the zip.
        output: the new file.
        changes: tensors to new values, of the same shape and type.

    Raises:
        FormatError: when a member is compressed.
    """
    with Zip(path) as archive:
        entries = archive.entries
    raw = bytearray(path.read_bytes())
    for member, value in changes:
        entry = entries[member.name]
        if entry.method != STORED:
            raise FormatError(f"{path}: {member.name}: is compressed, torch stores it; save again")
        stored = memoryview(raw)[entry.start : entry.start + entry.size]
        whole = torch.frombuffer(stored, dtype=member.dtype)
        whole.as_strided(member.shape, member.strides, member.offset).copy_(value)
        checksum = zlib.crc32(stored)
        del whole, stored
        for place in entry.crc_at:
            struct.pack_into("<I", raw, place, checksum)
    output.write_bytes(raw)
