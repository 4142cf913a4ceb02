"""The options that several commands share: one wording for one idea."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ltkit import numerals
from ltkit.errors import InputError, nearest
from ltkit.numerals import Range, check_once, shown
from ltkit.settings import BINS as MEDIUM
from ltkit.settings import RANGES, LoadSettings, PathRule, Weights, flag


def setting(name: str, help: str = "", *declared: str, called: str = "", **more: Any) -> Any:
    """Return an option for a number, which is read and held to its range in one place.

    Args:
        name: of the setting in `ltkit.settings.RANGES`.
        help: what the option changes; the range is added.
        declared: as what it is declared, where that is not its parameter's name.
        called: what messages call it, where that is not the setting's own flag.
        more: for `typer.Option`.
    """
    within = RANGES[name]
    span = f"{within.span[:1].upper()}{within.span[1:]}."

    def read(given: Any) -> Any:
        return numerals.number(str(given), called or flag(name), within)

    return typer.Option(
        *declared, parser=read, metavar="<int>" if within.whole else "<float>",
        help=f"{help.removesuffix('.')}; {within.span}." if help else span, **more,
    )  # fmt: skip


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
Seed = Annotated[int, setting("seed", "Seed of every random choice.")]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Classifiers = Annotated[
    list[Path] | None,
    typer.Option(
        "--classifier",
        help="Classifier file; may be repeated; default: all beside FEATS made from it.",
        show_default=False,
    ),
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base",
        metavar="CLASSIFIER",
        help="Classifier file in the place of the features' own head; default: the head, or the "
        "only such file beside FEATS.",
        show_default=False,
    ),
]
Rule = Annotated[
    PathRule, typer.Option(help="WordNet: a path of at most --level links, or an ancestor.")
]
Level = Annotated[int, setting("level", "Links, or steps to the ancestor, at most.")]
Replicates = Annotated[int, setting("replicates", "Of the bootstrap.")]
Neighbours = Annotated[int, setting("k", "Neighbours of each class.", "--k")]
Seeds = Annotated[int, setting("seeds", "Runs with different seeds.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:i].")]
Root = Annotated[
    Path | None,
    typer.Option(help="Where the dataset's files are; default: $LTKIT_DATA.", show_default=False),
]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Read images that links lead out of the dataset's folder."),
]
BINS = ",".join(map(str, MEDIUM))
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
    float | None, setting("scale", "The factor of a cosine head.", show_default=False)
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
        InputError: for a mean or deviation that cannot be one.
    """
    triples = {}
    for option, text, within in (("mean", mean, numerals.ANY), ("std", std, POSITIVE)):
        if text is not None:
            found = numerals.numbers(text, f"--{option}", within, once=False)
            triples[option] = tuple(found)
    return LoadSettings(
        arch, head, weights, scale, linear, triples.get("mean"), triples.get("std"), trust_code
    )


POSITIVE = Range(0, above=True)


def numbers(text: str, name: str, *, once: bool = True, example: str = "0.5,1,1.5") -> list[float]:
    """Read the comma-separated numbers of a setting.

    Raises:
        InputError: when one is none, out of its range, or there twice; the message names the
            option.
    """
    return numerals.numbers(text, flag(name), RANGES[name], once=once, example=example)


def whole_numbers(text: str, name: str, *, once: bool = True) -> list[int]:
    """Read the comma-separated whole numbers of a setting.

    Raises:
        InputError: as `numbers`.
    """
    return list(map(int, numbers(text, name, once=once, example="20,100")))


def bins(text: str) -> list[int]:
    """Read the least and the greatest training count of the medium shot group.

    Raises:
        InputError: as `numbers`.
    """
    return whole_numbers(text, "bins", once=False)


def class_ids(text: str | None, option: str, count: int) -> list[int]:
    """Read the comma-separated ids of some of `count` classes; none where nothing was said.

    Raises:
        InputError: when one is none, or there twice; the message names the option.
    """
    known = Range(0, count - 1, whole=True)
    found = [] if text is None else numerals.numbers(text, option, known, example="3,5")
    return list(map(int, found))


def words(text: str, option: str, separator: str = ",") -> list[str]:
    """Read words with a separator between them.

    Raises:
        InputError: when one is empty or there twice; the message names the option.
    """
    found = text.split(separator)
    if not all(found):
        raise InputError(f"{option}: found {shown(text)}, expected words with {separator} between")
    check_once(found, option)
    return found


def pairs(given: list[str], option: str, example: str) -> list[tuple[str, str]]:
    """Return the parts of ``name=value`` items, as in the example.

    Raises:
        InputError: for an item without a name, and a name that is there twice.
    """
    found = []
    for item in given:
        name, equals, value = item.partition("=")
        if not name.strip() or not equals:
            raise InputError(f"{option} {shown(item)}: expected {example}")
        found.append((name.strip(), value))
    check_once([name.replace("-", "_") for name, _ in found], option)
    return found


def parameters(given: list[str] | None) -> dict[str, str]:
    """Return the parameters of a method as ``--set`` has them, which its signature makes values.

    Raises:
        InputError: as `pairs`.
    """
    return dict(pairs(given or [], "--set", "NAME=VALUE"))


def settings(given: list[str], option: str) -> dict[str, float]:
    """Read ``name=value`` items with numbers.

    Raises:
        InputError: for an item that is none; the message names the option.
    """
    return {
        name: numerals.number(v, f"{option} {shown(name)}")
        for name, v in pairs(given, option, "rho=1")
    }


def one_of(value: str, known: tuple[str, ...], option: str) -> str:
    """Return a value that is one of a few words.

    Raises:
        InputError: when it is not; the message suggests the nearest.
    """
    if value not in known:
        raise InputError(f"{option}: found {shown(value)}; {nearest(value, known)}")
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
    number = int(index) if re.fullmatch("[0-9]{1,3}", index) else 0
    if text not in ("cpu", "cuda", f"cuda:{number}"):
        raise InputError(f"--device: found {shown(text)}, expected auto, cpu or cuda[:i]")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device: {text}: no CUDA device here; use --device cpu")
    if kind == "cuda" and number >= torch.cuda.device_count():
        raise InputError(
            f"--device: {text}: found {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    return text
