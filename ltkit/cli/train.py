"""``ltkit train``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ltkit.cli import _fitted, _loading, _options, _output, _paths
from ltkit.settings import (
    Amp,
    Augment,
    Freeze,
    HeadSettings,
    Init,
    Sampler,
    Schedule,
    TrainPlan,
    TrainSettings,
)

if TYPE_CHECKING:
    from ltkit.records import Dataset
    from ltkit.training.job import Progress, Report

OF_IMAGES = (
    "root", "follow_links", "columns", "arch", "image_size", "resize", "crop", "fit", "window",
    "interpolation",
    "augment", "mix", "freeze", "keep_best",
)  # fmt: skip
"""Options that mean nothing where a head is trained on cached features."""

OF_FEATURES = ("init", "base")
"""Options that mean nothing where a network is trained on images."""

STEPS = ",".join(map(str, TrainSettings.steps))


def _defaults(name: str) -> str:
    """Return the help of an option whose default depends on what is trained."""
    values = [getattr(kind, name) for kind in (TrainSettings, HeadSettings)]
    return "Default: {}; for a head on FEATS, {}.".format(*values)


Method = Annotated[
    str | None,
    typer.Argument(
        help="Training loss; see --list.",
        show_default=False,
        autocompletion=_options.begun("losses"),
    ),
]
Feats = Annotated[
    str | None,
    typer.Argument(
        metavar="[FEATS]",
        help="Features file: train a head on it; '-' reads its path from stdin.",
        show_default=False,
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        help="Dataset name, folder, list file or CSV: train a network on its images.",
        show_default=False,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(help="Architecture. Default: one that fits the pictures.", show_default=False),
]
Cosine = Annotated[
    bool, typer.Option("--cosine", help="Cosine head: normalised features and rows.")
]
Scale = Annotated[float, _options.setting("scale", "Scale of a cosine head.")]
Epochs = Annotated[
    int | None,
    _options.setting("epochs", f"Training epochs. {_defaults('epochs')}", show_default=False),
]
BatchSize = Annotated[int, _options.setting("batch_size", "Samples per batch.")]
LearningRate = Annotated[float, _options.setting("learning_rate", "Base learning rate.")]
WeightDecay = Annotated[
    float | None,
    _options.setting(
        "weight_decay", f"Weight decay. {_defaults('weight_decay')}", show_default=False
    ),
]
ScheduleName = Annotated[
    Schedule | None,
    typer.Option(help=f"Learning rate schedule. {_defaults('schedule')}", show_default=False),
]
WarmupEpochs = Annotated[
    int | None,
    _options.setting(
        "warmup_epochs",
        f"Warm-up epochs, for step and cosine. {_defaults('warmup_epochs')}",
        show_default=False,
    ),
]
Steps = Annotated[
    str, typer.Option(help="Fractions of the run after which the step schedule lowers the rate.")
]
StepFactor = Annotated[
    float,
    _options.setting("step_factor", "Factor on the learning rate at each of the --steps."),
]
Augmentation = Annotated[
    Augment, typer.Option(help="Augmentation; standard (crop and flip) is part of the others.")
]
Mix = Annotated[
    str | None,
    typer.Option(
        help="Mix images: mixup, cutmix, cmo or remix; --set mix.alpha=1 sets a parameter.",
        show_default=False,
    ),
]
Precision = Annotated[Amp, typer.Option(help="Mixed precision.")]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network with torch.compile, with CUDA graphs: worthwhile on a GPU.",
    ),
]
SamplerName = Annotated[
    Sampler, typer.Option(help="How often classes are drawn; instance takes every image once.")
]
Drw = Annotated[
    int | None,
    _options.setting(
        "drw",
        "Deferred re-weighting: use the loss's class weights after this many epochs, uniform "
        "weights before.",
        show_default=False,
    ),
]
FromEpoch = Annotated[
    int | None,
    _options.setting(
        "from_epoch",
        "Start a second stage after this many epochs.",
        show_default=False,
    ),
]
Then = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="The second stage's loss; --set then.beta=0.9 sets a parameter. Default: the "
        "first stage's loss.",
        show_default=False,
    ),
]
ThenSampler = Annotated[
    Sampler | None, typer.Option(help="The second stage's sampler.", show_default=False)
]
ThenLr = Annotated[
    float | None,
    _options.setting(
        "learning_rate",
        "The second stage's learning rate; each stage then has its own schedule. Default: one "
        "schedule for both.",
        called="--then-lr",
        show_default=False,
    ),
]
Freezing = Annotated[
    Freeze | None,
    typer.Option(
        help="Freeze the backbone in the second stage; weights still updates its batch norm "
        "statistics.",
        show_default=False,
    ),
]
ClassMeans = Annotated[
    Path | None,
    typer.Option(
        metavar="FEATS",
        help="Features file whose class means swrm uses instead of the network's own.",
        show_default=False,
    ),
]
Start = Annotated[
    Init | None,
    typer.Option(
        help="What a head on FEATS starts from: the file's own head, that of --text-features, the "
        "class means, zeros. Default: rows drawn from the seed.",
        show_default=False,
    ),
]
Listing = Annotated[bool, typer.Option("--list", help="List the losses and mixings and exit.")]
Seeds = Annotated[
    int,
    _options.setting(
        "seeds",
        "Train with this many seeds, from --seed on: networks are written to <stem>.seed0.pt "
        "and so on, heads as runs of one file.",
    ),
]
KeepBest = Annotated[
    bool,
    typer.Option(
        "--keep-best",
        help="Also write the epoch with the best balanced val accuracy, to <stem>.best.pt.",
    ),
]
Tensorboard = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Also write each epoch's numbers for TensorBoard, one folder per run "
        "(pip install 'ltkit[tensorboard]').",
        show_default=False,
    ),
]


def train(
    context: typer.Context,
    method: Method = None,
    feats: Feats = None,
    data: DataName = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    arch: Arch = None,
    image_size: _options.ImageSize = None,
    resize: _options.Resize = None,
    crop: _options.Crop = None,
    fit: _options.FitKind = None,
    window: _options.Window = None,
    interpolation: _options.InterpolationKind = None,
    cosine: Cosine = TrainPlan.cosine,
    scale: Scale = TrainPlan.scale,
    epochs: Epochs = None,
    batch_size: BatchSize = TrainSettings.batch_size,
    lr: LearningRate = TrainSettings.learning_rate,
    weight_decay: WeightDecay = None,
    schedule: ScheduleName = None,
    warmup_epochs: WarmupEpochs = None,
    steps: Steps = STEPS,
    step_factor: StepFactor = TrainSettings.step_factor,
    augment: Augmentation = TrainSettings.augment,
    mix: Mix = None,
    amp: Precision = TrainSettings.amp,
    compile_: Compile = TrainSettings.compile,
    sampler: SamplerName = TrainPlan.sampler,
    drw: Drw = None,
    from_epoch: FromEpoch = None,
    then: Then = None,
    then_sampler: ThenSampler = None,
    then_lr: ThenLr = None,
    freeze: Freezing = None,
    class_means: ClassMeans = None,
    init: Start = None,
    base: _options.Base = None,
    set_: _options.SetParameter = None,
    list_: Listing = False,
    seed: _options.Seed = 0,
    seeds: Seeds = 1,
    device: _options.Device = "auto",
    keep_best: KeepBest = False,
    tensorboard: Tensorboard = None,
    output: _options.Output = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Train a network from images, or a head on cached features, with a long-tail loss.

    Under torchrun, each process takes its part of every batch; --batch-size is for all together.

    Example: ltkit train ce --data digits_lt --arch digits_net --epochs 30 -o digits.pt

    Example: ltkit train balanced-softmax feats.h5 --seeds 3
    """
    if list_:
        return _list()
    method, given = _method(context, method, data, feats), _options.parameters(set_)
    second = from_epoch, then, then_sampler, then_lr, freeze
    plan = TrainPlan(method, given, sampler, mix, drw, *second, cosine, scale, init)
    settings = _settings(
        HeadSettings if data is None else TrainSettings, batch_size=batch_size, learning_rate=lr,
        step_factor=step_factor, steps=tuple(_options.numbers(steps, "steps", once=False)),
        amp=amp, compile=compile_, seed=seed, epochs=epochs, weight_decay=weight_decay,
        schedule=schedule, warmup_epochs=warmup_epochs, augment=None if data is None else augment,
    )  # fmt: skip
    out = _Output(output, tensorboard, quiet)
    more: dict[str, Any] = {"seeds": seeds, "class_means": class_means, "resume": resume}
    more |= {"overwrite": overwrite, "device": _options.device_of(device)}
    with _output.resumable("epochs"):
        if data is None:
            return _train_heads(feats, plan, settings, out, base, **more)
        view = _loading.view_settings(image_size, resize, crop, fit, window, interpolation)
        more |= {"arch": arch, "view": view, "keep_best": keep_best}
        where = data, root, follow_links, _options.columns(columns)
        return _train_networks(where, plan, settings, out, **more)


