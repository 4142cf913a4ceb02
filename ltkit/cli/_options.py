"""The options that several commands share: one wording per idea."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ltkit import numerals
from ltkit.errors import InputError, nearest
from ltkit.numerals import Range, check_once, shown
from ltkit.settings import (
    BINS,
    RANGES,
    Heads,
    PathRule,
    flag,
)
from ltkit.settings import StoredBins as StoredBinsOf
from ltkit.shards import Shard as OneOf

if TYPE_CHECKING:
    from ltkit.records import FeatureSet


def setting(name: str, help: str = "", *declared: str, called: str = "", **more: Any) -> Any:
    """Return an option for a number, parsed and checked against its range.

    Args:
        name: the setting's key in `ltkit.settings.RANGES`.
        help: what the option changes; the range is added.
        declared: its flags, where they differ from the parameter's name.
        called: its name in messages, where it differs from the setting's own flag.
        more: further arguments of `typer.Option`.
    """
    within = RANGES[name]
    span = f"{within.span[:1].upper()}{within.span[1:]}."

    def read(given: Any) -> Any:
        return numerals.number(str(given), called or flag(name), within)

    return typer.Option(
        *declared, parser=read, metavar="<int>" if within.whole else "<float>",
        help=f"{help.removesuffix('.')}; {within.span}." if help else span, **more,
    )  # fmt: skip


def begun(*folders: str, also: Iterable[str] = ()) -> Callable[[str], list[str]]:
    """Return what completes the name of a method in packages of ltkit, or one of other names."""

    def names(incomplete: str) -> list[str]:
        from ltkit.registry import names_in

        known = sorted([*also, *(name for folder in folders for name in names_in(folder))])
        return [name for name in known if name.startswith(incomplete)]

    return names


BESIDE = "all files next to FEATS made from it"
"""Which classifier files are taken where none is named."""

DISTANCE = (
    "Distance between classes' mean features, as the head takes them; raw: euclidean, as stored; "
    "random: the control, drawn for each seed; random-once: drawn once, not sorted."
)
FEATS_FILE = (
    "Features file; '-' reads its path from stdin; default: $LTKIT_FEATURES, feats.h5, or the only "
    "features file in this folder."
)
Feats = Annotated[
    str | None, typer.Argument(metavar="[FEATS]", help=FEATS_FILE, show_default=False)
]
FeatsAndClassifiers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FEATS] [CLASSIFIER...]",
        help=f"{FEATS_FILE} Then classifier files; default: {BESIDE}.",
        show_default=False,
    ),
]
FeatsOfNetworks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FEATS] [FEATS|CLASSIFIER...]",
        help=f"{FEATS_FILE} Then features of other networks, tested on the same samples, and "
        f"classifier files of any of them; default, of one network: {BESIDE}.",
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
Split = Annotated[str, typer.Option(help="Split to use: train, val or test.")]
Classifiers = Annotated[
    list[Path] | None,
    typer.Option(
        "--classifier",
        help="A classifier file, as after FEATS; may be repeated.",
        show_default=False,
    ),
]
EverySetting = Annotated[
    bool,
    typer.Option(
        "--all", "--every-setting",
        help="Show every setting of a file, not only the best on the validation split.",
    ),
]  # fmt: skip
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
    PathRule,
    typer.Option(
        help="WordNet rule: a path of at most --level links, a common ancestor that near, or a "
        "path of at most --level links over a common ancestor, by which AlphaNet's numbers are."
    ),
]
Level = Annotated[int, setting("level", "Most links of the path, or steps to the ancestor.")]
Replicates = Annotated[int, setting("replicates", "Bootstrap replicates.")]
Neighbours = Annotated[int, setting("k", "Neighbours per class.", "--k")]
Seeds = Annotated[int, setting("seeds", "Number of runs, each with its own seed.")]
Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu or cuda[:i].")]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the dataset's files; default: $LTKIT_DATA.", show_default=False),
]
FollowLinks = Annotated[
    bool,
    typer.Option("--follow-links", help="Follow links to images outside the dataset's folder."),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=COLUMN,...",
        help="What path, label and split are called in a CSV, as path=FILE,label=CLASS.",
        show_default=False,
    ),
]
Bins = Annotated[
    str | None,
    typer.Option(
        help="Smallest and largest training count of the medium shot group. Default: the file's, "
        f"else {','.join(map(str, BINS))}.",
        show_default=False,
    ),
]
StoredBins = Annotated[
    str | None,
    typer.Option(
        "--bins",
        help="Shot groups to store in the file: the smallest and largest training count of medium, "
        f"or auto. Default: {','.join(map(str, BINS))}, which is not stored.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]
Shard = Annotated[
    OneOf | None,
    typer.Option(
        "--shard",
        parser=OneOf.of,
        metavar="I/N",
        help="Compute one of N shares, while other processes compute the rest; then the same "
        "command with --resume and without --shard writes the output.",
        show_default=False,
    ),
]
SetParameter = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Set a parameter of the method; may be repeated."
    ),
]


def numbers(text: str, name: str, *, once: bool = True, example: str = "0.5,1,1.5") -> list[float]:
    """Read a setting's comma-separated numbers.

    Raises:
        InputError: for an item that is no number, out of range or repeated; the message names
            the option.
    """
    return numerals.numbers(text, flag(name), RANGES[name], once=once, example=example)


def whole_numbers(text: str, name: str, *, once: bool = True) -> list[int]:
    """Read a setting's comma-separated whole numbers.

    Raises:
        InputError: as `numbers`.
    """
    return list(map(int, numbers(text, name, once=once, example="20,100")))


def bins(text: str | None) -> list[int] | None:
    """Read the smallest and the largest training count of the medium shot group.

    Raises:
        InputError: as `numbers`.
    """
    return None if text is None else whole_numbers(text, "bins", once=False)


def stored_bins(text: str | None) -> StoredBinsOf:
    """Read the shot groups to store: two counts, or ``auto``.

    Raises:
        InputError: as `numbers`, or when there are not two.
    """
    if text in (None, "auto"):
        return text  # type: ignore[return-value]
    found = bins(text) or []
    if len(found) != 2:
        raise InputError(
            f"--bins: found {shown(str(text))}, expected auto, or two counts as 20,100"
        )
    return found[0], found[1]


def bins_text(text: str | None, features: "FeatureSet") -> str:
    """Return the bounds of the medium shot group as files record them."""
    return text if text is not None else ",".join(map(str, features.bins))


def class_ids(text: str | None, option: str, count: int) -> list[int]:
    """Read comma-separated ids of some of `count` classes; empty when the option is absent.

    Raises:
        InputError: for an invalid or repeated id; the message names the option.
    """
    known = Range(0, count - 1, whole=True)
    found = [] if text is None else numerals.numbers(text, option, known, example="3,5")
    return list(map(int, found))


def words(text: str, option: str, separator: str = ",") -> list[str]:
    """Read words separated by a given character.

    Raises:
        InputError: for an empty or repeated word; the message names the option.
    """
    found = text.split(separator)
    if not all(found):
        raise InputError(f"{option}: found {shown(text)}, expected words with {separator} between")
    check_once(found, option)
    return found


def pairs(given: list[str], option: str, example: str) -> list[tuple[str, str]]:
    """Split ``name=value`` items; `example` shows one in messages.

    Raises:
        InputError: for an item without a name, or a repeated name.
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
    """Return the ``--set`` parameters as text; the method's signature converts them.

    Raises:
        InputError: as `pairs`.
    """
    return dict(pairs(given or [], "--set", "NAME=VALUE"))


