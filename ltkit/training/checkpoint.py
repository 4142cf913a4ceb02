"""The checkpoints that `train` writes; they load with ``weights_only=True``.

Keys: ``format`` ("ltkit-checkpoint"), ``format_version``, ``arch``, ``num_classes``, ``cosine``,
``scale``, ``state_dict`` (``backbone.*``, ``head.*``), ``mean``, ``std``, ``classes``,
``train_ids``, ``recipe``, ``versions``. They name the network and the data, so that nobody has to.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ltkit import __version__
from ltkit.architectures.network import Network
from ltkit.errors import FormatError, InputError
from ltkit.files.atomic import replacing, uninterrupted
from ltkit.records import Dataset

FORMAT = "ltkit-checkpoint"
FORMAT_VERSION = 1


def save(path: Path, recipe: Mapping[str, Any], network: Network, dataset: Dataset) -> None:
    """Write a finished checkpoint.

    Args:
        path: the output; a file there is replaced.
        recipe: settings, method, arch and dataset record of the run.
        network: the trained network.
        dataset: what it was trained on.
    """
    classes = dataset.classes
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "arch": recipe["arch"],
        "num_classes": len(classes),
        "cosine": recipe["cosine"],
        "scale": recipe["scale"],
        "state_dict": {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()},
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "classes": {"train_count": classes.train_count.tolist(), "names": classes.names},
        "train_ids": dataset.split("train").ids.tolist(),
        "recipe": dict(recipe),
        "versions": {"ltkit": __version__, "torch": str(torch.__version__)},
    }
    with replacing(path) as temporary, uninterrupted(), temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would keep the temporary name inside


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
    with replacing(path) as temporary, uninterrupted(), temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would keep the temporary name inside


def load_partial(
    path: Path,
    recipe: Mapping[str, Any],
    network: Network,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Put back the state that `save_partial` wrote; return the finished epochs.

    Raises:
        InputError: when there is no such file, or it belongs to a run with other settings.
        FormatError: when it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found, nothing to resume; run without --resume")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        found = content["recipe"]
        different = sorted(k for k in {*found, *recipe} if found.get(k) != recipe.get(k))
        if different:
            key = different[0]
            raise InputError(
                f"{path}: {key}: found {found.get(key)}, expected {recipe.get(key)}; resume with "
                "the settings of the first run, or start again without --resume"
            )
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        generator.set_state(content["generator"])
    except (
        AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise FormatError(
            f"{path}: not a checkpoint of an interrupted run ({type(error).__name__}); "
            "start again without --resume"
        ) from error
    return int(content["epoch"])
