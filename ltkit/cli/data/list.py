"""``ltkit data list``."""

import typer

from ltkit.cli import _options, _output


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
