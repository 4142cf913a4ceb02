"""Arrays as torch and safetensors store them: read without running code (ltkit's own readers)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltkit.checkpoints.containers import safetensors_file, torch_file
from ltkit.checkpoints.content import DEPTH, check
from ltkit.checkpoints.opening import start_of
from ltkit.errors import FormatError
from ltkit.sources.arrays.stored import Header, Held, Stored, held_texts
from ltkit.untrusted.budget import Budget

NARROW = {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
"""Types that NumPy lacks; float32 holds their values."""


class _Safetensor(Stored):
    """A tensor of a safetensors file, read where it lies."""

    def __init__(
        self, path: Path, key: str, budget: Budget, dtype: torch.dtype, shape: list[int], first: int
    ) -> None:
        super().__init__(path, key, budget)
        self._stored, self._shape, self._first = dtype, tuple(shape), first
        held = torch.float32 if dtype in NARROW else dtype
        self._dtype = torch.empty(0, dtype=held).numpy().dtype

    @property
    def header(self) -> Header:
        """Shape and type."""
        return self._shape, self._dtype

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block.

        Raises:
            FormatError: when the file has become shorter.
        """
        row = math.prod(self._shape[1:])
        size = row * self._stored.itemsize
        with self.path.open("rb") as file:
            for rows in self.slices():
                count = rows.stop - rows.start
                file.seek(self._first + rows.start * size)
                raw = bytearray(file.read(count * size))
                if len(raw) < count * size:
                    raise FormatError(f"{self.where}: is truncated; write the file again")
                values = torch.frombuffer(raw, dtype=self._stored) if raw else torch.empty(0)
                yield _as_array(values).reshape(count, *self._shape[1:])


def _as_array(tensor: Tensor) -> NDArray[Any]:
    return (tensor.float() if tensor.dtype in NARROW else tensor).numpy()


def of_safetensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged.
    """
    budget = Budget(path)
    layout = safetensors_file.layout(path)
    return {name: _Safetensor(path, name, budget, *entry) for name, entry in layout.items()}


def of_torch(path: Path) -> dict[str, Stored]:
    """Return the tensors of what ``torch.save`` wrote, by their keys with slashes between.

    A tensor alone has an empty name; a pair or triple of them has 0, 1 and 2.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, holds code, or values that are not finite.
    """
    start_of(path)
    top, skipped = torch_file.read_object(path)
    budget = Budget(path)
    found = dict(_walked(path, "", top, budget, DEPTH))
    if not found:
        held = f"; {', '.join(skipped)[:80]} are not read, save tensors" if skipped else ""
        raise FormatError(f"{path}: found no tensor{held or '; save a dictionary of tensors'}")
    return found


def _walked(
    path: Path, key: str, value: Any, budget: Budget, depth: int
) -> Iterator[tuple[str, Stored]]:
    """Yield what nested mappings and lists hold."""
    budget.step()
    if isinstance(value, Tensor):
        check(path, {(): {key: value}})
        yield key, Held(path, key, budget, _as_array(value.detach()))
    elif isinstance(value, Mapping) and depth:
        for name, part in value.items():
            yield from _walked(path, f"{key}/{name}".lstrip("/"), part, budget, depth - 1)
    elif isinstance(value, list | tuple) and value:
        budget.step(len(value))
        if all(isinstance(part, str) for part in value):
            yield key, held_texts(path, key, budget, list(value))
        elif all(type(part) is int and abs(part) < 1 << 62 for part in value):
            yield key, Held(path, key, budget, np.array(value, np.int64))
        elif depth and len(value) <= DEPTH:
            for place, part in enumerate(value):
                yield from _walked(path, f"{key}/{place}".lstrip("/"), part, budget, depth - 1)
