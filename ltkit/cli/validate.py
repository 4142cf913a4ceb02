"""``ltkit validate``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="ltkit files.")],
    json: _options.Json = False,
) -> None:
    """Check files whole: structure, digest, every block. Exit 1 when one is bad.

    Example: ltkit validate feats.h5 feats.alphanet.h5
    """
    results = {str(file): _problems(file) for file in files}
    if json:
        _output.print_json({"schema": "ltkit.validate/1", "problems": results})
    else:
        for file, problems in results.items():
            for line in problems or [f"{file}: sound"]:
                typer.echo(_output.printable(line))
    if any(results.values()):
        raise typer.Exit(1)


def _problems(file: Path) -> list[str]:
    from ltkit.errors import FormatError
    from ltkit.files import classifiers, features, hdf5, neighbors

    try:
        contents = hdf5.read(file, *hdf5.KINDS.values())
        readers = {
            hdf5.FEATURES.name: features.read, hdf5.CLASSIFIER.name: classifiers.read,
            hdf5.NEIGHBORS.name: neighbors.read,
        }  # fmt: skip
        readers[contents.kind.name](file)
    except FormatError as error:
        return [str(error)]
    return [line for rows in contents.datasets.values() for line in rows.verify()]