def _method(context: typer.Context, method: str | None, data: str | None, feats: str | None) -> str:
    """Return the named loss; refuse a command line without a loss, or not with exactly one input.

    Options that belong to the other kind of input are refused, too.

    Raises:
        InputError: see above.
    """
    from ltkit.errors import InputError

    if method is None:
        raise InputError("METHOD: absent; ltkit train --list names the losses")
    if (data is None) == (feats is None):
        found = "neither" if data is None else "both"
        raise InputError(
            f"--data or FEATS: found {found}, expected a dataset to train a network on, or a "
            "features file to train a head on"
        )
    _refuse_others(context, data)
    return method


def _list() -> None:
    """Print the losses and the mixing methods."""
    from ltkit import losses
    from ltkit.registry import described
    from ltkit.training import mixing

    for line in described(losses, "loss"):
        typer.echo(line)
    for line in described(mixing, "mix"):
        typer.echo(f"--mix {line}")


def _settings(kind: type[TrainSettings], **given: Any) -> TrainSettings:
    """Return settings of a kind, with its defaults for those not given."""
    return kind(**{name: value for name, value in given.items() if value is not None})


def _refuse_others(context: typer.Context, data: str | None) -> None:
    """Refuse options of images where a head is trained, and of a head where a network is.

    Raises:
        InputError: naming the first.
    """
    from ltkit.errors import InputError

    found, expected = ("a features file", "--data")[:: 1 if data is None else -1]
    for name in OF_IMAGES if data is None else OF_FEATURES:
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise InputError(f"--{option}: found {found}, expected {expected} with it")


