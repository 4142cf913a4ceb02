"""Zips written with any of their fields wrong, or with a second list of contents."""

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass, field

from damage import NUMBERS, members


@dataclass
class One:
    """A member, as its own header and the list have it; None where it is as it should be."""

    name: bytes
    content: bytes
    data: bytes | None = None
    local: dict = field(default_factory=dict)
    listed: dict = field(default_factory=dict)
    before: bytes = b""
    described: bytes | None = None
    header: int | None = None
    listings: int = 1


FIELDS = ("version", "flags", "method", "time", "date", "crc", "packed", "size", "name", "extra")


def header(one, changes):
    """The fields that a member's two headers share."""
    data = one.content if one.data is None else one.data
    return {
        "version": 20, "flags": 0x800 | (8 if one.described is not None else 0), "method": 0,
        "time": 0, "date": 33, "crc": zlib.crc32(one.content), "packed": len(data),
        "size": len(one.content), "name": one.name, "extra": b"", "comment": b"", "disk": 0,
        "header": one.header, "attributes": 0, **changes,
    }  # fmt: skip


def packed(of):
    """The fields as they stand in a header."""
    return struct.pack(
        "<5H3I2H", *(of[key] & 0xFFFF for key in FIELDS[:5]),
        *(of[key] & 0xFFFFFFFF for key in FIELDS[5:8]), len(of["name"]), len(of["extra"]),
    )  # fmt: skip


def write(ones, end=None, wide=None, before=b"", gap=b"", after=b"", shift=0):
    """A zip of such members.

    Args:
        ones: its members.
        end: other fields of its end.
        wide: fields of the wide end, where there is one.
        before: what stands before all members.
        gap: what stands before the list.
        after: what follows the end.
        shift: what is taken from all places.
    """
    raw = bytearray(before)
    for one in ones:
        raw += one.before
        one.header = len(raw) - shift if one.header is None else one.header
        own = header(one, one.local)
        data = one.content if one.data is None else one.data
        raw += b"PK\x03\x04" + packed(own) + own["name"] + own["extra"] + data
        raw += one.described or b""
    raw += gap
    start, listing = len(raw) - shift, bytearray()
    for one in ones:
        own = header(one, one.listed)
        listing += (b"PK\x01\x02\x14\0" + packed(own) + struct.pack(
            "<HHHII", len(own["comment"]), own["disk"], 0, own["attributes"],
            own["header"] & 0xFFFFFFFF
        ) + own["name"] + own["extra"] + own["comment"]) * one.listings  # fmt: skip
    count = sum(one.listings for one in ones)
    raw += listing
    said = {"disk": 0, "of": 0, "here": count, "count": count, "length": len(listing),
            "start": start, "comment": b"", **(end or {})}  # fmt: skip
    if wide is not None:
        at = len(raw) - shift
        full = {"here": count, "count": count, "length": len(listing), "start": start, "at": at,
                "size": 44, **wide}  # fmt: skip
        raw += struct.pack("<4sQHHII4Q", b"PK\x06\x06", full["size"], 45, 45, 0, 0, *(
            full[key] % (1 << 64) for key in ("here", "count", "length", "start")))  # fmt: skip
        raw += struct.pack("<4sIQI", b"PK\x06\x07", 0, full["at"] % (1 << 64), 1)
    raw += b"PK\x05\x06" + struct.pack(
        "<4H2IH", *(said[key] & 0xFFFF for key in ("disk", "of", "here", "count")),
        said["length"] & 0xFFFFFFFF, said["start"] & 0xFFFFFFFF, len(said["comment"]),
    ) + said["comment"]  # fmt: skip
    return bytes(raw + after)


