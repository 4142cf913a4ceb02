"""``ltkit data info``."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ltkit.cli import _options, _output
from ltkit.settings import BINS

MANY = 20_000
"""Images from which on it is shown how many were looked at."""

SHOWN = 5
"""Sizes that are shown one by one."""


def info(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="Dataset name, folder, list file or CSV.")
    ],
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    bins: _options.Bins = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave the image files closed.")] = False,
    json: _options.Json = False,
) -> None:
    """Show a dataset's splits, class counts and shot groups, and what its images are like.

    Of image files: their sizes, those that are missing or none, and those that have the same
    bytes, across splits and classes, too.

    Example: ltkit data info digits_lt:ir=10
    """
    from ltkit import datasets
    from ltkit.datasets.survey import survey
    from ltkit.records import shot_groups

    called = _options.columns(columns)
    dataset = datasets.load(spec, root, follow_links=follow_links, columns=called)
    _output.say_notes(dataset)
    counts = dataset.classes.train_count
    groups = shot_groups(counts, _options.bins(bins) or BINS)
    seen = None
    if not quick:
        many = sum(map(len, dataset.splits.values())) > MANY
        shown = _output.Progress("images", quiet=not many)
        seen = survey(dataset, lambda done, total: shown("looked at", done, total)).document()
    document = {
        "schema": "ltkit.data-info/1",
        "dataset": dict(dataset.record),
        "notes": list(dataset.notes),
        "splits": {name: len(split) for name, split in dataset.splits.items()},
        "classes": len(counts),
        "train_counts": counts.tolist(),
        "groups": {name: len(ids) for name, ids in groups.items()},
        "images": seen,
    }
    if json:
        _output.print_json(document)
        return
    _print(document)


def _print(document: dict[str, Any]) -> None:
    """Print what a dataset is, a line for each thing."""
    counts, seen = document["train_counts"], document["images"]
    typer.echo(
        f"{document['dataset']['spec']} (index digest {document['dataset']['index_digest']})"
    )
    typer.echo(", ".join(f"{name} {size}" for name, size in document["splits"].items()))
    typer.echo(
        f"{len(counts)} classes, {max(counts)} to {min(counts)} training images; "
        + ", ".join(f"{name} {size}" for name, size in document["groups"].items())
    )
    for line in _described(seen) if seen else ():
        typer.echo(_output.printable(line))


def _described(seen: dict[str, Any]) -> Iterator[str]:
    """Give a line for each thing that was seen of the images."""
    if sizes := seen["sizes"]:
        described = [f"{s['width']} x {s['height']} ({s['images']})" for s in sizes[:SHOWN]]
        if len(sizes) > SHOWN:
            described.append(f"and {len(sizes) - SHOWN} more, {_span(sizes)}")
        modes = ", ".join(f"{mode} ({count})" for mode, count in seen["modes"].items())
        yield f"pixels: {', '.join(described)}; modes: {modes}"
    for what in ("missing", "unreadable"):
        if seen[what]:
            yield f"{what}: {len(seen[what])} of {seen['images']} images, the first {seen[what][0]}"
    if doubles := seen["doubles"]:
        first, second = (f"{place['split']} {place['name']}" for place in doubles[0][:2])
        groups = "1 group" if len(doubles) == 1 else f"{len(doubles)} groups"
        yield (
            f"the same bytes: {sum(map(len, doubles))} images in {groups}, "
            f"{seen['doubles_across_splits']} across splits, {seen['doubles_across_classes']} "
            f"across classes; the first {first} = {second}"
        )
    if nested := seen["nested"]:
        yield f"in a class's folder within a class's folder: {len(nested)}, the first {nested[0]}"


def _span(sizes: list[dict[str, int]]) -> str:
    """Return the least and the greatest shorter side."""
    sides = [min(size["width"], size["height"]) for size in sizes]
    return f"shorter sides {min(sides)} to {max(sides)}"
