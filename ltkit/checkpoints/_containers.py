"""The containers of checkpoints, told apart by their first bytes and read without running code.

A container is a private module here with ``holds(path, start) -> bool``, ``read(path)`` giving the
outermost mapping and what was skipped, and ``rewrite(content, output, changes)``.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ltkit.checkpoints import _safetensors_file, _torch_file
from ltkit.checkpoints._content import Content, Place, check, states_in
from ltkit.errors import FormatError, InputError

CONTAINERS = {"safetensors": _safetensors_file, "torch": _torch_file}
"""In the order in which they are asked; torch files have no mark of their own, so they are last."""

Changes = Mapping[tuple[Place, str], Tensor]
"""Places and names of tensors to their new values, of the same shape and type."""


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
    name = next(name for name, kind in CONTAINERS.items() if kind.holds(path, start))
    top, states, skipped = CONTAINERS[name].read(path)
    states = states or dict(states_in(top))
    check(path, states)
    return Content(path, name, top, states, digest, skipped)


def rewrite(content: Content, output: Path, changes: Changes) -> None:
    """Write a checkpoint again with some tensors replaced, in the same container.

    Args:
        content: of the file as read; it is left as it is.
        output: the new file.
        changes: what is new.

    Raises:
        InputError: when the file holds objects that were skipped in reading.
    """
    CONTAINERS[content.container].rewrite(content, output, changes)
