"""The options that several commands share: one wording for one idea."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.errors import InputError, nearest

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
Bins = Annotated[
    str, typer.Option(help="Least and greatest training count of the medium shot group.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
SetParameter = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of the method."),
]


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
