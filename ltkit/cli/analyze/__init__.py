"""``ltkit analyze``: one command a file."""

import typer

from ltkit.cli.analyze.deltas import deltas
from ltkit.cli.analyze.distance import distance
from ltkit.cli.analyze.flows import flows

app = typer.Typer(
    help="What corrections do, and where: by neighbour distance, as flows, over rho.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
app.command()(distance)
app.command()(flows)
app.command()(deltas)


@app.callback()
def group() -> None:
    """What corrections do, and where: by neighbour distance, as flows, over rho."""
