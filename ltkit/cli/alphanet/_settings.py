"""The options that several commands of ``ltkit alphanet`` have, and the settings they make."""

from typing import Annotated, Any

import typer

from ltkit.cli import _options
from ltkit.settings import ALPHANET_VARIANTS, RANGES, Variant

RHO = RANGES["rho"].span

VariantName = Annotated[
    Variant, typer.Option(help="The paper's text, or the code that made its numbers.")
]
Of = Annotated[str, typer.Option(help="Which classes are corrected: few, or medium+few.")]
Epochs = Annotated[int, _options.setting("epochs")]


def chosen(variant: Variant, network_input: str | None, few_biases: str | None) -> dict[str, Any]:
    """Return what a variant sets, with what was asked for one by one."""
    chosen: dict[str, Any] = dict(ALPHANET_VARIANTS[variant])
    for name, value in (("network_input", network_input), ("few_biases", few_biases)):
        if value is not None:
            chosen[name] = value
    return chosen
