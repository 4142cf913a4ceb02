"""The measured points of a study, kept beside its results as soon as each is measured."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltkit.errors import InputError
from ltkit.files import scratch, strict_json
from ltkit.files.atomic import stranger, write_text
from ltkit.shards import Shard
from ltkit.studies import Point, Row

NAME = "points.json"
SHARDS = "points.shard-*-of-*.json"
SCHEMA = "ltkit.study-points/1"


class Kept:
    """The points of one run of a study, in ``points.json`` of its folder.

    The file is written whole after each point, so that a kill at any moment costs one point. A
    shard has a file of its own; a run that is none takes up all of them.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
        shard: Shard | None = None,
    ) -> None:
        """Look at what is there, make the folder, and take over what may be resumed.

        Args:
            folder: of the results.
            run: everything that determines them, with its ``points`` in order.
            resume: whether to go on from points that are there, as a shard always does.
            overwrite: whether to start again in their place.
            shard: which of the points are measured here; None: all.

        Raises:
            InputError: when the folder cannot be made, holds anything but a study, or a study of
                other settings that is to be resumed, or exists and neither was said.
        """
        self.file = folder / (NAME if shard is None else f"points.{shard.label}.json")
        self.run = strict_json.loads(strict_json.dumps(run))
        held, resume = _held(folder), resume or shard is not None
        if held and not (resume or overwrite):
            raise InputError(
                f"{folder}: exists; --resume goes on with it, --overwrite starts it again, or "
                "choose another -o"
            )
        if resume and any(one.get("run") != self.run for one in held.values()):
            raise InputError(
                f"{folder}: belongs to a study with other settings; resume with those of the "
                "first run, or start again with --overwrite"
            )
        folder.mkdir(exist_ok=True)
        points = {file: one["points"] for file, one in held.items()} if resume else {}
        self._known: dict[str, list[Row]] = {
            k: v for one in points.values() for k, v in one.items()
        }
        self._rows = self._known if shard is None else points.get(self.file, {})
        self._write()
        if shard is None:
            for file in held.keys() - {self.file}:
                file.unlink(missing_ok=True)

    def get(self, point: Point) -> list[Row] | None:
        """Return the rows of a point that is measured."""
        return self._known.get(strict_json.dumps(point))

    def keep(self, point: Point, rows: list[Row]) -> None:
        """Keep the rows of a point."""
        self._known[strict_json.dumps(point)] = self._rows[strict_json.dumps(point)] = rows
        self._write()

    def _write(self) -> None:
        """Write the points in their order, whichever was measured first."""
        order = [name for name in map(strict_json.dumps, self.run["points"]) if name in self._rows]
        points = {name: self._rows[name] for name in order}
        document = {"schema": SCHEMA, "run": self.run, "points": points}
        write_text(self.file, strict_json.dumps(document) + "\n")


def _held(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return what a study has kept in the files of a folder; none where nothing is there yet.

    Raises:
        InputError: when it is none, or holds what is no study's.
    """
    if not os.path.lexists(folder):
        return {}
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; choose another -o")
    found = {file: scratch.read(file) for file in (folder / NAME, *sorted(folder.glob(SHARDS)))}
    held = {file: _parsed(content, file) for file, content in found.items() if content is not None}
    if not held and any(not path.name.startswith(".ltkit-") for path in folder.iterdir()):
        raise InputError(
            f"{folder}: found files but no {NAME}, expected an empty folder or that of a "
            "study; choose another -o"
        )
    return held


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
