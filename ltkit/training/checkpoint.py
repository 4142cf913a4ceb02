"""The checkpoints that `train` writes; they load with ``weights_only=True``.

Keys: ``format`` ("ltkit-checkpoint"), ``format_version``, ``arch``, ``num_classes``, ``cosine``,
``scale``, ``state_dict`` (``backbone.*``, ``head.*``), ``mean``, ``std``, ``classes``,
``train_ids``, ``epoch`` (finished ones), ``recipe``, ``versions``; where the method leaves some,
``attributes``: tensors beside the network, as the ``meta.*`` of a whole model, the ``router.*`` or
``weighted.*`` of experts, the ``causal.*`` of a de-confounded head, or the ``prototypes`` of local
vectors. They name the network and the data, so that nobody has to.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ltkit.architectures.network import Network
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.files import scratch
from ltkit.files.atomic import replacing, uninterrupted
from ltkit.records import Dataset
from ltkit.untrusted.budget import opened
from ltkit.version import __version__

FORMAT = "ltkit-checkpoint"
FORMAT_VERSION = 1


def save(
    path: Path,
    recipe: Mapping[str, Any],
    epoch: int,
    network: Network,
    dataset: Dataset,
    attributes: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a finished checkpoint, or one of the best epoch so far.

    Args:
        path: the output; a file there is replaced.
        recipe: settings, method, arch and dataset record of the run.
        epoch: this network's finished epochs.
        network: the trained network.
        dataset: what it was trained on.
        attributes: what the method leaves beside the network.
    """
    classes = dataset.classes
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "arch": recipe["arch"],
        "num_classes": len(classes),
        "cosine": recipe["cosine"],
        "scale": recipe["scale"],
        "state_dict": _on_cpu(network.state_dict()),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "classes": {"train_count": classes.train_count.tolist(), "names": classes.names},
        "train_ids": dataset.split("train").ids.tolist(),
        "epoch": epoch,
        "recipe": dict(recipe),
        "versions": {"ltkit": __version__, "torch": str(torch.__version__)},
        **({"attributes": _on_cpu(attributes)} if attributes else {}),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(_saved(content))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def save_partial(
    path: Path,
    recipe: Mapping[str, Any],
    epoch: int,
    network: Network,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Write everything that the next epoch depends on."""
    content = {
        "recipe": dict(recipe),
        "epoch": epoch,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }
    raw = _saved(content)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(raw)
        file.write(hashlib.sha256(raw).digest())  # torch would take any weights


def _saved(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that torch saves; its writer would crash on a full disk."""
    file = io.BytesIO()  # given a path, it would keep the temporary name inside
    with uninterrupted():
        torch.save(content, file)
    return file.getvalue()


def load_partial(
    path: Path,
    recipe: Mapping[str, Any],
    network: Network,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Restore the state that `save_partial` wrote; return the finished epochs.

    Raises:
        InputError: when there is no such file, or it belongs to a run with other settings.
        FormatError: when it cannot be read.
    """
    whole = scratch.read(path)
    if whole is None:
        raise InputError(f"{path}: not found, nothing to resume; start again without resuming")
    raw = _checked(path, whole)
    try:
        content = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
        _check_same(path, content["recipe"], recipe)
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        generator.set_state(content["generator"])
    except (
        AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise FormatError(
            f"{path}: not a checkpoint of an interrupted run ({type(error).__name__}); "
            "start again without resuming"
        ) from error
    return int(content["epoch"])


class Started(NamedTuple):
    """What a run's record says of the checkpoint that it started from.

    arch: of both networks.
    record: as `starts.Start.record`.
    """

    arch: str
    record: dict[str, str | bool]


def started(path: Path) -> Started | None:
    """Return what a run started from; None where it was no checkpoint.

    Args:
        path: the state of an interrupted run, or a finished checkpoint. Of what cannot be read,
            None is returned: who resumes from it says why.
    """
    try:
        found = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["recipe"]
        init = found["init"]
        return Started(found["arch"], {"digest": init["digest"], "head": init["head"]})
    except (
        EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
        pickle.UnpicklingError,
    ):  # fmt: skip
        return None


def is_partial(path: Path) -> bool:
    """Return whether there is a file written by `save_partial`.

    Raises:
        InputError: when something else is there.
        FormatError: when it is damaged, or was not written by it.
    """
    whole = scratch.read(path)
    return whole is not None and bool(_checked(path, whole))


def _checked(path: Path, whole: bytes) -> bytes:
    """Return what precedes the digest at the end, which no foreign file has."""
    raw, digest = whole[:-32], whole[-32:]
    if hashlib.sha256(raw).digest() != digest:
        raise FormatError(
            f"{path}: is damaged, or not ltkit's; move it away and start again without "
            "resuming, or choose another output"
        )
    return raw


def check_finished(path: Path, recipe: Mapping[str, Any]) -> None:
    """Reject a finished checkpoint made with other settings.

    Raises:
        InputError: naming the first setting that differs.
        FormatError: when it cannot be read.
    """
    try:
        with opened(path, "a checkpoint") as file:
            found = torch.load(file, weights_only=True, map_location="cpu")["recipe"]
    except (EOFError, LookupError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise FormatError(
            f"{path}: not a checkpoint of ltkit ({type(error).__name__}); remove it, or start "
            "again without resuming"
        ) from error
    _check_same(path, found, recipe)


def _check_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    different = sorted(k for k in {*found, *expected} if found.get(k) != expected.get(k))
    if different:
        key = different[0]
        said = f"found {found.get(key)}, expected {expected.get(key)}"
        way_out = "resume with the settings of the first run, or start again without resuming"
        raise SettingError(key, f"{said}; {way_out}", where=f"{path}: ")
