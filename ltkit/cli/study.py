"""``ltkit study``."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ltkit.cli import _inputs, _options, _output, _paths


def _list(asked: bool) -> None:
    """Print the studies, where this is asked, and exit."""
    if not asked:
        return
    from ltkit.studies import listing

    for name, title, needs in listing():
        typer.echo(f"{name:<20}{title}; needs {WORK[needs]}")
    raise typer.Exit


WORK = {"": "nothing", "features": "FEATS", "images": "--data"}


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="The study; see --list.", autocompletion=_options.begun("studies"), metavar="NAME"
        ),
    ],
    feats: _options.Feats = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="Images of a study that trains networks.", show_default=False
        ),
    ] = None,
    root: _options.Root = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Output folder; default: study-NAME.",
            show_default=False,
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper/--small", help="The paper's numbers of runs, or minutes on two cores."
        ),
    ] = False,
    listing: Annotated[
        bool,
        typer.Option("--list", help="List the studies and exit.", callback=_list, is_eager=True),
    ] = False,
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    shard: _options.Shard = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:  # fmt: skip
    """Repeat an experiment of the papers: a table, figures and a page that says what came of it.

    The folder gets table.csv, study.json (rows, settings, what they come to), study.html and, with
    the kaleido package, the figures as SVG, PDF and PNG. Each point is kept as soon as it is
    measured; --resume goes on from there. With --shard, several processes measure at once.

    Example: ltkit study theorems -o theorems
    """
    from ltkit.studies import Given, _running

    inputs = _read(name, feats, data, root, device, quiet)
    folder = Path(f"study-{name}") if output is None else output
    given = Given("paper" if paper else "small", seed, folder, **inputs)
    with _output.resumable("points"):
        document = _running.run(
            name, given, resume=resume, overwrite=overwrite, shard=shard,
            command=_output.command_line(), report=partial(_output.say, quiet=quiet),
            note=_output.note(quiet),
        )  # fmt: skip
    if shard is not None:
        counts = document["own"], len(document["points"])
        page = folder / "study.html"
        return _output.end_of_shard(shard, *counts, folder, page, json=json, quiet=quiet)
    if json:
        return _output.print_json(document)
    for heading, sentence in document["sentences"]:
        typer.echo(_output.wrapped(f"{heading}: {sentence}"))
    return _output.say(f"wrote {folder / 'study.html'}", quiet)


def _read(
    name: str, feats: str | None, data: str | None, root: Path | None, device: str, quiet: bool
) -> dict[str, Any]:
    """Return what a study works on, by the names of `Given`."""
    from ltkit import datasets, registry, studies

    found: dict[str, Any] = {}
    needs = registry.load(studies, name).NEEDS
    if needs:
        found["device"] = _options.device_of(device)
    if needs == "features" or feats is not None:
        found["features"] = _inputs.read_features(_paths.features_path(feats, quiet), None, quiet)
    if data is not None:
        found["images"] = datasets.load(data, root)
        _output.say_notes(found["images"], quiet)
    return found
