"""``ltkit extract``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _loading, _network_options, _options, _output
from ltkit.errors import InputError, SettingError
from ltkit.numerals import read, shown
from ltkit.settings import RANGES, Amp, Auto, ExtractSettings

if TYPE_CHECKING:
    from ltkit.records import Dataset
    from ltkit.sources.preparation import Prepared


FromAlphaNet = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Features of the published AlphaNet code; CKPT is its classifier; needs no images.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Dataset name, folder, list file or CSV.", show_default=False),
]


Splits = Annotated[
    str | None, typer.Option(help="Splits to extract, e.g. train,val,test; default: all.")
]
StoredType = Annotated[str, typer.Option(help="Stored type: float32 or float16.")]
BatchSize = Annotated[int, _options.setting("batch_size", "Images per batch.")]
Workers = Annotated[int, _options.setting("workers", "Threads that decode images.")]
OnError = Annotated[str, typer.Option(help="On an unreadable image: fail, or skip it.")]
Precision = Annotated[Amp, typer.Option(help="Mixed precision.")]
OutputFile = Annotated[Path, typer.Option("--output", "-o", help="Output file.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CKPT", help="The model's checkpoint.")]


NoHead = Annotated[
    bool,
    typer.Option("--no-head", help="Leave out the last layer: it is for other classes than these."),
]


def _prototypes(given: object) -> int | Auto:
    """Read how many prototypes of local vectors are fitted."""
    text = str(given)
    found = "auto" if text == "auto" else read(text, RANGES["local"])
    if found is None:
        said = f"found {shown(text)}, expected auto, or {RANGES['local']}"
        raise SettingError("local", said)
    return found  # type: ignore[return-value]


Local = Annotated[
    Any,
    typer.Option(
        metavar="K",
        parser=_prototypes,
        help="Also store each image's shares in K prototypes of local vectors, fitted to the train "
        "split; auto takes the checkpoint's own, as train lpa leaves them, else 128.",
        show_default=False,
    ),
]


def extract(
    checkpoint: Checkpoint,
    data: Data = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    output: OutputFile = Path("feats.h5"),
    arch: _network_options.Arch = None,
    head: _network_options.HeadName = None,
    weights: _network_options.WeightsKind = None,
    scale: _network_options.Scale = None,
    linear: _network_options.Linear = False,
    image_size: _network_options.ImageSize = None,
    resize: _network_options.Resize = None,
    crop: _network_options.Crop = None,
    fit: _network_options.FitKind = None,
    window: _network_options.Window = None,
    interpolation: _network_options.InterpolationKind = None,
    mean: _network_options.Mean = None,
    std: _network_options.Std = None,
    base_model: _network_options.BaseModel = None,
    trust_code: _network_options.TrustCode = False,
    own_model: _network_options.OwnModel = None,
    model_arg: _network_options.ModelArgs = None,
    transform: _network_options.Transform = None,
    classes: _network_options.ClassOrder = None,
    no_head: NoHead = False,
    bins: _options.StoredBins = None,
    local: Local = None,
    splits: Splits = None,
    dtype: StoredType = ExtractSettings.dtype,
    batch_size: BatchSize = ExtractSettings.batch_size,
    workers: Workers = ExtractSettings.workers,
    amp: Precision = ExtractSettings.amp,
    on_error: OnError = ExtractSettings.on_error,
    device: _options.Device = "auto",
    from_alphanet: FromAlphaNet = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write a model's penultimate features, labels, class names and last layer into one file.

    Example: ltkit extract model.pt --data cifar100_lt --root data/ -o feats.h5
    """
    from ltkit.files.atomic import check_output
    from ltkit.files.features_writer import is_finished
    from ltkit.sources import extraction, preparation
    from ltkit.sources.published_alphanet import import_alphanet

    if (data is None) == (from_alphanet is None):
        raise InputError("extract: expected --data, or --from-alphanet")
    kind: Any = _options.one_of(dtype, ("float32", "float16"), "--dtype")
    broken: Any = _options.one_of(on_error, ("fail", "skip"), "--on-error")
    groups = _options.stored_bins(bins)
    settings = ExtractSettings(batch_size, workers, kind, amp, broken, groups, no_head, local)
    done = resume and is_finished(output)
    check_output(output, overwrite=overwrite or done, inputs=(checkpoint,))
    if data is None or from_alphanet is not None:
        files = checkpoint, Path(str(from_alphanet)), output
        import_alphanet(*files, dtype=settings.dtype, command=_output.command_line())
        return _output.wrote(output, quiet)
    device = _options.device_of(device)
    said = _loading.load_settings(
        arch, head, weights, scale, linear, mean, std, trust_code, base_model, own_model, model_arg
    )
    view = _loading.view_settings(image_size, resize, crop, fit, window, interpolation)
    made = preparation.prepare(
        checkpoint, data, root, wanted=said, view=view, transform=transform, classes=classes,
        no_head=no_head, follow_links=follow_links, columns=_options.columns(columns),
    )  # fmt: skip
    _say_what(checkpoint, made, names := _splits(splits, made.dataset), quiet)
    with _output.resumable("blocks"):
        extraction.extract(
            made.model, made.dataset, names, output, settings, seen=made.seen,
            device=device, command=_output.command_line(), resume=resume,
            report=_output.Progress("images", quiet), note=partial(_output.say, quiet=quiet),
        )  # fmt: skip
    _say_verdict(output, quiet)
    return _output.wrote(output, quiet)


def _say_verdict(output: Path, quiet: bool) -> None:
    """Say how right the model's own head is on what was extracted, and which groups are empty."""
    from ltkit.evaluation.verdict import of_groups, verdict
    from ltkit.files import features as features_file

    found = features_file.read(output)
    for line in (*(verdict(found) if found.head is not None else ()), *of_groups(found)):
        _output.say(line, quiet and not line.startswith("warning"))


def _splits(asked: str | None, dataset: "Dataset") -> list[str]:
    """Return the requested splits, by default all."""
    from ltkit.records import SPLITS

    if asked is not None:
        return _options.words(asked, "--splits")
    return [name for name in SPLITS if name in dataset.splits]


def _say_what(path: Path, made: "Prepared", splits: list[str], quiet: bool) -> None:
    """Report what was recognised in the checkpoint, and which images it will see."""
    model, dataset = made.model, made.dataset
    head = "no head"
    if model.head is not None:
        head = f"head {model.head.num_classes} x {model.head.feature_size}"
    _output.say(f"{path}: {model.family} checkpoint, {model.arch}, {head}", quiet)
    for note in model.notes:
        _output.say(f"note: {note}", quiet)
    if model.skipped:
        _output.say(f"note: not plain data, skipped: {', '.join(model.skipped[:5])}", quiet)
    described = ", ".join(f"{name} {len(dataset.split(name))}" for name in splits)
    _output.say(f"{dataset.record['spec']}: {described} images", quiet)
    _output.say_of_doubles(dataset, quiet)
    for line in made.notes:
        _output.say(line, quiet)
