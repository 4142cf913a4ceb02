"""``ltkit fix``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _advice, _loading, _measures, _network_options, _options, _output
from ltkit.settings import Amp, ExtractSettings

if TYPE_CHECKING:
    from ltkit.face import Model

Source = Annotated[
    Path,
    typer.Argument(metavar="CKPT", help="The model's checkpoint, or a features file of it."),
]
Data = Annotated[
    str | None,
    typer.Option(help="Dataset name, folder, list file or CSV; none for a features file."),
]
OutputFile = Annotated[
    Path,
    typer.Option(
        "--output", "-o",
        help="The corrected checkpoint; of a head alone, a npz, safetensors, csv or onnx file.",
    ),
]  # fmt: skip
Alone = Annotated[
    bool, typer.Option("--features-only", help="Write the head alone, and no checkpoint.")
]


def fix(
    checkpoint: Source,
    output: OutputFile,
    data: Data = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
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
    batch_size: Annotated[
        int, _options.setting("batch_size", "Images per batch.")
    ] = ExtractSettings.batch_size,
    amp: Annotated[Amp, typer.Option(help="Mixed precision.")] = ExtractSettings.amp,
    objective: _advice.Goal = None,
    keep: _advice.Keep = None,
    methods: _advice.Methods = None,
    with_alphanet: _advice.WithAlphaNet = False,
    prior: _measures.PriorOption = None,
    features_only: Alone = False,
    device: _options.Device = "auto",
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct a checkpoint in one go: extract, recommend, export, report.

    Beside the output lie feats.h5, feats.recommended.h5 and report.html. Each step's command is
    printed. A run that was stopped goes on when the same command is given again.

    Example: ltkit fix model.pt --data my_images/ -o fixed.pt
    """
    from ltkit import face

    wanted = _advice.wanted(objective, keep, methods, with_alphanet, prior=prior)
    source: Model | Path = checkpoint
    if data is not None:
        said = _loading.load_settings(
            arch, head, weights, scale, linear, mean, std, trust_code, base_model, own_model,
            model_arg,
        )  # fmt: skip
        view = _loading.view_settings(image_size, resize, crop, fit, window, interpolation)
        settings = ExtractSettings(batch_size=batch_size, amp=amp)
        source = face.Model(
            checkpoint, data, root, said, view, settings, transform, classes, follow_links,
            _options.columns(columns), _options.device_of(device),
        )  # fmt: skip
    found = face.fix(
        source, output, wanted=wanted, features_only=features_only, overwrite=overwrite,
        say=partial(_output.say, quiet=quiet), report=_progress(quiet),
    )  # fmt: skip
    for line in str(found.recommendation).splitlines():
        _output.answer(line)
    if found.recommendation.keep:
        _output.say(f"{output} has the head as it was", quiet)
    for beside in (found.features, found.classifier, found.page):
        _output.say(f"wrote {beside}", quiet)
    _output.wrote(output, quiet)


def _progress(quiet: bool) -> Callable[[str, int, int], None]:
    """Return what shows how far the images of a split are, or the methods."""
    images, methods = _output.Progress("images", quiet), _output.Progress("methods", quiet)

    def show(what: str, done: int, total: int) -> None:
        (methods if what == "methods" else images)(what, done, total)

    return show
