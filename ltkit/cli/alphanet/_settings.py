"""The options shared by commands of ``ltkit alphanet``, and the settings they make."""

from typing import Annotated, Any

import typer

from ltkit.cli import _options
from ltkit.settings import ALPHANET_VARIANTS, RANGES, Variant

RHO = RANGES["rho"].span

VariantName = Annotated[
    Variant, typer.Option(help="Follow the paper's text, or the code that made its numbers.")
]
Of = Annotated[str, typer.Option(help="Classes to correct: few, or medium+few.")]
Epochs = Annotated[int, _options.setting("epochs", "Training epochs.")]


def chosen(variant: Variant, network_input: str | None, few_biases: str | None) -> dict[str, Any]:
    """Return a variant's settings, with individual choices on top."""
    chosen: dict[str, Any] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    return chosen
