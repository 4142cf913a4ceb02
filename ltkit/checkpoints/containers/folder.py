"""Folders as Hugging Face has them, and safetensors in several files with an index.

``config.json`` lies beside ``model.safetensors``, beside ``model.safetensors.index.json`` and the
shards that it names, or beside the same of ``pytorch_model.bin``. The index may be given instead of
its folder. A corrected checkpoint is a new folder: the shards with changed tensors are written
anew, other files are copied, and weights that are not read, in other formats, are left behind,
because they would still have the old head; so are sub-folders and hidden files. A folder may come
from others: a link in it that leads out is not followed, see `budget.stays_in`.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from ltkit.checkpoints.containers import safetensors_file, torch_file
from ltkit.checkpoints.content import Content, Place, State, states_in
from ltkit.checkpoints.numbers import shown
from ltkit.checkpoints.opening import reason, start_of
from ltkit.errors import FormatError, InputError
from ltkit.untrusted.budget import Budget, read_bytes, stays_in

INDEX = ".index.json"
SINGLE = ("model.safetensors", "pytorch_model.bin")
WEIGHTS = tuple(found for name in SINGLE for found in (name, name + INDEX))
"""File names of weights, in order of preference."""

ADAPTER = "adapter_model.safetensors"
"""The weights of a folder that holds a LoRA adapter alone, beside ``adapter_config.json``."""

BESIDE = ("config.json", "preprocessor_config.json", "adapter_config.json")
"""What belongs to the checkpoint beside its weights."""

OTHER_WEIGHTS = {
    ".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".pt2", ".pth",
    ".safetensors", ".tflite",
}  # fmt: skip

LONGEST = 255
"""Most bytes of a file name."""

MAX_JSON_BYTES = 16 << 20


def holds(path: Path, start: bytes) -> bool:
    """Return whether the path is a folder or an index."""
    return path.is_dir() or _is_index(path)


def parts(path: Path) -> list[Path]:
    """Return the files that make up the checkpoint."""
    weights = _weights(path)
    said = [file for name in BESIDE if (file := beside(weights.parent, name))]
    return [*said, *{weights, *(weights.parent / name for name in _shards(weights))}]


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the configuration (empty if there is none) and the tensors of all shards.

    Raises:
        InputError: when the folder has no weights.
        FormatError: when a file is damaged or missing, or lacks tensors that the index lists.
    """
    weights = _weights(path)
    name = "adapter_config.json" if weights.name == ADAPTER else "config.json"
    config = beside(weights.parent, name)
    tensors: dict[str, Tensor] = {}
    skipped: set[str] = set()
    for name, expected in _shards(weights).items():
        shard = _shard(weights.parent / name)
        if expected is not None and shard.tensors.keys() != expected:
            missing = sorted(expected - shard.tensors.keys())
            extra = sorted(shard.tensors.keys() - expected)
            raise FormatError(
                f"{shard.path}: {', '.join((missing or extra)[:3])[:120]}: "
                f"{'missing, but' if missing else 'there, but not'} in {weights.name}; fetch the "
                "folder again"
            )
        tensors |= shard.tensors
        skipped |= set(shard.skipped)
    top = json_of(config) if config else {}
    return top, {(): tensors}, tuple(sorted(skipped))


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the folder again; only shards with changed tensors differ.

    Raises:
        InputError: when a shard of torch's holds objects that were skipped in reading, or a file
            to be copied lies outside of the folder.
    """
    weights = _weights(content.path)
    shards = _shards(weights)
    output.unlink(missing_ok=True)
    output.mkdir()
    for file in sorted(weights.parent.iterdir()):
        other = file.suffix in OTHER_WEIGHTS or file.name.endswith(INDEX)
        left = other or file.name.startswith(".") or not file.is_file()
        if file.name not in shards and (file == weights or not left):
            shutil.copyfile(beside(file.parent, file.name) or file, output / file.name)
    for name in shards:
        shard = _shard(weights.parent / name)
        own = {((), key): value for (_, key), value in changes.items() if key in shard.tensors}
        if own:
            _kind(shard.path).rewrite(shard, output / name, own)
        else:
            shutil.copyfile(shard.path, output / name)


def beside(folder: Path, name: str) -> Path | None:
    """Return a file in the folder, or None if there is none.

    Raises:
        InputError: when it is no file, or a link leads out of the folder.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    if not stays_in(folder, path):
        raise InputError(
            f"{path}: refused: a link leads out of the folder; put the file itself there, or take "
            "the link away"
        )
    if not path.is_file():
        raise InputError(
            f"{path}: is a folder, a pipe or a link to nothing, expected a file; fetch it again"
        )
    return path


def _weights(path: Path) -> Path:
    """Return the file with the weights, or their index."""
    if not path.is_dir():
        return path
    indices = (p.name for p in sorted(path.glob(f"*{INDEX}")))
    for name in (*WEIGHTS, *indices, ADAPTER):
        found = beside(path, name)
        if found and (name in (*WEIGHTS, ADAPTER) or _is_index(found)):
            return found
    raise InputError(
        f"{path}: is a folder without {' or '.join(SINGLE)}, whole or in shards; expected a "
        "checkpoint file or a Hugging Face folder"
    )


def _shards(weights: Path) -> dict[str, set[str] | None]:
    """Return the weight files, each with its tensor names if an index lists them.

    Raises:
        FormatError: when the index is no index, or names a file that is absent or elsewhere.
    """
    if not (weights.name.endswith(INDEX) or _is_index(weights)):
        return {weights.name: None}
    listed, found = json_of(weights).get("weight_map"), dict[str, set[str]]()
    if not isinstance(listed, dict) or not listed:
        raise FormatError(f"{weights}: weight_map: absent; fetch the index again")
    for name, shard in listed.items():
        if not _is_name(shard):
            raise FormatError(
                f"{weights}: {name[:80]}: found {shown(shard)}, expected a file's name in the same "
                "folder; fetch the index again"
            )
        found.setdefault(shard, set()).add(name)
    absent = [shard for shard in sorted(found) if beside(weights.parent, shard) is None]
    if absent:
        raise FormatError(
            f"{weights.parent / absent[0]}: missing, {len(absent)} of {len(found)} shards are not "
            f"there; fetch what {weights.name} lists"
        )
    return dict(sorted(found.items()))


def _is_name(shard: object) -> bool:
    """Return whether an index entry can be the name of a file beside the index."""
    if not isinstance(shard, str) or not shard.isprintable() or len(shard.encode()) > LONGEST:
        return False
    return shard == Path(shard).name and "\\" not in shard and shard not in ("", "..")


def _shard(path: Path) -> Content:
    start_of(path)
    kind = _kind(path)
    top, states, skipped = kind.read(path)
    found = states or dict(states_in(top, Budget(path)))
    return Content(path, kind.__name__, top, {(): found.get((), {})}, "", skipped)


def _kind(path: Path) -> ModuleType:
    safe = safetensors_file.holds(path, start_of(path))
    return safetensors_file if safe else torch_file


def _is_index(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(512).lstrip()[:1] != b"{":
            return False
    try:
        return isinstance(json_of(path).get("weight_map"), dict)
    except FormatError:
        return False


def json_of(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file in the folder.

    Raises:
        FormatError: when it is none, too large, or no object.
    """
    start_of(path)
    try:
        found = json.loads(read_bytes(path, "a JSON file", MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: is not JSON ({reason(error)}); fetch it again") from error
    if not isinstance(found, dict):
        raise FormatError(
            f"{path}: found a {type(found).__name__}, expected a JSON object; fetch it again"
        )
    return found