class _Output(NamedTuple):
    """Where results are written, and what is printed."""

    given: Path | None
    tensorboard: Path | None
    quiet: bool

    def reports(self, unit: str) -> "Callable[[Path], Report]":
        """Return a function that makes the progress display for a run's output."""
        return lambda path: _report(unit, path, self.tensorboard, self.quiet)


def _train_networks(
    where: tuple[str, Path | None, bool, dict[str, str] | None],
    plan: TrainPlan,
    settings: TrainSettings,
    out: _Output,
    **more: Any,
) -> None:
    """Train networks; report the data and the written files."""
    from ltkit import datasets
    from ltkit.training import beside, distributed, runs

    def load() -> "Dataset":
        data, root, follow_links, columns = where
        dataset = datasets.load(
            data, root, follow_links=follow_links, columns=columns, val="holdout"
        )
        sizes = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
        quiet = out.quiet or not distributed.writes()
        _output.say(f"{dataset.record['spec']}: {sizes} images", quiet)
        _output.say_notes(dataset, quiet)
        return dataset

    def wrote(path: Path) -> None:
        if more["keep_best"]:
            _output.say(f"wrote {beside.best_path(path)}", out.quiet)
        _output.wrote(path, out.quiet)

    target = out.given or Path(f"{plan.method}.pt")
    runs.train_networks(
        load, plan, settings, target, report=out.reports("images"), wrote=wrote,
        note=lambda line: _output.say(line, out.quiet or not distributed.writes()), **more,
    )  # fmt: skip


def _train_heads(
    feats: str | None,
    plan: TrainPlan,
    settings: TrainSettings,
    out: _Output,
    base: Path | None,
    **more: Any,
) -> None:
    """Train heads; report what they come to, and the written file."""
    from ltkit.files import bases, classifiers
    from ltkit.files import features as features_file
    from ltkit.training import distributed, runs

    path = _paths.features_path(feats, out.quiet)
    target = _paths.output_path(out.given, path, plan.method)
    written = runs.train_heads(
        path, plan, settings, target, command=_output.command_line(),
        report=out.reports("samples"), base=base,
        note=_output.note(out.quiet or not distributed.writes()), **more,
    )  # fmt: skip
    if written is not None:
        features = bases.with_base(features_file.read(path), base)
        _fitted.say_result(features, classifiers.read(written)[0], None, out.quiet)
        _output.wrote(written, out.quiet)


def _report(unit: str, output: Path, tensorboard: Path | None, quiet: bool) -> "Report":
    """Return the progress display of the run with this output."""
    from ltkit.training import board, distributed

    silent = quiet or distributed.rank() > 0
    drawn = []
    if tensorboard and distributed.rank() == 0:
        drawn.append(board.scalars(tensorboard / output.stem))

    def report(progress: "Progress") -> None:
        accuracy = "" if progress.accuracy is None else f", val {100 * progress.accuracy:.1f} %"
        _output.say(
            f"epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.3f}{accuracy}, "
            f"{progress.images_per_second:.0f} {unit}/s, {progress.seconds_left:.0f} s left",
            silent,
        )
        for draw in drawn:
            draw(progress)

    return report
