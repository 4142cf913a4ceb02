"""``ltkit analyze``: one file per command."""

import typer

from ltkit.cli.analyze.attributes import attributes
from ltkit.cli.analyze.confusion import confusion
from ltkit.cli.analyze.deltas import deltas
from ltkit.cli.analyze.distance import distance
from ltkit.cli.analyze.flows import flows
from ltkit.cli.analyze.norms import norms
from ltkit.cli.analyze.novelty import novelty
from ltkit.cli.analyze.risk_coverage import risk_coverage

app = typer.Typer(
    help="Analyse by neighbour distance, flows, rho, confusions; attributes, abstention, novelty.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
app.command()(distance)
app.command()(flows)
app.command()(deltas)
app.command()(confusion)
app.command()(norms)
app.command()(attributes)
app.command("risk-coverage")(risk_coverage)
app.command()(novelty)


@app.callback()
def group() -> None:
    """Analyse by neighbour distance, flows, rho, confusions; attributes, abstention, novelty."""
