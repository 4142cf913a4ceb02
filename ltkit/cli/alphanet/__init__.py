"""``ltkit alphanet``: one file per command."""

import typer

from ltkit.cli.alphanet.apply import apply
from ltkit.cli.alphanet.fit import fit
from ltkit.cli.alphanet.show import show
from ltkit.cli.alphanet.sweep import sweep

app = typer.Typer(
    help="AlphaNet: correct rare classes with classifiers of similar frequent classes.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
app.command()(fit)
app.command()(sweep)
app.command()(apply)
app.command()(show)


@app.callback()
def group() -> None:
    """AlphaNet: correct rare classes with classifiers of similar frequent classes."""
