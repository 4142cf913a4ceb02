"""The containers of checkpoints, torch files and safetensors, read without running code."""

import copy
import hashlib
import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints._inert import Inert, Pickle
from ltkit.errors import FormatError, InputError
from ltkit.files.atomic import uninterrupted

MAX_TENSOR_BYTES = 64 << 30
"""A stride-0 view of a small file can claim any size; larger tensors are refused."""

DAMAGED = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises at a file that is damaged, or is none of its own."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a checkpoint file holds.

    top: the outermost mapping (torch), or the metadata (safetensors).
    tensors: names to tensors of the weights: the file's ``state_dict``, else its own tensors.
    digest: SHA-256 of the file.
    skipped: objects of classes that are not built; stand-ins are in their place.
    """

    path: Path
    top: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    digest: str
    skipped: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Return the first keys, for messages."""
        keys = [str(key) for key in self.top][:5] or list(self.tensors)[:5]
        return keys or ["nothing"]


def read(path: Path) -> Content:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is no checkpoint, holds objects that are not plain data, a tensor
            larger than its storage, or weights that are not finite.
    """
    if not path.exists():
        raise InputError(f"{path}: not found; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a checkpoint file")
    if not path.is_file():
        raise InputError(f"{path}: is a device or pipe, expected a checkpoint file")
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not start:
        raise FormatError(f"{path}: is empty; fetch the checkpoint again")
    if start.startswith(b"version https://git-lfs"):
        raise FormatError(f"{path}: is a Git-LFS pointer; fetch the file itself with git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise FormatError(f"{path}: is a web page; download the checkpoint itself")
    top, tensors, skipped = _safetensors(path) if _is_safetensors(start) else _torch(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise FormatError(f"{path}: {name}: holds NaN or infinity; the checkpoint is damaged")
    return Content(path, top, tensors, digest, skipped)


def rewrite(content: Content, output: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint again with some tensors replaced, in the same container.

    Args:
        content: of the file as read; it is left as it is.
        output: the new file.
        tensors: names in ``content.tensors`` to their new values, of the same shape and type.

    Raises:
        InputError: when the file holds objects that were skipped in reading.
    """
    if content.skipped:
        raise InputError(
            f"{content.path}: holds {', '.join(content.skipped[:3])}, which cannot be written "
            "again; save it without them, or use --to npz"
        )
    with content.path.open("rb") as file:
        start = file.read(16)
    if _is_safetensors(start):
        from safetensors import safe_open
        from safetensors.torch import save_file

        with safe_open(content.path, framework="pt") as source:
            metadata = source.metadata()
        save_file({**content.tensors, **tensors}, output, metadata)
        return
    top = dict(content.top)
    state = copy.copy(top.get("state_dict", top))  # with the attributes a state dict may have
    state.update(tensors)
    if "state_dict" in top:
        top["state_dict"] = state
    with uninterrupted(), output.open("wb") as target:
        torch.save(top if "state_dict" in top else state, target)


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27


def _safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except SafetensorError as error:
        raise FormatError(f"{path}: not sound safetensors ({error}); fetch it again") from error
    try:
        return {key: json.loads(value) for key, value in metadata.items()}, tensors, ()
    except json.JSONDecodeError:
        return dict(metadata), tensors, ()


def _torch(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...]]:
    inert = Pickle()
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickle protocols
            try:
                top = torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                top = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)
        if isinstance(top, Inert):
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {top.origin} ")
    except pickle.UnpicklingError as error:
        detail = _unsafe_global(str(error))
        raise FormatError(
            f"{path}: refused: {detail}; save the weights alone, with "
            "torch.save(model.state_dict(), path)"
        ) from error
    except DAMAGED as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{path}: not a checkpoint that torch reads ({detail}); it is truncated or another "
            "kind of file"
        ) from error
    if not isinstance(top, Mapping):
        raise FormatError(
            f"{path}: found a {type(top).__name__}, expected a dictionary; save the state_dict"
        )
    state = top.get("state_dict", top)
    state = state if isinstance(state, Mapping) else {}
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise FormatError(
                f"{path}: {name}: found a {tensor.layout} tensor on {tensor.device}, expected "
                "plain values; save dense, unquantised weights"
            )
        claimed = tensor.numel() * tensor.element_size()
        if claimed > MAX_TENSOR_BYTES or claimed > tensor.untyped_storage().nbytes():
            raise FormatError(f"{path}: {name}: claims {claimed} bytes that are not in the file")
    return dict(top), tensors, tuple(sorted(inert.skipped))


def _unsafe_global(message: str) -> str:
    """Return what torch's loader refused, in a few words."""
    if found := re.search(r"nsupported (?:global: )?GLOBAL (\S{1,120})", message):
        return f"it holds {found[1]}, not plain data"
    if found := re.search(r"Unsupported (?:class|operand).{0,100}", message):
        return found[0]
    return "it holds objects that are not plain data, or is no torch file"
