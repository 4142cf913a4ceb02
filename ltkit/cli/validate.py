"""``ltkit validate``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="ltkit files to check.")],
    isolate: Annotated[
        bool, typer.Option(help="Read each in a child process with limited time and memory.")
    ] = True,
    json: _options.Json = False,
) -> None:
    """Check whole files: structure, digest, every block; exit 1 if one is damaged.

    A file that hangs or crashes the HDF5 library ends only the child process; the command then
    exits with code 2.

    Example: ltkit validate feats.h5 feats.alphanet.h5
    """
    from ltkit.files import isolated
    from ltkit.files.soundness import problems

    results = {
        str(file): isolated.call(problems, file) if isolate else problems(file) for file in files
    }
    if json:
        _output.print_json({"schema": "ltkit.validate/1", "problems": results})
    else:
        for file, lines in results.items():
            for line in lines or [f"{file}: sound"]:
                typer.echo(_output.printable(line))
    if any(results.values()):
        raise typer.Exit(1)
