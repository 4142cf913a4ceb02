"""``ltkit alphanet sweep``."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ltkit.cli import _inputs, _options, _output, _paths
from ltkit.cli.alphanet._settings import RHO, Epochs, Of, Precision, VariantName, chosen
from ltkit.settings import GROUPS, AlphaNetSettings, Metric, Select, as_json

if TYPE_CHECKING:
    from rich.table import Table

METRICS = get_args(Metric)

Ks = Annotated[str, typer.Option("--k", help="Neighbours per class; a list.")]
Rhos = Annotated[str, typer.Option(help=f"Base samples per few-shot sample; a list, each {RHO}.")]
Metrics = Annotated[str, typer.Option(help=f"Distances between classes: {','.join(METRICS)}.")]
ChosenBy = Annotated[
    Select, typer.Option(help="Accuracy on the validation split that the setting is chosen by.")
]
AtMostLoss = Annotated[
    float | None,
    _options.setting(
        "at_most_loss",
        "Choose among settings that lose at most this many points of overall accuracy.",
        show_default=False,
    ),
]
Csv = Annotated[
    Path | None, typer.Option(help="Also write the table to a CSV file.", show_default=False)
]


def sweep(
    feats: _options.Feats = None,
    base: _options.Base = None,
    k: Ks = "1,5,10",
    rho: Rhos = "0.1,0.25,0.5,0.75,1,1.25,1.5,2,3",
    metric: Metrics = "euclidean",
    seeds: _options.Seeds = 10,
    variant: VariantName = "paper",
    of: Of = "few",
    select: ChosenBy = "balanced",
    at_most_loss: AtMostLoss = None,
    epochs: Epochs = AlphaNetSettings.epochs,
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    amp: Precision = AlphaNetSettings.amp,
    csv: Csv = None,
    output: _options.Output = None,
    shard: _options.Shard = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Fit many settings; keep the best one on the validation split.

    The output has the runs of the chosen setting. Finished fits are kept next to it until all are
    done; --resume reuses them. With --shard, several processes fit at once.

    Example: ltkit alphanet sweep feats.h5 --k 5,10 --rho 0.5,1,2 --select few --at-most-loss 0.5
    """
    from ltkit import alphanet
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output
    from ltkit.files.scratch import Parts, plain

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet-sweep")
    settings = AlphaNetSettings(epochs=epochs, amp=amp, **chosen(variant, None, None))
    rhos, chosen_device = _options.numbers(rho, "rho"), _options.device_of(device)
    metrics, ks = _metrics(metric), _options.whole_numbers(k, "k")
    features = _inputs.read_features(path, base, quiet)
    bins = _options.bins_text(bins, features)
    check_output(target, overwrite=overwrite, inputs=(path,), shared=shard is not None)
    if csv is not None and shard is None:
        check_output(csv, overwrite=overwrite, inputs=(path, target))
    asked = as_json(settings) | {"rho": rho, "seeds": seeds, "seed": seed, "bins": bins, "of": of}
    beside, kept = target.with_name(f"{target.name}.parts"), plain(asked | features.inputs)
    parts = Parts(beside, kept, resume=resume, shard=shard)
    words: dict[str, Any] = {
        "ks": ks, "metrics": metrics, "rhos": rhos, "seeds": seeds, "seed": seed,
        "of": _options.words(of, "--of", "+"), "bins": _options.bins(bins), "parts": parts,
        "device": chosen_device, "report": partial(_output.say, quiet=quiet),
        "note": _output.note(quiet),
    }  # fmt: skip
    if shard is not None:
        counts = len(alphanet.fit_shard(features, settings, **words)), len(ks) * len(metrics)
        return _output.end_of_shard(shard, *counts, beside, target, json=json, quiet=quiet)
    swept = alphanet.sweep_features(
        features, settings, **words, select=select,
        at_most_loss=None if at_most_loss is None else at_most_loss / 100,
    )  # fmt: skip
    best, by = swept.chosen, {"select": select, "at_most_loss": at_most_loss}
    rows = [_row(point, point is best) for point in (swept.baseline, *swept.points)]
    classifiers.write(
        target, swept.correction,
        settings=asked | {"k": best.k, "metric": best.metric, "rho": best.rho} | by
        | {"tried": rows},
        inputs=features.inputs, command=_output.command_line(),
    )  # fmt: skip
    if csv is not None:
        _write_csv(csv, rows, quiet)
    parts.remove()
    setting = f"k {best.k}, {best.metric}, rho {best.rho:g}"
    _output.say(f"chosen by {select} accuracy on val: {setting}", quiet)
    if json:
        document = {"schema": "ltkit.alphanet-sweep/1", "features": str(path), "split": "val"}
        return _output.print_json(document | by | {"output": str(target), "rows": rows})
    _print(rows, select, f"{path}, val split")
    return _output.say(f"wrote {target}", quiet)


