"""New values in a zip that ``torch.save`` wrote; every other byte of it stays.

The pickle in the zip says where in which member each tensor lies. Members are stored as they are,
so values can be changed in place, and the checksums with them. Nothing is built from the pickle but
these places, so a file that holds objects of unknown classes keeps them.
"""

import io
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints._content import Place
from ltkit.checkpoints._inert import Pickle
from ltkit.errors import FormatError

CHECKSUM_IN = {"local": 14, "central": 16}
"""Where in a member's headers its CRC-32 stands, in bytes."""


@dataclass(frozen=True)
class Spot:
    """Where a tensor's values are: a member of the zip, first element, shape and strides."""

    member: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def patch(path: Path, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> bool:
    """Write a copy of a zip with some tensors' values replaced.

    Nothing is written where another tensor would change with them, because both share the values.

    Args:
        path: what ``torch.save`` wrote.
        output: the new file.
        changes: places and names to new values, of the same shape and type.

    Returns:
        Whether it was written.

    Raises:
        FormatError: when the zip is not laid out as torch does it.
    """
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        pickled = next(n for n in infos if n.count("/") == 1 and n.endswith("/data.pkl"))
        spots = _Spots(archive.read(pickled), pickled.removesuffix("data.pkl")).load()
        central = _central_entries(raw, archive.start_dir)
    users = Counter(_members(spots))
    for (place, name), value in changes.items():
        spot = spots
        for key in (*place, name):
            spot = spot[key]
        if users[spot.member] > 1:
            return False
        info = infos[spot.member]
        if info.compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"{path}: {spot.member}: is compressed, torch stores it; save again")
        start = _data_start(raw, info.header_offset)
        stored = memoryview(raw)[start : start + info.file_size]
        whole = torch.frombuffer(stored, dtype=value.dtype)
        whole.as_strided(spot.shape, spot.strides, spot.offset).copy_(value)
        checksum = struct.pack("<I", zlib.crc32(stored))
        del whole, stored
        _put(raw, central[spot.member] + CHECKSUM_IN["central"], checksum)
        if info.flag_bits & 8:  # the checksum follows the data, after a mark or not
            end = start + info.file_size
            _put(raw, end + 4 * (raw[end : end + 4] == b"PK\x07\x08"), checksum)
        else:
            _put(raw, info.header_offset + CHECKSUM_IN["local"], checksum)
    output.write_bytes(raw)
    return True


def _members(spots: Any) -> Iterator[str]:
    """Yield the member of every tensor in nested containers, as often as it is there."""
    if isinstance(spots, Spot):
        yield spots.member
    elif isinstance(spots, Mapping | list | tuple):
        for part in spots.values() if isinstance(spots, Mapping) else spots:
            yield from _members(part)


def _put(raw: bytearray, at: int, value: bytes) -> None:
    raw[at : at + len(value)] = value


def _data_start(raw: bytearray, header: int) -> int:
    name, extra = struct.unpack_from("<HH", raw, header + 26)
    return int(header + 30 + name + extra)


def _central_entries(raw: bytearray, start: int) -> dict[str, int]:
    """Return where the zip's list of contents has each member."""
    entries = {}
    while raw[start : start + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack_from("<HHH", raw, start + 28)
        entries[raw[start + 46 : start + 46 + name].decode()] = start
        start += 46 + name + extra + comment
    return entries


class _Spots:
    """Reads a pickle for the places of its tensors."""

    def __init__(self, pickled: bytes, folder: str) -> None:
        inert, self.folder = Pickle(), folder
        built = {
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *others: data,
            ("collections", "OrderedDict"): OrderedDict,
        }
        folder_of = self._member

        class Unpickler(inert.Unpickler):  # type: ignore[name-defined, misc]
            def find_class(self, module: str, name: str) -> Any:
                return built.get((module, name)) or super().find_class(module, name)

            def persistent_load(self, saved: tuple[Any, ...]) -> str:
                return folder_of(str(saved[2]))

        self.unpickler = Unpickler(io.BytesIO(pickled), encoding="utf-8")

    def load(self) -> Any:
        return self.unpickler.load()

    def _member(self, key: str) -> str:
        return f"{self.folder}data/{key}"

    @staticmethod
    def _tensor(member: str, offset: int, shape: Any, strides: Any, *others: Any) -> Spot:
        return Spot(member, offset, tuple(shape), tuple(strides))
