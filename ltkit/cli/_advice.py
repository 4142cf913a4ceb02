"""What a recommendation is asked for, on the command line."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _options
from ltkit.settings import RANGES, Objective

if TYPE_CHECKING:
    from ltkit.recommendation import Wanted

Goal = Annotated[
    Objective | None,
    typer.Option(
        "--objective",
        help="Accuracy to maximise. Default: balanced; with --prior all, which is that under it.",
        show_default=False,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GROUP=POINTS",
        show_default=False,
        help="Limit on a change, as all=-0.5; may be repeated. Default: all=-0.5 for few, "
        "worst-group and worst-class, else none; none lifts it.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="Post-hoc methods to choose among; default: all that fit in seconds.",
        show_default=False,
    ),
]
WithAlphaNet = Annotated[
    bool, typer.Option("--with-alphanet", help="AlphaNet is one of the methods, too.")
]


def wanted(
    objective: Objective | None, keep: list[str] | None, methods: str | None, with_alphanet: bool,
    **more: Any,
) -> "Wanted":  # fmt: skip
    """Return what is asked for.

    Args:
        objective: the accuracy to maximise.
        keep: limits as they are typed.
        methods: names, with commas.
        with_alphanet: whether AlphaNet is one of the methods.
        more: of `ltkit.recommendation.Wanted`.

    Raises:
        InputError: for an invalid limit or a repeated name.
    """
    from ltkit.recommendation import Wanted

    names = None if methods is None else _options.words(methods, "--methods")
    return Wanted(objective, _limits(keep), names, with_alphanet, **more)


def _limits(given: list[str] | None) -> dict[str, float] | None:
    """Read the limits: none is no limit, absent the objective's own."""
    if given is None:
        return None
    if given == ["none"]:
        return {}
    pairs = _options.pairs(given, "--keep", "GROUP=POINTS, as all=-0.5")
    return {name: numerals.number(text, f"--keep {name}", RANGES["keep"]) for name, text in pairs}
