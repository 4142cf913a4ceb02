"""Damage to files: to bytes, to pickles, to JSON and to zips; the same seed does the same."""

import copy
import io
import json
import pickletools
import re
import sys
import warnings
import zipfile
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
import payloads

NUMBERS = (0, 1, 2, 127, 255, 256, 32767, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
           (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
EDGE = 4000
"""Most damage is done in so many bytes at the ends, where what is no weight lies."""

BOMB = 256 << 20
"""Bytes that a member of a zip unpacks to."""


# To bytes


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


# To pickles


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


# To JSON, and to objects like it


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
        holder[new if new.__hash__ and not isinstance(new, torch.Tensor) else ascii(type(key))] = (
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


# To zips


def mutate_safetensors(raw, rng):
    """Exchange values of the header, which says how long it is."""
    size = int.from_bytes(raw[:8], "little")
    header = mutate_json(raw[8 : 8 + size], rng)
    said = len(header) if rng.random() < 0.8 else rng.choice(NUMBERS) % (1 << 64)
    return said.to_bytes(8, "little") + header + raw[8 + size :]


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