def _metrics(text: str) -> list[str]:
    """Read the names of distances."""
    return [_options.one_of(name, METRICS, "--metric") for name in _options.words(text, "--metric")]


def _print(rows: Sequence[dict[str, Any]], select: str, title: str) -> None:
    """Print the table, with bars on a terminal."""
    if _output.for_people():
        _output.print_fitting(partial(_rich_table, rows, select), title)
    else:
        for line in _table(rows):
            typer.echo(line)


def _row(point: Any, chosen: bool) -> dict[str, Any]:
    return {
        "k": point.k, "metric": point.metric, "rho": point.rho, "seeds": point.seeds,
        "accuracy": dict(point.accuracy), "std": dict(point.std), "chosen": chosen,
    }  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table, in %, on the validation split."""
    lines = [f"{'metric':<10}{'k':>4}{'rho':>7}" + "".join(f"{g:>14}" for g in GROUPS)]
    for row in rows:
        knobs = f"{row['metric']:<10}{row['k']:>4}{row['rho']:>7g}"
        name = knobs if row["k"] else f"{'baseline':<21}"
        marks = "  chosen" if row["chosen"] else ""
        lines.append(name + "".join(f"{_cell(row, g):>14}" for g in GROUPS) + marks)
    return lines


def _cell(row: dict[str, Any], group: str) -> str:
    value, deviation = row["accuracy"][group], row["std"][group]
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation else "")


def _rich_table(rows: Sequence[dict[str, Any]], select: str, look: _output.Look) -> "Table":
    """Return the table for a terminal, with bars for the accuracy the setting was chosen by."""
    from rich import box
    from rich.table import Table

    def ends(row: dict[str, Any]) -> list[float] | None:
        value, std = row["accuracy"][by], row["std"][by] or 0.0
        return None if value is None else [max(value - std, 0.0), value + std]

    by = select if select in GROUPS else "balanced"
    same = all(row["accuracy"]["all"] == row["accuracy"]["balanced"] for row in rows)
    groups = GROUPS[:-1] if same else GROUPS
    scale = _output.scale_of(map(ends, rows))
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("metric")
    for name in ("k", "rho", *groups):
        table.add_column(name, justify="right")
    table.add_column(f"{by} ± std\nbar 0 to {100 * scale[1]:.0f}", no_wrap=True)
    for row in rows:
        knobs = [row["metric"], str(row["k"]), f"{row['rho']:g}"]
        cells = [_cell(row, group) for group in groups]
        if look.narrow:  # deviations are in the bar
            cells = [cell.split(" ± ")[0] for cell in cells]
        table.add_row(
            *(knobs if row["k"] else ["baseline", "", ""]), *cells,
            look.bar(ends(row), scale).strip() + " *" * row["chosen"],
            style="bold" if row["chosen"] else "",
        )  # fmt: skip
    return table


def _write_csv(target: Path, rows: Sequence[dict[str, Any]], quiet: bool) -> None:
    from ltkit.files.tables import write_csv

    columns = [f"{group}{suffix}" for group in GROUPS for suffix in ("", "_std")]
    table = [
        [
            row["metric"], row["k"], row["rho"], row["seeds"],
            *(row[part][group] for group in GROUPS for part in ("accuracy", "std")),
            int(row["chosen"]),
        ]
        for row in rows
    ]  # fmt: skip
    write_csv(target, ["metric", "k", "rho", "seeds", *columns, "chosen"], table, digits=None)
    _output.say(f"wrote {target}", quiet)
