"""The options shared by commands of ``ltkit alphanet``, and the settings they make."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _options
from ltkit.errors import SettingError
from ltkit.numerals import shown
from ltkit.settings import ALPHANET_VARIANTS, RANGES, AlphaNetAmp, Auto, Variant

RHO = RANGES["rho"].span

VariantName = Annotated[
    Variant, typer.Option(help="Follow the paper's text, or the code that made its numbers.")
]
Of = Annotated[str, typer.Option(help="Classes to correct: few, or medium+few.")]
Onto = Annotated[
    Path | None,
    typer.Option(
        metavar="CLASSIFIER",
        help="Classifier file of every class whose head gets the correction; default: the head "
        "that it is learned on.",
        show_default=False,
    ),
]
Precision = Annotated[
    AlphaNetAmp,
    typer.Option(help="bf16: products of bfloat16 numbers, which some processors are faster at."),
]
Epochs = Annotated[int, _options.setting("epochs", "Training epochs.")]


def chosen(variant: Variant, network_input: str | None, few_biases: str | None) -> dict[str, Any]:
    """Return a variant's settings, with individual choices on top."""
    chosen: dict[str, Any] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    return chosen


def number_or_auto(text: str, name: str, within: str) -> float | Auto:
    """Read a number, or the word that leaves it to the validation split.

    Args:
        text: what was given.
        name: of the setting.
        within: its key in `ltkit.settings.RANGES`.

    Raises:
        SettingError: for anything else.
    """
    if text == "auto":
        return text  # type: ignore[return-value]
    value = numerals.read(text, RANGES[within])
    if value is None:
        raise SettingError(name, f"found {shown(text)}, expected auto, or {RANGES[within]}")
    return value
