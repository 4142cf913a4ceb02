"""A study from its points to its files: the table, the document, the page and its figures."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pandas as pd

import ltkit.studies as package
from ltkit import registry
from ltkit.errors import InputError, SettingError, listed
from ltkit.files.atomic import locked_by, stranger, write_text
from ltkit.files.strict_json import dumps
from ltkit.files.tables import write_csv
from ltkit.reporting import drawing, page
from ltkit.reporting.exhibits import Section
from ltkit.settings import RANGES
from ltkit.shards import Shard
from ltkit.studies import Form, Given, Point, Row, Told
from ltkit.studies._kept import Kept
from ltkit.version import __version__

Say = Callable[[str], None]


APART = ".ltkit-shard-*-of-*"
"""Folders of shards at work, in that of the study."""


def silent(message: str) -> None:
    """Say nothing."""


def run(
    name: str,
    given: Given,
    *,
    resume: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    command: str = "",
    report: Say = silent,
    note: Say = silent,
) -> dict[str, Any]:
    """Measure a study's points and write what they come to into its folder.

    Args:
        name: of the study, as ``ltkit study --list`` has it.
        given: what it works on.
        resume: whether to go on from the points that the folder holds.
        overwrite: whether to start again in the place of another run.
        shard: which of the points to measure, for a run that resumes to write the files; None: all.
        command: the command that does it again.
        report: called with a line for each point.
        note: called with what is left out.

    Returns:
        The document in ``study.json``, which has the sentences; of a shard, its rows.

    Raises:
        InputError: for an unknown study, one without what it needs, a folder that is not its own,
            a shard that would start again.
    """
    study = load(name, given)
    points = study.points(given)
    if not given.folder.parent.is_dir():
        raise InputError(f"{given.folder.parent}: no such folder; make it, or choose another -o")
    if shard is not None and overwrite:
        raise SettingError("overwrite", "a shard goes on with what others do; leave it out")
    settings = {"study": name, "form": given.form, "seed": given.seed, "points": points}
    document = {"columns": list(study.COLUMNS), **settings, **_inputs(given)}
    with locked_by(given.folder, shard):
        apart = [_folder(path) for path in given.folder.glob(APART)]
        kept = Kept(
            given.folder, settings | _inputs(given),
            resume=resume, overwrite=overwrite, shard=shard,
        )  # fmt: skip
        if shard is not None:
            own = shard.own(points)
            with _apart(given, shard) as by_itself:
                rows = _measured(study, own, by_itself, kept, report)
            return document | {"schema": "ltkit.study-shard/1", "own": len(own), "rows": rows}
        for folder in apart:  # of shards that were killed
            shutil.rmtree(folder)
        rows = _measured(study, points, given, kept, report)
        told: Told = study.tell(pd.DataFrame(rows, columns=document["columns"]), given)
        document = {
            "schema": "ltkit.study/1", "title": study.TITLE, **settings, **_inputs(given),
            "written_by": f"ltkit {__version__}", "columns": list(study.COLUMNS),
            "sentences": [list(pair) for pair in told.sentences], "rows": rows,
        }  # fmt: skip
        _write(given.folder, document, told, command, note)
    return document


def load(name: str, given: Given) -> ModuleType:
    """Return the module of a study that has what it needs.

    Raises:
        InputError: for an unknown study, form or seed, or when what it needs is absent or not asked
            for.
    """
    study = registry.load(package, name)
    if given.form not in get_args(Form):
        raise SettingError("form", f"found {given.form!r}, expected {listed(get_args(Form))}")
    if given.seed not in RANGES["seed"]:
        raise SettingError("seed", f"found {given.seed}, expected {RANGES['seed']}")
    for need, found in (("features", given.features), ("images", given.images)):
        if need == study.NEEDS and found is None:
            raise InputError(f"{name}: needs {need}, found none; {MENDED[need]}")
        if need != study.NEEDS and found is not None:
            raise InputError(f"{name}: found {need}, expected none: it reads none; leave them out")
    return study


MENDED = {"features": "name a features file after it", "images": "name them with --data"}


def _inputs(given: Given) -> dict[str, Any]:
    """Return what identifies a study's input."""
    if given.features is not None:
        return {"inputs": given.features.inputs}
    return {"inputs": {} if given.images is None else {"images": given.images.record}}


@contextmanager
def _apart(given: Given, shard: Shard) -> Iterator[Given]:
    """Yield what a shard works on: with a folder of its own, for the networks that it trains.

    An interrupted shard finds it again.
    """
    folder = _folder(given.folder / f".ltkit-{shard.label}")
    folder.mkdir(exist_ok=True)
    yield replace(given, folder=folder)
    shutil.rmtree(folder)


def _folder(path: Path) -> Path:
    """Return a path after checking that it is a folder, or nothing."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise stranger(path)
    return path


def _measured(
    study: ModuleType, points: list[Point], given: Given, kept: Kept, report: Say
) -> list[Row]:
    """Return the rows of points, and keep those that are new."""
    rows: list[Row] = []
    for number, point in enumerate(points, 1):
        found = kept.get(point)
        how = "taken from an earlier run"
        if found is None:
            found, how = study.measure(point, given), "measured"
            kept.keep(point, found)
        rows += found
        told = ", ".join(f"{k} {v}" for k, v in point.items() if isinstance(v, str | int | float))
        report(f"point {number} of {len(points)}: {told}: {how}")
    return rows


def _write(folder: Path, document: Mapping[str, Any], told: Told, command: str, note: Say) -> None:
    """Write the table, the document, the page and, where they can be drawn, the figures."""
    write_csv(folder / "table.csv", document["columns"], document["rows"], digits=None)
    write_text(folder / "study.json", dumps(document) + "\n")
    parts = [
        Section(
            "answer", "Answer", {"sentences": told.sentences, "command": ""}, told.exhibits,
            question="What it shows",
        )
    ]  # fmt: skip
    subtitle = f"{document['form']} form, seed {document['seed']}"
    write_text(
        folder / "study.html",
        page.render_alone(document["title"], subtitle, parts, command),
    )
    if find_spec("kaleido") is None:
        return note(
            "the page has the figures; as SVG and PNG files they need the kaleido package: pip "
            "install 'ltkit[figures]'"
        )
    try:
        drawing.write_figures(told.exhibits, folder / "figures")
    except InputError as error:  # no browser: hours of points are not lost for that
        note(f"no SVG and PNG files of the figures: {str(error).removeprefix('--figures: ')}")
