"""``ltkit data``."""

from typing import Annotated

import typer

from ltkit.cli import _options, _output

app = typer.Typer(help="Datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(json: _options.Json = False) -> None:
    """List the known datasets, their sizes and what they need.

    Example: ltkit data list
    """
    from ltkit.datasets import CATALOGUE

    if json:
        from dataclasses import asdict

        datasets = {name: asdict(spec) for name, spec in CATALOGUE.items()}
        _output.print_json({"schema": "ltkit.data-list/1", "datasets": datasets})
        return
    for name, spec in CATALOGUE.items():
        parameters = ", ".join(f"{k}={v}" for k, v in spec.parameters.items())
        typer.echo(
            f"{name}: {spec.summary}; {spec.num_classes} classes, {spec.train_images} training "
            f"images, {spec.max_count} to {spec.min_count} a class [{parameters}]; "
            f"needs {spec.needs}"
        )


@app.command()
def info(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Name, folder, list file or CSV.")],
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    bins: _options.Bins = _options.BINS,
    json: _options.Json = False,
) -> None:
    """Show a dataset's splits, class counts and shot groups.

    Example: ltkit data info digits_lt:ir=10
    """
    from ltkit import datasets
    from ltkit.records import shot_groups

    called = _options.columns(columns)
    dataset = datasets.load(spec, root, follow_links=follow_links, columns=called)
    _output.say_notes(dataset)
    counts = dataset.classes.train_count
    groups = shot_groups(counts, _options.bins(bins))
    document = {
        "schema": "ltkit.data-info/1",
        "dataset": dict(dataset.record),
        "splits": {name: len(split) for name, split in dataset.splits.items()},
        "classes": len(counts),
        "train_counts": counts.tolist(),
        "groups": {name: len(ids) for name, ids in groups.items()},
    }
    if json:
        _output.print_json(document)
        return
    typer.echo(f"{dataset.record['spec']} (index digest {dataset.record['index_digest']})")
    typer.echo(", ".join(f"{name} {size}" for name, size in document["splits"].items()))
    typer.echo(
        f"{len(counts)} classes, {counts.max()} to {counts.min()} training images; "
        + ", ".join(f"{name} {len(ids)}" for name, ids in groups.items())
    )
