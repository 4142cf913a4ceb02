"""``ltkit neighbors``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.cli._tables import safe
from ltkit.settings import Metric, NeighborSettings, as_json

if TYPE_CHECKING:
    from rich.table import Table

    from ltkit.records import Ints, Neighbors


def neighbors(
    feats: _options.Feats = None,
    k: _options.Neighbours = NeighborSettings.k,
    metric: Annotated[Metric, typer.Option(help=_options.DISTANCE)] = NeighborSettings.metric,
    of: Annotated[
        str, typer.Option(help="Classes to list neighbours of: few, medium, many, base, all.")
    ] = "few",
    among: Annotated[str, typer.Option(help="Classes that may be neighbours.")] = "base",
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """List the classes nearest to each rare class, by mean training feature.

    Example: ltkit neighbors feats.h5 --k 5
    """
    from ltkit import neighbors as search
    from ltkit.files import features as features_file
    from ltkit.files import neighbors as neighbors_file
    from ltkit.files.atomic import check_output
    from ltkit.neighbors import wordnet

    path = _paths.features_path(feats, quiet)
    if output is not None:
        check_output(output, overwrite=overwrite, inputs=(path,))
    features = features_file.read(path)
    bins = _options.bins_text(bins, features)
    settings = NeighborSettings(k, metric, seed)
    found = search.nearest_of_groups(
        features, settings, of=of, among=among, bins=_options.bins(bins), note=_output.note(quiet)
    )
    same = found.few_class[(found.distance == 0).any(axis=1)]
    if len(same):
        _output.say(
            f"note: {len(same)} classes, as {features.classes.name(int(same[0]))}, have the mean "
            "feature of a neighbour; ties are in the order of class ids",
            quiet,
        )
    if output is not None:
        neighbors_file.write(
            output,
            found,
            settings=as_json(settings) | {"of": of, "among": among, "bins": bins},
            inputs={"features": features.digest},
            command=_output.command_line(),
        )
        _output.wrote(output, quiet)
        return
    classes = features.classes
    rows = [
        {
            "class": int(c), "name": classes.name(c), "train_count": int(classes.train_count[c]),
            "neighbors": [
                {"class": int(b), "name": classes.name(b), "distance": float(d)}
                for b, d in zip(near, distance, strict=True)
            ],
        }
        for c, near, distance in zip(found.few_class, found.base_class, found.distance, strict=True)
    ]  # fmt: skip
    if json:
        _output.print_json(
            {"schema": "ltkit.neighbors/1", "features": str(path), "metric": metric, "rows": rows}
        )
        return
    if _output.for_people():
        called = wordnet.readable_names(classes)
        title = f"{path}: {found.base_class.shape[1]} nearest {among} classes by {metric} distance"
        _output.print_fitting(partial(_table, found, called, classes.train_count), title)
        return
    for row in rows:
        near = ", ".join(f"{n['name']} {n['distance']:.3g}" for n in row["neighbors"])  # type: ignore[attr-defined]
        typer.echo(_output.printable(f"{row['name']} ({row['train_count']}): {near}"))


def _table(found: "Neighbors", names: list[str], counts: "Ints", look: _output.Look) -> "Table":
    """Return the table for a terminal: a bar from the nearest to the farthest neighbour."""
    from rich import box
    from rich.table import Table

    farthest = float(found.distance.max()) or 1.0
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("class", overflow="fold")
    table.add_column("training\nsamples", justify="right")
    table.add_column(f"distance\nbar 0 to {farthest:.3g}", no_wrap=True)
    table.add_column("nearest classes, distance", overflow="fold")
    for c, near, distance in zip(found.few_class, found.base_class, found.distance, strict=True):
        table.add_row(
            safe(names[c]), str(counts[c]),
            look.bar((distance[0], distance[-1]), (0, farthest)).strip(),
            ", ".join(f"{safe(names[b])} {d:.3g}" for b, d in zip(near, distance, strict=True)),
        )  # fmt: skip
    return table
