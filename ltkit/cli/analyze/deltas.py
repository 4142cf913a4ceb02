"""``ltkit analyze deltas``."""

from typing import Any

from ltkit.cli import _options, _output, _tables
from ltkit.cli.analyze._reading import Csv, read
from ltkit.cli.analyze._results import give, percent, table_of, title
from ltkit.settings import GROUPS


def deltas(
    files: _options.FeatsAndClassifiers = None,
    base: _options.Base = None,
    split: _options.Split = "test",
    bins: _options.Bins = None,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print the change of accuracy against rho, by shot group.

    Changes are means over seeds, for few, medium, many and overall. Fits that differ only in rho
    and seed make one curve, whether in one file or several; as a control, add a fit with --metric
    random. Equal rho does not mean equal overall accuracy: ltkit compare draws curves of few-shot
    against overall accuracy.

    \b
    --json prints fractions, null where there is none:
      baseline   accuracy by group
      curves     name, files, metric, k, and points: rho, runs; change, std and interval by group

    Example: ltkit analyze deltas feats.h5 feats.alphanet.h5 feats.random.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_deltas

    subject, named = read(files, base, split, bins, csv, overwrite, quiet, with_rho=True)
    document = analyze_deltas(subject, strict=named, note=_output.note(quiet))
    give(document, _show, _table, csv, json, quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [curve["name"], curve["metric"], curve["k"], point["rho"], point["runs"], group,
         point["change"][group], point["std"] and point["std"][group]]
        for curve in document["curves"]
        for point in curve["points"]
        for group in GROUPS
    ]  # fmt: skip
    heading = ["curve", "metric", "k", "rho", "runs", "group", "change", "std"]
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    baseline = document["baseline"]
    same = abs(baseline["all"] - baseline["balanced"]) < 1e-9
    columns = GROUPS[:-1] if same else GROUPS
    table = table_of("change in points", "rho", "seeds", *columns)
    own = [percent(baseline[name]) for name in columns]
    name = _tables.safe(document["base"]["name"])
    table.add_row(f"{name}, accuracy in %", "", "", *own, end_section=True)
    for curve in document["curves"]:
        for point in curve["points"]:
            std = point["std"] or {}
            cells = [percent(point["change"][name], std.get(name), "+") for name in columns]
            table.add_row(
                _tables.safe(curve["name"]), f"{point['rho']:g}", str(point["runs"]), *cells,
                end_section=point is curve["points"][-1],
            )  # fmt: skip
    _output.print_table(table, f"{title(document)}; mean ± std over seeds")
