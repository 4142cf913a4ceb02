"""``ltkit alphanet show``."""

from typing import Annotated, Any

import typer

from ltkit.cli import _inputs, _options, _output

NAMED = 3
"""Most classes named among those that a class is mistaken for."""


def show(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FEATS] [FIT]",
            help="Features file, then a file of alphanet fit; default: the only fit next to FEATS.",
            show_default=False,
        ),
    ] = None,
    base: _options.Base = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME_OR_ID",
            show_default=False,
            help="Class to show; may be repeated; default: those whose accuracy changed most.",
        ),
    ] = None,
    most: Annotated[
        int, _options.setting("most", "How many of those; 0 for all corrected classes.")
    ] = 10,
    rho: Annotated[
        float | None,
        _options.setting(
            "rho", "Rho of the runs to show, if the fit has several.", show_default=False
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Show a single run, e.g. seed=0; may be repeated."),
    ] = None,
    split: _options.Split = "test",
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Show what a fit learned: combinations, accuracies and mistakes.

    Coefficients are those that act: of a fit with --scale, that part of what was learned. A class's
    own row has coefficient 1; with --onto it is the row of that head. Before is the features' own
    head, or --base.

    With several seeds, prints means and standard deviations; random neighbours differ between
    seeds, and a coefficient is 0 in the runs without that neighbour.

    \b
    --json prints fractions in 0..1, null where there is none:
      rows       class, name, train_count, samples, combination (class, name, alpha, std, runs; the
                 class's own row has coefficient 1), bias and accuracy (before, after, std),
                 mistakes (class, name, before, after, std: samples), most frequent first

    Example: ltkit alphanet show feats.h5 feats.alphanet.h5 --class wolf --rho 1
    """  # fmt: skip # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit import alphanet

    path, named = _inputs.features_and_named(files, quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet)
    document = alphanet.explain_fit(
        features, entries, classes=class_ or [],
        most=most, rho=rho, run=_options.settings(run or [], "--run"), split=split,
    )  # fmt: skip
    if json:
        _output.print_json(document)
        return
    settings, runs = document["settings"], document["runs"]
    told = ("metric", "k", "rho", *(["seed"] if run else []))
    knobs = ", ".join(
        f"{name} {v}" if isinstance(v := settings[name], str) else f"{name} {v:g}" for name in told
    )
    over = f", mean ± std over {runs} seeds" if runs > 1 else ""
    composed = _composed_in_words(settings)
    typer.echo(
        _output.printable(f"{document['fit']}: {knobs}{composed}{over}; {path}, {split} split")
    )
    for row in document["rows"]:
        for line in _in_words(row, int(settings["k"]), ".3f" if composed else ".2f"):
            typer.echo(_output.printable(line))


def _composed_in_words(settings: dict[str, Any]) -> str:
    """Return how a fit was composed; nothing of AlphaNet as published."""
    if "prior_offset" not in settings:
        return ""
    onto = settings["onto"]
    head = "" if onto is None else f", onto the head {onto[:12] or 'in memory'}"
    return f", scale {settings['scale']:g}, prior offset {settings['prior_offset']:g}{head}"


def _in_words(row: dict[str, Any], terms: int, form: str) -> list[str]:
    """Return the lines about a class: its `terms` largest coefficients, and mistakes."""

    def spread(std: float | None, form: str, factor: float = 1) -> str:
        return "" if std is None else f" ± {factor * std:{form}}"

    ordered = sorted(row["combination"], key=lambda part: -abs(part["alpha"]))
    own = "".join(
        f" {'-' if part['alpha'] < 0 else '+'} {abs(part['alpha']):{form}}"
        f"{spread(part['std'], form)} {part['name']}"
        for part in ordered[:terms]
    )
    more = f" and {len(ordered) - terms} more" if len(ordered) > terms else ""
    bias, accuracy = row["bias"], row["accuracy"]
    right = "no sample in this split"
    if row["samples"]:
        right = (
            f"accuracy {100 * accuracy['before']:.1f} -> {100 * accuracy['after']:.1f}"
            f"{spread(accuracy['std'], '.1f', 100)} % of {row['samples']}"
        )
    lines = [
        f"{row['name']} ({row['train_count']} training samples): {right}",
        f"  {row['name']} = own{own}{more}; bias {bias['before']:.2f} -> {bias['after']:.2f}"
        f"{spread(bias['std'], '.2f')}",
    ]
    for when in ("before", "after"):
        worst = sorted(row["mistakes"], key=lambda m: -m[when])[:NAMED]
        told = [
            f"{m['name']} {m[when]:.0f}"
            if when == "before" or m["std"] is None
            else f"{m['name']} {m[when]:.1f}{spread(m['std'], '.1f')}"
            for m in worst
            if m[when]
        ]
        if told:
            lines.append(f"  mistaken {when} for {', '.join(told)}")
    return lines
