"""``ltkit extract``."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _options, _output
from ltkit.settings import Amp, ExtractSettings

if TYPE_CHECKING:
    from ltkit.checkpoints import Recognised
    from ltkit.records import Dataset


FromAlphaNet = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The published AlphaNet code's features; CKPT is its classifier; no images.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Dataset name, folder, list file or CSV.", show_default=False),
]


def extract(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="The model's checkpoint.")],
    data: Data = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("feats.h5"),
    arch: _options.Arch = None,
    head: _options.HeadName = None,
    weights: _options.WeightsKind = None,
    scale: _options.Scale = None,
    linear: _options.Linear = False,
    mean: _options.Mean = None,
    std: _options.Std = None,
    base_model: _options.BaseModel = None,
    trust_code: _options.TrustCode = False,
    splits: Annotated[
        str | None, typer.Option(help="Which splits, as train,val,test; default: all.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = ExtractSettings.dtype,
    batch_size: Annotated[int, _options.setting("batch_size")] = ExtractSettings.batch_size,
    workers: Annotated[
        int, _options.setting("workers", "Threads that decode images.")
    ] = ExtractSettings.workers,
    amp: Annotated[Amp, typer.Option(help="Mixed precision.")] = ExtractSettings.amp,
    on_error: Annotated[
        str, typer.Option(help="fail, or skip images that cannot be read.")
    ] = ExtractSettings.on_error,
    device: _options.Device = "auto",
    from_alphanet: FromAlphaNet = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write a model's penultimate features, labels, class names and last layer into one file.

    Example: ltkit extract model.pt --data cifar100_lt --root data/ -o feats.h5
    """
    from ltkit import checkpoints, datasets
    from ltkit.errors import InputError
    from ltkit.files.atomic import check_output
    from ltkit.files.features_writer import is_finished
    from ltkit.sources import extraction
    from ltkit.sources.published_alphanet import import_alphanet

    if (data is None) == (from_alphanet is None):
        raise InputError("extract: expected --data, or --from-alphanet")
    settings = ExtractSettings(
        batch_size,
        workers,
        _options.one_of(dtype, ("float32", "float16"), "--dtype"),  # type: ignore[arg-type]
        amp,
        _options.one_of(on_error, ("fail", "skip"), "--on-error"),  # type: ignore[arg-type]
    )
    finished = resume and is_finished(output)
    check_output(output, overwrite=overwrite or finished, inputs=(checkpoint,))
    if data is None or from_alphanet is not None:
        import_alphanet(
            checkpoint, Path(str(from_alphanet)), output, dtype=settings.dtype,
            command=_output.command_line(),
        )  # fmt: skip
        return _output.wrote(output, quiet)
    chosen_device = _options.device_of(device)
    said = _options.load_settings(
        arch, head, weights, scale, linear, mean, std, trust_code, base_model
    )
    dataset = datasets.load(data, root, follow_links=follow_links)
    _output.say_of_doubles(dataset, quiet)
    model = checkpoints.load(checkpoint, replace(said, class_names=dataset.classes.names or ()))
    names = _splits(splits, dataset)
    _say_what(checkpoint, model, dataset, names, quiet)
    try:
        extraction.extract(
            model, dataset, names, output, settings,
            device=chosen_device, command=_output.command_line(), resume=resume,
            report=_output.Progress("images", quiet), note=partial(_output.say, quiet=quiet),
        )  # fmt: skip
    except KeyboardInterrupt:
        _output.say("interrupted; finished blocks are kept, go on with --resume")
        raise
    return _output.wrote(output, quiet)


def _splits(asked: str | None, dataset: "Dataset") -> list[str]:
    """Return the splits asked for; all that there are where none was named."""
    from ltkit.records import SPLITS

    if asked is not None:
        return _options.words(asked, "--splits")
    return [name for name in SPLITS if name in dataset.splits]


def _say_what(
    path: Path, model: "Recognised", dataset: "Dataset", splits: list[str], quiet: bool
) -> None:
    """Say what was recognised in the checkpoint, and which images it is going to see."""
    found = model.head
    head = f"{found.num_classes} x {found.feature_size}" if found else "none, embeddings alone"
    _output.say(f"{path}: {model.family} checkpoint, {model.arch}, head {head}", quiet)
    for note in model.notes:
        _output.say(f"note: {note}", quiet)
    if model.skipped:
        _output.say(f"note: not plain data, skipped: {', '.join(model.skipped[:5])}", quiet)
    described = ", ".join(f"{name} {len(dataset.split(name))}" for name in splits)
    _output.say(f"{dataset.record['spec']}: {described} images", quiet)
    trained = model.trained_on
    if trained and trained.get("index_digest") != dataset.record["index_digest"]:
        _output.say(
            f"note: the checkpoint was trained on other images ({trained.get('spec')}); "
            "validation images may be among them",
            quiet,
        )
