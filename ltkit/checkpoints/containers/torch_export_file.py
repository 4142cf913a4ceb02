"""Zips of ``torch.export.save``: tensors are read without running the program.

``data/weights/model_weights_config.json`` says which member holds each parameter as plain bytes.
torch's own reader does more than that: it unpickles sample inputs and whatever a flag in the file
calls pickled, and evaluates expressions of shapes as Python text. So a ``.pt2`` file is code, and
is run only when the user says that it may be.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints.containers import torch_zip
from ltkit.checkpoints.containers.members import Member, overwrite_named, tensors
from ltkit.checkpoints.containers.torch_file import DAMAGED
from ltkit.checkpoints.content import Content, Place, State
from ltkit.checkpoints.families._program import PLACE
from ltkit.checkpoints.opening import reason, zipped
from ltkit.errors import FormatError
from ltkit.untrusted.zips import Zip

WEIGHTS = "data/weights/"
CONFIG = f"{WEIGHTS}model_weights_config.json"
TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""The format's numbers for types."""


def holds(path: Path, start: bytes) -> bool:
    """Return whether it is a torch.export zip, in the current layout or that of torch 2.7."""
    marks = ("/archive_format", "serialized_exported_program.json")
    return zipped(path, start, lambda archive: any(n.endswith(marks) for n in archive.entries))


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the parameters and buffers by name.

    Raises:
        FormatError: when the file is damaged, or from a torch before 2.8.
    """
    try:
        with Zip(path) as archive:
            if f"{archive.root}{CONFIG}" not in archive.entries:
                raise FormatError(
                    f"{path}: {CONFIG}: absent; load it with the torch that wrote it, and save it "
                    "again with torch 2.8 or newer"
                )
            found = tensors(archive, _placed(archive))
            for name in archive.entries:
                if name.endswith(".pt"):  # what torch would load of it has an end, too
                    torch_zip.load(path, archive.budget, archive.read(name))
            archive.verify()
            return {}, {PLACE: found}, ()
    except (*DAMAGED, RecursionError, pickle.UnpicklingError) as error:
        raise FormatError(
            f"{path}: not a sound torch.export file ({reason(error)}); fetch it again"
        ) from error


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again, byte for byte except for the new values.

    Raises:
        InputError: when another parameter shares a value.
    """
    with Zip(content.path) as archive:
        placed = _placed(archive)
    overwrite_named(content.path, output, placed, changes)


def _placed(archive: Zip) -> dict[str, Member]:
    """Return the locations of the tensors stored as plain bytes."""
    folder = f"{archive.root}{WEIGHTS}"
    found = {}
    for name, entry in json.loads(archive.read(f"{archive.root}{CONFIG}"))["config"].items():
        if entry["use_pickle"]:
            continue
        meta = entry["tensor_meta"]
        shape, strides = (tuple(int(n["as_int"]) for n in meta[k]) for k in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        member = folder + str(entry["path_name"])
        found[str(name)] = Member(member, TYPES[meta["dtype"]], offset, shape, strides)
    return found
