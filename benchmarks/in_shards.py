"""The points of a long measurement, by one process or by several at once, on one file system.

With ``--shard i/n`` a benchmark measures the i-th of n shares of its points and leaves them in
``RESULTS.parts`` beside its results; run without it, it takes those, measures what is missing,
writes the results and removes the folder. A process that is killed costs one point. Points of other
settings are refused until the folder is removed.
"""

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltkit.files.atomic import locked_by
from ltkit.shards import Shard
from ltkit.studies._kept import Kept

Point = Mapping[str, Any]


def add_option(parser: ArgumentParser) -> None:
    """Add ``--shard`` to a benchmark's options."""
    parser.add_argument("--shard", type=Shard.of, metavar="I/N", help="one of N shares, by itself")


def measured(
    folder: Path,
    points: Sequence[Point],
    measure: Callable[[Point], Any],
    shard: Shard | None,
    run: Mapping[str, Any],
) -> list[Any]:
    """Return what each point comes to, in order; of a shard, its own points alone.

    Args:
        folder: where points are kept as soon as they are measured.
        points: plain data, all of them.
        measure: returns plain data.
        shard: which of them to measure; None: all that are not kept.
        run: what else determines the values.
    """
    with locked_by(folder, shard):
        kept = Kept(
            folder, {**run, "points": list(points)}, resume=True, overwrite=False, shard=shard
        )
        found = []
        for point in points if shard is None else shard.own(points):
            rows = kept.get(dict(point))
            if rows is None:  # a row of one cell: the value as text
                rows = [[json.dumps(measure(point), default=float)]]
                kept.keep(dict(point), rows)
            found.append(json.loads(str(rows[0][0])))
    return found


def remove(folder: Path) -> None:
    """Remove the points, whose results are written."""
    shutil.rmtree(folder)
