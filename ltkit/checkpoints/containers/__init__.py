"""The containers of checkpoints, told apart by their first bytes and read without running code.

A container is a private module here with ``holds(path, start) -> bool``, ``read(path)`` giving the
outermost mapping, the state dicts where it knows them, and what was skipped, and
``rewrite(content, output, changes)``; ``parts(path)`` where it is more than one file.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ltkit.checkpoints.containers import (
    folder,
    onnx_file,
    safetensors_file,
    torch_export_file,
    torch_file,
    torchscript_file,
)
from ltkit.checkpoints.content import Content, Place, check, states_in
from ltkit.checkpoints.opening import digest_of, start_of
from ltkit.untrusted.budget import Budget

CONTAINERS = {
    "folder": folder,
    "safetensors": safetensors_file,
    "onnx": onnx_file,
    "torch-export": torch_export_file,
    "torchscript": torchscript_file,
    "torch": torch_file,
}
"""In the order in which they are tried; torch files have no signature, so they come last."""

Changes = Mapping[tuple[Place, str], Tensor]
"""Places and names of tensors to their new values, of the same shape and type."""


def read(path: Path) -> Content:
    """Read a checkpoint without executing anything in it.

    Raises:
        InputError: when there is no such file, or a package that reads it is absent.
        FormatError: when it is no checkpoint, holds objects that are not plain data, a tensor
            larger than its storage, or weights that are not finite.
    """
    start = b"" if path.is_dir() else start_of(path)
    name = next(name for name, kind in CONTAINERS.items() if kind.holds(path, start))
    kind = CONTAINERS[name]
    top, states, skipped = kind.read(path)
    states = states or dict(states_in(top, Budget(path)))
    check(path, states)
    parts = kind.parts(path) if hasattr(kind, "parts") else [path]
    return Content(path, name, top, states, digest_of(parts), skipped)


def rewrite(content: Content, output: Path, changes: Changes) -> None:
    """Write a checkpoint again in the same container, with some tensors replaced.

    Args:
        content: the file as read; it is not changed.
        output: the new file, or the new folder where the checkpoint is one.
        changes: the new values.

    Raises:
        InputError: when the file cannot be written again without other changes.
    """
    CONTAINERS[content.container].rewrite(content, output, changes)
