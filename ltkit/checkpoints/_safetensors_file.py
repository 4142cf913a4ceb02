"""Safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ltkit.checkpoints._content import Content, Place, State
from ltkit.checkpoints._opening import reason
from ltkit.errors import FormatError


def holds(path: Path, start: bytes) -> bool:
    """Say whether the first bytes are a header's length and its opening brace."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the metadata, its values decoded where all are JSON, and the tensors.

    Raises:
        FormatError: when the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except SafetensorError as error:
        raise FormatError(
            f"{path}: not sound safetensors ({reason(error)}); fetch it again"
        ) from error
    try:
        return {key: json.loads(value) for key, value in metadata.items()}, {(): tensors}, ()
    except (ValueError, RecursionError):  # no JSON, or none that can be read
        return dict(metadata), {(): tensors}, ()


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again, its metadata as they were."""
    from safetensors import safe_open
    from safetensors.torch import save  # its own writer has no OSError

    with safe_open(content.path, framework="pt") as source:
        metadata = source.metadata()
    new = {name: tensor for (_, name), tensor in changes.items()}
    output.write_bytes(save({**content.tensors, **new}, metadata))
