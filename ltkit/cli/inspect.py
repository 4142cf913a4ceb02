"""``ltkit inspect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _contents, _loading, _network_options, _options, _output, _paths
from ltkit.errors import InputError
from ltkit.settings import LoadSettings, as_json

if TYPE_CHECKING:
    from ltkit.records import Head

NAMES = 20
"""So many names of classes are shown."""


def inspect(
    file: Annotated[
        Path | None, typer.Argument(help="An ltkit file, or a checkpoint.", show_default=False)
    ] = None,
    bins: _options.Bins = None,
    arch: _network_options.Arch = None,
    head: _network_options.HeadName = None,
    weights: _network_options.WeightsKind = None,
    scale: _network_options.Scale = None,
    linear: _network_options.Linear = False,
    base_model: _network_options.BaseModel = None,
    trust_code: _network_options.TrustCode = False,
    own_model: _network_options.OwnModel = None,
    model_arg: _network_options.ModelArgs = None,
    isolate: Annotated[
        bool,
        typer.Option(help="Read an ltkit file in a child process with limited time and memory."),
    ] = False,
    families: Annotated[
        bool, typer.Option("--families", help="List the layouts of checkpoints that are known.")
    ] = False,
    json: _options.Json = False,
) -> None:
    """Show what a file is, where it came from and what is in it; --json has everything.

    For a checkpoint, show what `extract` would take from it; needs no images.

    Example: ltkit inspect feats.h5
    """
    if families:
        return _families(json)
    if file is None:
        raise InputError("inspect: expected FILE, or --families")
    if not file.is_file() or not _is_hdf5(file):
        wanted = _loading.load_settings(
            arch,
            head,
            weights,
            scale,
            linear,
            None,
            None,
            trust_code,
            base_model,
            own_model,
            model_arg,
        )
        document = _checkpoint(file, wanted)
    else:
        from ltkit.files import isolated

        wanted_bins = _options.bins(bins)
        document = (
            isolated.call(_ltkit_file, file, wanted_bins)
            if isolate
            else _ltkit_file(file, wanted_bins)
        )
    if json:
        return _output.print_json(document)
    made_from = _paths.made_from(file) if "inputs" in document else None
    for key, value in _contents.lines_of(document, "" if made_from is None else str(made_from)):
        typer.echo(_output.printable(f"{key + ':':<14}{value}"))
    return None


def _families(json: bool) -> None:
    """Show the layouts of checkpoints that are known, in the order in which they are asked."""
    from ltkit import checkpoints

    rows = checkpoints.families_table()
    if json:
        return _output.print_json({"schema": "ltkit.families/1", "families": rows})
    for row in rows:
        typer.echo(_output.printable(f"{row['family']:<22}{row['files']}"))
    return None


def _is_hdf5(file: Path) -> bool:
    from ltkit.files.opening import MAGIC

    with file.open("rb") as start:
        return start.read(len(MAGIC)) == MAGIC


def _ltkit_file(file: Path, bins: list[int] | None) -> dict[str, Any]:
    from ltkit.files import features as features_file
    from ltkit.files import hdf5
    from ltkit.files.contents import FORMAT_VERSION

    contents = hdf5.read(file, *hdf5.KINDS.values())
    document: dict[str, Any] = {
        "schema": "ltkit.inspect/1",
        "file": str(file),
        "format": f"{contents.kind.name} v{FORMAT_VERSION}",
        "digest": contents.root["digest"],
        "written_by": contents.root["written_by"],
        "command": contents.root["command"],
        "settings": contents.settings,
        "inputs": contents.inputs,
    }
    if contents.kind is not hdf5.FEATURES:
        for name, rows in sorted(contents.datasets.items()):
            document[name] = f"{rows.shape} {rows.dtype}"
        return document | (_of_correction(file) if contents.kind is hdf5.CLASSIFIER else {})
    found = features_file.read(file)
    for name, split in found.splits.items():
        document[name] = f"{len(split)} x {found.feature_size} {split.features.dtype}"
    document["classes"] = len(found.classes)
    groups = found.groups(bins)
    document["shot_groups"] = {name: len(ids) for name, ids in groups.items()}
    counts = found.classes.train_count
    document |= {
        "bins": list(found.bins if bins is None else bins),
        "train_count": [int(counts.min()), int(counts.max())],
        "class_names": list((found.classes.names or ())[:NAMES]),
        "samples": {name: len(split) for name, split in found.splits.items()},
        "feature_size": found.feature_size,
        "dtype": str(next(iter(found.splits.values())).features.dtype),
    }
    if found.head is not None:
        document["head"] = _of_head(found.head)
    return document


def _of_correction(file: Path) -> dict[str, Any]:
    """Return a correction's method, how many classes it changes, and what its runs differ in."""
    from ltkit.files import classifiers

    correction, _ = classifiers.read(file)
    every = correction.runs
    values = {name: [run.get(name) for run in every] for name in every[0]}
    varied = {name: list({repr(v): v for v in of}.values()) for name, of in values.items()}
    varied = {name: of for name, of in varied.items() if len(of) > 1}
    return {
        "method": correction.method, "corrected": len(correction.class_id),
        "run_count": len(every), "varied": varied,
    }  # fmt: skip


def _of_head(head: "Head") -> dict[str, Any]:
    return {
        "classes": head.num_classes, "features": head.feature_size, "experts": head.experts,
        "normalize": head.normalize, "scale": head.scale,
    }  # fmt: skip


def _checkpoint(file: Path, wanted: LoadSettings) -> dict[str, Any]:
    from ltkit import checkpoints

    model = checkpoints.load(file, wanted)
    head = model.head
    return {
        "schema": "ltkit.inspect/1",
        "file": str(file),
        "format": f"checkpoint, {model.family}",
        "digest": model.digest,
        "arch": model.arch,
        "head": _of_head(head) if head else {},
        "class_names": list(model.class_names[:NAMES]) if model.class_names else "not said",
        "head_tensors": {
            ours: ".".join((*there.place, there.name)) for ours, there in model.stored.items()
        },
        "mean": list(model.mean),
        "std": list(model.std),
        "image_size": model.image_size,
        "view": (as_json(model.view) if model.view else {})
        | {"from": "checkpoint" if model.view_said else "architecture"},
        "trained_on": str(model.trained_on.get("spec", "not said")),
        "prototypes": None if model.prototypes is None else len(model.prototypes),
        "notes": list(model.notes),
        "skipped": list(model.skipped),
    }  # fmt: skip
