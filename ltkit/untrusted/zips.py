"""Untrusted zips: read only if every reader would find the same in them.

A zip says what it holds at its end, and again before each member. Readers differ in which they
believe, and where they look for the end, so one file can be two archives: a sound one to the
reader that checks it, and another to the one that runs it. Here both have to agree, byte for byte,
with nothing before, between and after; and a member is given only with its checksum.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from ltkit.errors import FormatError
from ltkit.untrusted.budget import Budget, opened

RATIO, SLACK = 2, 64 << 20
"""A zip may say that it unpacks to so many times its size and so many bytes more: weights hardly
get smaller, only text does."""

OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
"""Names that lead out of their folder."""

STORED, DEFLATED, NEWEST = 0, 8, 63
"""Supported compression methods, and the newest zip version, times ten."""

FOLLOWS, UTF_8, KNOWN_FLAGS = 1 << 3, 1 << 11, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 11
"""Of a member's flags: its sizes and checksum follow its bytes; its name is UTF-8; and those that
change nothing for a reader besides, as how hard the writer tried."""

END, END_64, LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
LOCAL, LISTED, AFTER = b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08"
FOLDER = 1 << 4
"""Member attribute of a folder, from which libtorch reads nothing."""

FULL_2, FULL_4 = 0xFFFF, 0xFFFFFFFF
"""Values that mean that the real number is elsewhere, in eight bytes."""

BLOCK = 1 << 20
ENTRY_BYTES = 600
"""Memory that a listed member takes."""


@dataclass(frozen=True)
class ZipEntry:
    """A member: its bytes in the file, packed and unpacked, and the place of its CRC-32."""

    name: str
    method: int
    crc: int
    start: int
    packed: int
    size: int
    crc_at: tuple[int, ...]


@dataclass(frozen=True)
class _Listed:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    crc_at: int
    folder: bool


class Zip:
    """A zip that can be read in only one way.

    entries: what it holds, by name, in the order of the list at its end.
    """

    def __init__(
        self, path: Path, budget: Budget | None = None, inside: bytes | bytearray | None = None
    ) -> None:
        """Read the list, and every member's own header.

        Args:
            path: the file.
            budget: limits on reading it.
            inside: the zip, if it is a member of that file.

        Raises:
            InputError: when there is no such file.
            FormatError: when it is damaged, can be read in two ways, unpacks to far more than it
                is, or has members outside of it.
        """
        self.path = path
        self.file: io.BufferedIOBase = (
            opened(path, "a zip") if inside is None else io.BytesIO(inside)
        )
        try:
            self.size = self.file.seek(0, os.SEEK_END)
            self.budget = budget or Budget(path, self.size)
            listed, end = self._listed()
            self.entries = self._entries(listed, end)
        except struct.error as error:
            self.file.close()
            raise self._bad("a header is cut off") from error
        except BaseException:
            self.file.close()
            raise
        self._sound: set[str] = set()

    def __enter__(self) -> "Zip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.file.close()

    @property
    def root(self) -> str:
        """The folder of the first member, with its slash: libtorch looks only there."""
        first = next(iter(self.entries), "")
        return first[: first.find("/") + 1]

    def read(self, name: str) -> bytearray:
        """Return a member.

        Raises:
            FormatError: when there is none of that name, or it is damaged.
        """
        data = bytearray(self.entry(name).size)
        self.read_into(name, memoryview(data))
        return data

    def read_into(self, name: str, target: memoryview) -> None:
        """Read a member into a buffer of exactly its size; see `read`."""
        entry = self.entry(name)
        self.budget.take(entry.size, name)
        at = 0
        for block in self._unpacked(entry):
            target[at : at + len(block)] = block
            at += len(block)

    def entry(self, name: str) -> ZipEntry:
        """Return a member's entry.

        Raises:
            FormatError: when there is none of that name.
        """
        if name not in self.entries:
            raise self._bad(f"its member {name} is absent")
        return self.entries[name]

    def verify(self) -> None:
        """Check the members that were not read.

        Raises:
            FormatError: when one is damaged.
        """
        for name, entry in self.entries.items():
            if name not in self._sound:
                for _ in self._unpacked(entry):
                    pass

    def _unpacked(self, entry: ZipEntry) -> Iterator[bytes]:
        """Yield a member's bytes in blocks; at the end, check their number and checksum."""
        crc = size = 0
        for block in self._blocks(entry):
            size += len(block)
            if size > entry.size:
                break
            crc = zlib.crc32(block, crc)
            yield block
        if size != entry.size:
            raise self._bad(f"its member {entry.name} has not the {entry.size} bytes that it says")
        if crc != entry.crc:
            if all(other.crc == 0 for other in self.entries.values()):
                raise FormatError(
                    f"{self.path}: has no checksums (torch.serialization.set_crc32_options(False)),"
                    " so damage would not be seen; save it again with them"
                )
            raise self._bad(f"the checksum of its member {entry.name} is wrong")
        self._sound.add(entry.name)

    def _blocks(self, entry: ZipEntry) -> Iterator[bytes]:
        self.file.seek(entry.start)
        unpacker, left = zlib.decompressobj(-zlib.MAX_WBITS), entry.packed
        while left:
            block = self.file.read(min(BLOCK, left))
            if not block:
                return  # it was cut meanwhile
            left -= len(block)
            if entry.method == STORED:
                yield block
                continue
            while block:
                try:
                    unpacked = unpacker.decompress(block, BLOCK)
                except zlib.error as error:
                    raise self._bad(f"its member {entry.name} does not unpack") from error
                if unpacked:
                    yield unpacked
                block = unpacker.unconsumed_tail
                if unpacker.unused_data:
                    raise self._bad(f"its member {entry.name} goes on after its end")
        if entry.method == DEFLATED and not unpacker.eof:
            tail = unpacker.flush()
            if tail:
                yield tail
            if not unpacker.eof:
                raise self._bad(f"its member {entry.name} has no end")

    def _at(self, place: int, count: int) -> bytes:
        self.file.seek(place)
        return self.file.read(count)

    def _bad(self, found: str) -> FormatError:
        return FormatError(
            f"{self.path}: is not a sound zip ({found[:160]}); fetch it again, or save it again"
        )

    def _listed(self) -> tuple[list[_Listed], int]:
        """Return the list of members, and where it begins, which is where the members end."""
        at = self.size - 22
        raw = self._at(max(at, 0), 22)
        if at < 0 or raw[:4] != END:
            raise self._bad("it is truncated, or something follows its end")
        disk, of, here, count, length, start, comment = struct.unpack("<4H2IH", raw[4:])
        if disk or of or here != count or comment:
            raise self._bad("it is one of several parts, or has a comment")
        if self._at(max(at - 20, 0), 4) == LOCATOR and at >= 76:
            count, length, start = self._wide_end(at, (count, length, start))
            at -= 76
        if start + length != at:
            raise self._bad("its list is not where its end says")
        self.budget.take(ENTRY_BYTES * count, "its list")
        raw = self._at(start, length)
        listed, place = [], 0
        for _ in range(count):
            entry, place = self._listing(raw, place, start)
            listed.append(entry)
        if place != length:
            raise self._bad("its list is longer than its end says")
        return listed, start

    def _wide_end(self, at: int, short: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return members, length and start of the list from the zip64 end record."""
        raw = self._at(at - 76, 76)
        size, _, _, disk, of, here, count, length, start = struct.unpack("<QHH2I4Q", raw[4:56])
        first, where, disks = struct.unpack("<IQI", raw[60:])
        wide = (count, length, start)
        agree = all(
            a in (b, full) for a, b, full in zip(short, wide, (FULL_2, FULL_4, FULL_4), strict=True)
        )
        if (
            raw[:4] != END_64 or size != 44 or disk or of or first or disks > 1
            or here != count or where != at - 76 or not agree
        ):  # fmt: skip
            raise self._bad("its two ends differ")
        return wide

    def _listing(self, raw: bytes, place: int, start: int) -> tuple[_Listed, int]:
        """Return one entry of the list, and where the next begins."""
        fields = struct.unpack_from("<4s4H4x3I5H2I", raw, place)
        mark, _, needed, flags, method, crc, packed, size, name, extra, comment, disk = fields[:12]
        header = fields[14]
        names = place + 46
        end = names + name + extra + comment
        if mark != LISTED or end > len(raw) or disk:
            raise self._bad("its list is damaged")
        if flags & ~KNOWN_FLAGS or method not in (STORED, DEFLATED) or needed > NEWEST:
            raise self._bad(f"a member is encrypted, or packed in way {method}, not as torch does")
        wide = self._wide(raw[names + name : names + name + extra])
        numbers = self._widened((size, packed, header), wide)
        entry = _Listed(
            raw[names : names + name], flags, method, crc, numbers[1], numbers[0], numbers[2],
            start + place + 16,
            bool(fields[13] & FOLDER) or raw[names : names + name].endswith(b"/"),
        )  # fmt: skip
        return entry, end

    def _wide(self, extra: bytes) -> bytes:
        """Return the zip64 numbers among a header's extra fields; there is one place for them."""
        found = []
        while extra:
            kind, length = struct.unpack_from("<HH", extra)
            if kind == 1:
                found.append(extra[4 : 4 + length])
            if 4 + length > len(extra):
                raise self._bad("a header is damaged")
            extra = extra[4 + length :]
        if len(found) > 1:
            raise self._bad("a header has wide sizes twice")
        return found[0] if found else b""

    def _widened(self, numbers: tuple[int, ...], wide: bytes) -> list[int]:
        """Return numbers; those stored elsewhere come from the zip64 numbers, in order."""
        found = []
        for number in numbers:
            if number == FULL_4:
                if len(wide) < 8:
                    raise self._bad("a header's wide sizes are absent")
                number, wide = int.from_bytes(wide[:8], "little"), wide[8:]
            found.append(number)
        return found

    def _entries(self, listed: list[_Listed], end: int) -> dict[str, ZipEntry]:
        """Return the members, after checking that their own headers agree with the list."""
        found, seen = dict[str, _Listed](), set[bytes]()
        for one in listed:
            name = one.name.decode("utf-8" if one.flags & UTF_8 else "cp437", "replace")
            if OUTSIDE.search(name):
                raise FormatError(
                    f"{self.path}: refused: its member {name[:80]!r} lies outside of it"
                )
            if not name or "\0" in name or "\ufffd" in name:
                raise self._bad(f"{name[:80]!r} is no name of a member")
            if name in found or one.name.lower() in seen:
                raise self._bad(f"two members are called {name[:80]!r}")
            if one.method == STORED and one.size != one.packed:
                raise self._bad(f"its member {name} is stored in other bytes than it has")
            if one.folder and one.packed:
                raise self._bad(f"its member {name} is a folder with bytes of its own")
            seen.add(one.name.lower())  # libtorch takes upper and lower case as one
            found[name] = one
        unpacked = sum(one.size for one in listed)
        if unpacked > RATIO * self.size + SLACK:
            raise FormatError(
                f"{self.path}: refused: {self.size} bytes that unpack to {unpacked}; torch stores "
                "weights as they are, save the checkpoint again"
            )
        placed = sorted((one.header, name) for name, one in found.items())
        if placed[0][0] if placed else end:
            raise self._bad("something stands before its members")
        made = {}
        for (_, name), (following, _) in pairwise([*placed, (end, "")]):
            made[name] = self._entry(name, found[name], following)
        return {name: made[name] for name in found}

    def _entry(self, name: str, one: _Listed, following: int) -> ZipEntry:
        """Return a member, after checking its own header against the list, and its end."""
        raw = self._at(one.header, 30)
        mark, _, flags, method, crc, packed, size, length, extra = struct.unpack("<4s3H4x3I2H", raw)
        more = self._at(one.header + 30, length + extra)
        wide = self._wide(more[length:])
        start = one.header + 30 + length + extra
        said = self._widened((size, packed), wide)
        same = (crc, said[1], said[0]) == (one.crc, one.packed, one.size)
        later = bool(flags & FOLLOWS) and not (crc or said[0] or said[1])
        alike = mark == LOCAL and (flags, method, more[:length]) == (
            one.flags,
            one.method,
            one.name,
        )
        if not alike or not (same or later):
            raise self._bad(f"the header of its member {name} differs from its list")
        end = start + one.packed
        places = [one.crc_at]
        if flags & FOLLOWS:
            places.append(end + self._described(name, one, end, following))
        elif end != following:
            raise self._bad(f"its member {name} does not end where the next begins")
        if not later:
            places.append(one.header + 14)
        return ZipEntry(name, one.method, one.crc, start, one.packed, one.size, tuple(places))

    def _described(self, name: str, one: _Listed, end: int, following: int) -> int:
        """Return the place of the CRC-32 in the data descriptor, which has one of four forms."""
        raw = self._at(end, max(0, min(following - end, 24)))
        forms = ["<IQQ"] if max(one.packed, one.size) > FULL_4 else ["<IQQ", "<III"]
        for form in forms:
            plain = struct.pack(form, one.crc, one.packed, one.size)
            for mark in (AFTER, b""):
                if raw == mark + plain and following == end + len(raw):
                    return len(mark)
        raise self._bad(f"what follows its member {name} differs from its list")
