"""``ltkit diagnose``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _inputs, _options, _output, _paths, _tables
from ltkit.settings import FOLDS, REPLICATES, NeighborSettings

if TYPE_CHECKING:
    from rich.table import Table


def diagnose(
    feats: _options.Feats = None,
    base: _options.Base = None,
    k: Annotated[
        int, _options.setting("k", "Frequent classes that count as near a rare one.", "--k")
    ] = NeighborSettings.k,
    split: _options.Split = "val",
    bins: _options.Bins = None,
    folds: Annotated[int, _options.setting("folds", "Parts of the split.")] = FOLDS,
    count: Annotated[
        int, _options.setting("k", "Most classes listed.", "--count", called="--count")
    ] = 10,
    replicates: _options.Replicates = REPLICATES,
    seed: _options.Seed = 0,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Say why rare classes fail: the prior, their rows, frequent neighbours, or the features.

    Three heads are compared on a split, in folds that they were not fitted to: the model's own,
    the same with the right offsets, and one fitted to balanced features that the network was not
    trained on. The four parts add up to the error of the first; docs/diagnose.md defines them. The
    test split is not read, unless --split says so.

    \b
    --json prints one document:
      error, interval       of the rare classes together, as a fraction
      parts, intervals      by cause: prior, rows, confusion, separation
      cause, sure           the largest part, and in which share of resamples it is the largest
      offset                gained: what offsets give these classes; taken: from frequent ones
      heads                 of the three: accuracy by group, and what was chosen in how many folds
      classes               the same for each class, with id, name, train_count, samples, near

    Example: ltkit diagnose feats.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit import diagnosis

    path = _paths.features_path(feats, quiet)
    features = _inputs.read_features(path, base, quiet)
    found = diagnosis.diagnose(
        features, split, k=k, folds=folds, bins=_options.bins(bins), replicates=replicates,
        seed=seed, report=_output.Progress("heads", quiet, after=2),
    )  # fmt: skip
    document = found.document | {"features": str(path)}
    for line in document["notes"]:
        _output.say(f"note: {line}", quiet)
    if json:
        return _output.print_json(document)
    for line in str(found).splitlines():
        typer.echo(_output.printable(line))
    title = "rare classes by error, and its parts, in % of their samples"
    _output.print_fitting(partial(_table, document, count), title)
    if (more := len(document["classes"]) - count) > 0:
        _output.say(f"note: {more} more classes: --count or --json", quiet)
    return None


def _table(document: dict[str, Any], count: int, look: _output.Look) -> "Table":
    """Return a table with a row for each rare class, the greatest error first."""
    causes = list(document["parts"])
    table = _tables.table_of("class (training images)", ["error", *causes], look)
    table.add_column("mostly", justify="right")
    if not look.narrow:
        table.add_column("near", overflow="fold")
    for row in document["classes"][:count]:
        cells = [
            _tables.cell(row["parts"], row["intervals"], None, cause, look=look) for cause in causes
        ]
        error = _tables.cell(
            {"error": row["error"]}, {"error": row["interval"]}, None, "error", look=look
        )
        table.add_row(
            _tables.safe(f"{row['name']} ({row['train_count']})"), error, *cells,
            row["cause"] or "–", *([] if look.narrow else [_tables.safe(", ".join(row["near"]))]),
        )  # fmt: skip
    return table
