"""The measured points of a study, kept beside its results as soon as each is measured."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltkit.errors import InputError
from ltkit.files import scratch, strict_json
from ltkit.files.atomic import stranger, write_text
from ltkit.studies import Point, Row

NAME = "points.json"
SCHEMA = "ltkit.study-points/1"


class Kept:
    """The points of one run of a study, in ``points.json`` of its folder.

    The file is written whole after each point, so that a kill at any moment costs one point.
    """

    def __init__(
        self, folder: Path, run: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> None:
        """Look at what is there, make the folder, and take over what may be resumed.

        Args:
            folder: of the results.
            run: everything that determines them.
            resume: whether to go on from points that are there.
            overwrite: whether to start again in their place.

        Raises:
            InputError: when the folder cannot be made, holds anything but a study, or a study of
                other settings that is to be resumed, or exists and neither was said.
        """
        self.file = folder / NAME
        self.run = strict_json.loads(strict_json.dumps(run))
        self.rows: dict[str, list[Row]] = {}
        held = _held(folder)
        if held is None:
            folder.mkdir(exist_ok=True)
        elif not (resume or overwrite):
            raise InputError(
                f"{folder}: exists; --resume goes on with it, --overwrite starts it again, or "
                "choose another -o"
            )
        elif resume and held["run"] != self.run:
            raise InputError(
                f"{folder}: belongs to a study with other settings; resume with those of the "
                "first run, or start again with --overwrite"
            )
        elif resume:
            self.rows = held["points"]
        self._write()

    def get(self, point: Point) -> list[Row] | None:
        """Return the rows of a point that is measured."""
        return self.rows.get(strict_json.dumps(point))

    def keep(self, point: Point, rows: list[Row]) -> None:
        """Keep the rows of a point."""
        self.rows[strict_json.dumps(point)] = rows
        self._write()

    def _write(self) -> None:
        document = {"schema": SCHEMA, "run": self.run, "points": self.rows}
        write_text(self.file, strict_json.dumps(document) + "\n")


def _held(folder: Path) -> dict[str, Any] | None:
    """Return what a study has kept in a folder; None where there is nothing yet.

    Raises:
        InputError: when it is none, or holds what is no study's.
    """
    if not os.path.lexists(folder):
        return None
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; choose another -o")
    content = scratch.read(folder / NAME)
    if content is None:
        if any(not path.name.startswith(".ltkit-") for path in folder.iterdir()):
            raise InputError(
                f"{folder}: found files but no {NAME}, expected an empty folder or that of a "
                "study; choose another -o"
            )
        return None
    return _parsed(content, folder / NAME)


def _parsed(content: bytes, file: Path) -> dict[str, Any]:
    """Return the document in a file of measured points.

    Raises:
        InputError: when it is none.
    """
    try:
        document = strict_json.loads(content.decode())
    except ValueError:
        raise stranger(file) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise stranger(file)
    points = document.get("points")
    if not isinstance(points, dict) or not all(map(_are_rows, points.values())):
        raise stranger(file)
    return document


def _are_rows(value: Any) -> bool:
    """Return whether a value is a list of rows of cells."""
    cells = (str, int, float, type(None))
    return isinstance(value, list) and all(
        isinstance(row, list) and all(isinstance(cell, cells) for cell in row) for row in value
    )