def columns(text: str | None) -> dict[str, str] | None:
    """Return what the columns of a CSV are called; None where nothing was said.

    Raises:
        InputError: as `words` and `pairs`.
    """
    if text is None:
        return None
    return dict(pairs(words(text, "--columns"), "--columns", "path=FILE,label=CLASS"))


def settings(given: list[str], option: str) -> dict[str, float]:
    """Read ``name=value`` items with numbers.

    Raises:
        InputError: for an invalid item; the message names the option.
    """
    return {
        name: numerals.number(v, f"{option} {shown(name)}")
        for name, v in pairs(given, option, "rho=1")
    }


def run_of(given: list[str], option: str) -> tuple[dict[str, float], Heads | None]:
    """Read which run is meant: ``name=number`` items, and one of the words best and mean.

    Raises:
        InputError: for both words, or as `settings`.
    """
    known = get_args(Heads)
    words = [word for word in given if word in known]
    if len(words) > 1:
        raise InputError(f"{option}: found {' and '.join(words)}, expected one of them")
    how: Any = words[0] if words else None
    return settings([word for word in given if word not in known], option), how


def one_of(value: str, known: tuple[str, ...], option: str) -> str:
    """Return a value after checking that it is one of the known words.

    Raises:
        InputError: for another word; the message suggests the nearest.
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
