"""``ltkit data``: one command a file."""

import typer

from ltkit.cli.data.info import info
from ltkit.cli.data.list import list_
from ltkit.cli.data.make_lt import make_lt
from ltkit.cli.data.prepare import prepare

app = typer.Typer(help="Datasets.", no_args_is_help=True, rich_markup_mode=None)
app.command("list")(list_)
app.command()(info)
app.command("make-lt")(make_lt)
app.command()(prepare)
