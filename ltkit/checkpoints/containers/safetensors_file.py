"""Safetensors files, read without mapping: a mapped file cut short would end the process.

Eight bytes say how long the header is; the header is JSON, and says of each tensor its type, its
shape, and from where to where its bytes lie, one tensor after the other, up to the file's end.
"""

import io
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints.containers.pickle_reader import MOST_DIMENSIONS, room
from ltkit.checkpoints.content import Content, Place, State
from ltkit.checkpoints.opening import reason
from ltkit.errors import FormatError
from ltkit.untrusted.budget import Budget, opened

LONGEST_HEADER = 100_000_000
"""Most bytes of a header; the format's own limit."""

HEADER_FOLD = 16
"""Memory for reading a header, as a multiple of its size."""

TYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
    "U16": torch.uint16, "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64,
    "U64": torch.uint64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip
"""The format's type names; other types have no plain numbers."""


def holds(path: Path, start: bytes) -> bool:
    """Return whether the first bytes are a header's length and its opening brace."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the metadata (decoded if all values are JSON) and the tensors.

    Raises:
        FormatError: when the file is damaged.
    """
    with opened(path, "a safetensors file") as file:
        metadata, listed, end = _header(path, file)
        tensors = {}
        for name, (dtype, shape, first, last) in _laid_out(path, listed, end).items():
            values, memory = room(last - first)
            if file.readinto(memory) != last - first:
                raise _bad(path, f"{name[:80]}: its values are cut off")
            tensors[name] = values.view(dtype).reshape(shape)
    tensors = {name: tensors[name] for name in sorted(tensors)}
    try:
        return {key: json.loads(value) for key, value in metadata.items()}, {(): tensors}, ()
    except (ValueError, RecursionError):  # no JSON, or none that can be read
        return dict(metadata), {(): tensors}, ()


def layout(path: Path) -> dict[str, tuple[torch.dtype, list[int], int]]:
    """Return type, shape and first byte in the file of every tensor.

    Raises:
        FormatError: when the file is damaged.
    """
    with opened(path, "a safetensors file") as file:
        _, listed, end = _header(path, file)
        begin = os.fstat(file.fileno()).st_size - end
    return {
        name: (dtype, shape, begin + first)
        for name, (dtype, shape, first, _) in _laid_out(path, listed, end).items()
    }


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again with unchanged metadata."""
    from safetensors.torch import save  # its own writer has no OSError

    with opened(content.path, "a safetensors file") as file:
        metadata, _, _ = _header(content.path, file)
    new = {name: tensor for (_, name), tensor in changes.items()}
    output.write_bytes(save({**content.tensors, **new}, metadata or None))


def _header(path: Path, file: io.BufferedReader) -> tuple[dict[str, str], dict[str, Any], int]:
    """Return the metadata, the header's tensor entries, and how many bytes follow the header."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(LONGEST_HEADER, size - 8):
        raise _bad(path, f"a header of {length} bytes in a file of {size}")
    Budget(path, size).take(HEADER_FOLD * length, "header")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not JSON: {reason(error)}") from error
    metadata = header.pop("__metadata__", None) or {} if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, "its metadata is no mapping of texts")
    return metadata, header, size - 8 - length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping after checking that keys are unique and all texts."""
    found = dict(pairs)
    "".join(text for pair in pairs for text in pair if isinstance(text, str)).encode()
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _first(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """Return the start and end of a tensor's bytes."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or [type(n) for n in offsets] != [int, int]:
        raise _bad(path, f"{name[:80]}: data_offsets are no two numbers")
    return offsets[0], offsets[1]


def _laid_out(
    path: Path, listed: Mapping[str, Any], end: int
) -> dict[str, tuple[torch.dtype, list[int], int, int]]:
    """Return type, shape, first and last byte of the tensors, which lie one after the other."""
    found, at = dict[str, tuple[torch.dtype, list[int], int, int]](), 0
    for name, entry in sorted(listed.items(), key=lambda item: _first(path, *item)):
        found[name] = _entry(path, name, entry, at, end)
        at = found[name][3]
    if at != end:
        raise _bad(path, f"{end - at} bytes are of no tensor")
    return found


def _entry(
    path: Path, name: str, entry: Any, at: int, end: int
) -> tuple[torch.dtype, list[int], int, int]:
    """Return what the header says of the tensor that begins here."""
    first, last = _first(path, name, entry)
    shape, kind = entry.get("shape"), entry.get("dtype")
    numbers = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not numbers or len(shape) > MOST_DIMENSIONS or prod(n or 1 for n in shape) >= 1 << 60:
        raise _bad(path, f"{name[:80]}: its shape is no list of numbers")
    dtype = TYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise FormatError(
            f"{path}: {name[:80]}: found values of type {str(kind)[:20]}, expected "
            f"{', '.join(TYPES)}; save dense, unquantised weights"
        )
    if first != at or not first <= last <= end or prod(shape) * dtype.itemsize != last - first:
        raise _bad(path, f"{name[:80]}: bytes {first} to {last} are not its own {kind} {shape[:9]}")
    return dtype, shape, first, last


def _bad(path: Path, found: str) -> FormatError:
    return FormatError(f"{path}: not sound safetensors ({found[:160]}); fetch it again")