def deflated(content):
    """Bytes packed as zips pack them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def flipped(content, rng):
    """Bytes with another bit."""
    new = bytearray(content)
    new[rng.randrange(len(new))] ^= 1 << rng.randrange(8)
    return bytes(new)


def mutate(raw, rng):
    """Write a zip again with something wrong; return it, and whether it has to be refused."""
    ones = [One(name.encode(), content) for name, content in members(raw)]
    filled = [one for one in ones if one.content]
    one, other = rng.choice(filled), rng.choice(filled)
    number = rng.choice(NUMBERS)
    settings, must = {}, False
    kind = rng.randrange(24)
    if kind == 0:  # other values, and the checksum of the old ones
        one.data, must = flipped(one.content, rng), True
    elif kind == 1:
        wrong = {"crc": rng.choice((0, zlib.crc32(one.content) ^ 1 << rng.randrange(32)))}
        one.listed, must = wrong, True
        one.local = wrong if rng.random() < 0.5 else {}
    elif kind == 2:
        one.local = {"crc": zlib.crc32(one.content) ^ 1}
        must = True
    elif kind == 3:
        key = rng.choice(("version", "flags", "method", "packed", "size"))
        rng.choice((one.local, one.listed))[key] = number
        one.listed["attributes"] = rng.choice((0, 0, 0x10, 0x41ED0010))
    elif kind == 4:
        one.listed["header"] = rng.choice((0, number))
        must = one is not ones[0]
    elif kind == 5:
        one.listings, must = 2, True
    elif kind == 6:  # two of a name, with other content; the case may differ
        name = rng.choice((one.name, one.name.upper(), one.name.swapcase()))
        at = rng.randrange(len(ones) + 1)
        ones.insert(at, One(name, rng.choice((other.content, b"x" * len(one.content)))))
        must = True
    elif kind == 7:
        settings["end"] = {"comment": rng.choice((b"x", b"PK\x05\x06" + b"\0" * 18, raw[-2000:]))}
        must = True
    elif kind == 8:
        settings["after"], must = rng.choice((b"\0", b"\n", raw[-22:], raw)), True
    elif kind == 9:
        settings["before"] = rng.choice((b"x", b"PK\x03\x04", b"#!/bin/sh\n", raw))
        settings["shift"] = rng.choice((0, len(settings["before"])))
        must = True
    elif kind == 10:
        one.before, must = rng.choice((b"\0", b"PK", raw[:300])), True
    elif kind == 11:
        settings["gap"], must = rng.choice((b"\0", raw[-500:], b"PK\x01\x02" * 20)), True
    elif kind == 12:  # the wide end has another list
        key = rng.choice(("here", "count", "length", "start", "at", "size"))
        settings["wide"], must = {key: number}, number not in (44,)
    elif kind == 13:
        settings["wide"] = {}
        keep = rng.choice(({}, {"start": 0xFFFFFFFF}, {"count": 0xFFFF, "here": 0xFFFF}))
        settings["end"] = keep
    elif kind == 14:
        key = rng.choice(("disk", "of", "here", "count", "length", "start"))
        settings["end"] = {key: number}
    elif kind == 15:
        one.data = deflated(one.content)
        one.local = one.listed = {"method": 8}
    elif kind == 16:  # more or less than is said
        one.data = deflated(one.content + rng.choice((b"x", b"\0" * (1 << 20))))
        one.local = one.listed = {"method": 8}
        must = True
    elif kind == 17:
        one.data = deflated(one.content) + rng.choice((b"x", b"\0" * 100, deflated(b"y")))
        one.local = one.listed = {"method": 8}
        must = True
    elif kind == 18:
        one.data, method = rng.choice((
            (bz2.compress(one.content), 12), (lzma.compress(one.content), 14), (one.content, 99),
            (b"\x09\x04\x05\0\x5d\xff\xff\xff\xff" + one.content, 14), (one.content, 1),
        ))  # fmt: skip
        one.local = one.listed = {"method": method}
        must = True
    elif kind == 19:
        size = len(deflated(b"\0" * (1 << 20)))
        one.data, one.content = deflated(b"\0" * (64 << 20))[: rng.choice((size, 1 << 30))], b"x"
        said = {"method": 8, "size": rng.choice((64 << 20, 1 << 31)), "crc": number}
        one.local = one.listed = said
        must = True
    elif kind == 20:
        crc, size = zlib.crc32(one.content), len(one.content)
        form = rng.choice(("<III", "<IQQ"))
        one.described = rng.choice((b"PK\x07\x08", b"")) + struct.pack(form, crc, size, size)
        if rng.random() < 0.5:
            one.local = {"crc": 0, "packed": 0, "size": 0}
        if rng.random() < 0.3:
            one.described, must = flipped(one.described, rng), True
    elif kind == 21:  # what is elsewhere, in eight bytes
        size = len(one.content)
        wide = struct.pack("<HHQQ", 1, 16, *rng.choice(((size, size), (size, number), (0, 0))))
        extra = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": wide * rng.choice((1, 1, 2))}
        one.listed, one.local = extra, rng.choice((extra, {}))
    elif kind == 22:
        one.name = rng.choice((b"", b"\0", one.name + b"\0x", b"\xff\xfe", b"../x", b"C:x",
                               b"other/" + one.name, one.name + b"/", b"x" * 5000))  # fmt: skip
    else:  # one reader believes the list, the other the header
        one.local, must = {"name": other.name if other is not one else b"x/data.pkl"}, True
    return write(ones, **settings), must


def flip_payload(raw, rng):
    """A sound zip with another bit in what a member holds, as it lies there.

    A few bits of packed bytes can change, and they unpack to the same: those stay.
    """
    new = raw
    while members(new) == members(raw):
        new = _flip(raw, rng)
    return new


def _flip(raw, rng):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        one = rng.choice([one for one in archive.infolist() if one.compress_size])
    name, extra = struct.unpack_from("<HH", raw, one.header_offset + 26)
    place = one.header_offset + 30 + name + extra + rng.randrange(one.compress_size)
    return raw[:place] + bytes([raw[place] ^ 1 << rng.randrange(8)]) + raw[place + 1 :]
