"""The options that several commands share: one wording for one idea."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ltkit.errors import InputError, nearest
from ltkit.settings import LoadSettings, Weights

Feats = Annotated[
    str | None,
    typer.Argument(
        metavar="[FEATS]",
        help="Features file; '-' reads its path from stdin; default: $LTKIT_FEATURES, feats.h5, or "
        "the only features file here.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Output file.", show_default=False)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages or progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0, max=2**32 - 1)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:i].")]
Root = Annotated[
    Path | None,
    typer.Option(help="Where the dataset's files are; default: $LTKIT_DATA.", show_default=False),
]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Read images that links lead out of the dataset's folder."),
]
Bins = Annotated[
    str, typer.Option(help="Least and greatest training count of the medium shot group.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
SetParameter = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of the method."),
]

Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture, where the file does not say; library:name for another library's.",
        show_default=False,
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option("--head", help="The last layer's name in the file.", show_default=False),
]
WeightsKind = Annotated[
    Weights | None, typer.Option(help="Which of several weights to take.", show_default=False)
]
Scale = Annotated[
    float | None, typer.Option(help="The factor of a cosine head.", show_default=False)
]
Linear = Annotated[bool, typer.Option("--linear", help="A head without a bias is a linear one.")]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Run the program in a TorchScript or torch.export file."),
]
Mean = Annotated[
    str | None,
    typer.Option(help="Of pixel values in 0..1, as 0.485,0.456,0.406.", show_default=False),
]
Std = Annotated[str | None, typer.Option(help="Likewise, the deviation.", show_default=False)]


def load_settings(
    arch: str | None,
    head: str | None,
    weights: Weights | None,
    scale: float | None,
    linear: bool,
    mean: str | None,
    std: str | None,
    trust_code: bool,
) -> LoadSettings:
    """Return what the user says of a checkpoint.

    Raises:
        InputError: for a scale, mean or deviation that cannot be one.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise InputError(f"--scale: found {scale}, expected a positive number")
    triples = {}
    for option, text in (("mean", mean), ("std", std)):
        if text is not None:
            triples[option] = tuple(numbers(text, f"--{option}"))
            if not all(math.isfinite(v) for v in triples[option]):
                raise InputError(f"--{option}: found {text}, expected finite numbers")
    if not all(value > 0 for value in triples.get("std", ())):
        raise InputError(f"--std: found {std}, expected positive numbers")
    return LoadSettings(
        arch, head, weights, scale, linear, triples.get("mean"), triples.get("std"), trust_code
    )


def numbers(text: str, option: str) -> list[float]:
    """Read a comma-separated list of numbers.

    Raises:
        InputError: when it is none; the message names the option.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: found {text!r}, expected numbers, as 0.5,1,1.5") from None


def whole_numbers(text: str, option: str) -> list[int]:
    """Read a comma-separated list of whole numbers.

    Raises:
        InputError: when it is none; the message names the option.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: found {text!r}, expected whole numbers, as 20,100") from None


def settings(given: list[str], option: str) -> dict[str, float]:
    """Read ``name=value`` items with numbers.

    Raises:
        InputError: for an item that is none; the message names the option.
    """
    found = {}
    for item in given:
        name, _, value = item.partition("=")
        (found[name],) = numbers(value, f"{option} {name}")
    return found


def one_of(value: str, known: tuple[str, ...], option: str) -> str:
    """Return a value that is one of a few words.

    Raises:
        InputError: when it is not; the message suggests the nearest.
    """
    if value not in known:
        raise InputError(f"{option}: found {value}; {nearest(value, known)}")
    return value


def device_of(text: str) -> str:
    """Return the torch device for ``--device``.

    Raises:
        InputError: for an unknown device, or CUDA where there is none.
    """
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise InputError(f"--device: found {text}, expected auto, cpu or cuda[:i]")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device: {text}: no CUDA device here; use --device cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device: {text}: found {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    return text
