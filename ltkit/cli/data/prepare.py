"""``ltkit data prepare``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output


def prepare(
    name: Annotated[str, typer.Argument(help="A dataset of ltkit data list.")],
    root: Annotated[Path, typer.Option(help="The folder that the dataset is read from.")],
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Where to look for what is not there, to be linked; may be repeated.",
            show_default=False,
        ),
    ] = None,
    json: _options.Json = False,
) -> None:
    """Check what a benchmark needs on disk, link what lies elsewhere, say where the rest is.

    Nothing is copied or downloaded. Linked images are read with --follow-links.

    Example: ltkit data prepare imagenet_lt --root data/ --from /datasets/ILSVRC2012
    """
    from ltkit.datasets import prepared
    from ltkit.errors import InputError

    found = prepared.prepare(name, root, sources or [])
    if json:
        rows = [
            {"what": f.need.what, "state": f.state, "path": str(f.path),
             "published": f.need.published}
            for f in found
        ]  # fmt: skip
        _output.print_json({"schema": "ltkit.data-prepare/1", "dataset": name, "needs": rows})
    else:
        for one in found:
            where = f"; published at {one.need.published}" if one.state == "missing" else ""
            line = f"{one.state}: {one.path}: {one.need.what}{where}"
            typer.echo(_output.printable(line))
    if missing := [str(one.path) for one in found if one.state == "missing"]:
        raise InputError(
            f"{name}: {len(missing)} of {len(found)} things that it needs are missing, the first "
            f"{missing[0]}; fetch them, or name folders that have them with --from"
        )
    dataset, absent = prepared.check(name, root)
    if absent:
        raise InputError(
            f"{root}: {len(absent)} of the images that were looked for are missing, the first "
            f"{absent[0]}; complete the folder of images"
        )
    counts = ", ".join(f"{split} {len(part)}" for split, part in dataset.splits.items())
    _output.say(f"{name}: ready, {counts} images")
