"""``ltkit train``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import typer

from ltkit.cli import _fitted, _loading, _network_options, _options, _output, _paths, _training
from ltkit.settings import HeadSettings, Init, TrainPlan, TrainSettings

if TYPE_CHECKING:
    from ltkit.records import Dataset
    from ltkit.training.job import Progress, Report

OF_IMAGES = (
    "root", "follow_links", "columns", "arch", "experts", "image_size", "resize", "crop", "fit",
    "window", "interpolation", "augment", "mix", "freeze", "keep_best", "keep_head", "train_",
    "teacher", "unlabelled",
)  # fmt: skip
"""Options that mean nothing where a head is trained on cached features."""

OF_ONE_RUN = (
    "experts", "sampler", "mix", "drw", "from_epoch", "then", "then_sampler", "then_lr", "freeze",
    "cosine", "scale", "class_means", "init", "keep_head", "teacher", "train_", "unlabelled",
)  # fmt: skip
"""Options that a recipe of several runs sets for each of them."""

OF_FEATURES = ("base",)
"""Options that mean nothing where a network is trained on images."""


def train(
    context: typer.Context,
    method: _training.Method = None,
    feats: _training.Feats = None,
    recipe: _training.RecipeName = None,
    data: _training.DataName = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    columns: _options.Columns = None,
    arch: _training.Arch = None,
    experts: _training.Experts = None,
    image_size: _network_options.ImageSize = None,
    resize: _network_options.Resize = None,
    crop: _network_options.Crop = None,
    fit: _network_options.FitKind = None,
    window: _network_options.Window = None,
    interpolation: _network_options.InterpolationKind = None,
    cosine: _training.Cosine = TrainPlan.cosine,
    scale: _training.Scale = TrainPlan.scale,
    epochs: _training.Epochs = None,
    batch_size: _training.BatchSize = TrainSettings.batch_size,
    lr: _training.LearningRate = TrainSettings.learning_rate,
    weight_decay: _training.WeightDecay = None,
    schedule: _training.ScheduleName = None,
    warmup_epochs: _training.WarmupEpochs = None,
    steps: _training.Steps = _training.STEPS,
    step_factor: _training.StepFactor = TrainSettings.step_factor,
    nesterov: _training.Nesterov = TrainSettings.nesterov,
    augment: _training.Augmentation = TrainSettings.augment,
    mix: _training.Mix = None,
    amp: _training.Precision = TrainSettings.amp,
    compile_: _training.Compile = TrainSettings.compile,
    sampler: _training.SamplerName = TrainPlan.sampler,
    drw: _training.Drw = None,
    from_epoch: _training.FromEpoch = None,
    then: _training.Then = None,
    then_sampler: _training.ThenSampler = None,
    then_lr: _training.ThenLr = None,
    freeze: _training.Freezing = None,
    class_means: _training.ClassMeans = None,
    init: _training.Start = None,
    keep_head: _training.KeepHead = False,
    teacher: _training.Teacher = None,
    unlabelled: _training.Unlabelled = None,
    train_: _training.What = TrainPlan.train,
    base: _options.Base = None,
    set_: _options.SetParameter = None,
    list_: _training.Listing = False,
    seed: _options.Seed = 0,
    seeds: _training.Seeds = 1,
    device: _options.Device = "auto",
    keep_best: _training.KeepBest = False,
    tensorboard: _training.Tensorboard = None,
    output: _options.Output = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Train a network from images, or a head on cached features, with a long-tail loss.

    Example: ltkit train ce --data digits_lt --arch digits_net --epochs 30 -o digits.pt

    Example: ltkit train balanced-softmax feats.h5 --seeds 3
    """
    method, given = _method(context, method, recipe, data, feats), _options.parameters(set_)
    second = from_epoch, then, then_sampler, then_lr, freeze
    word, start = _init(init, keep_head, data)
    plan = TrainPlan(method, given, sampler, mix, drw, *second, cosine, scale, word, train_)
    settings = _settings(data, steps, seed, compile=compile_, augment=augment, learning_rate=lr,
        weight_decay=weight_decay, warmup_epochs=warmup_epochs, step_factor=step_factor, amp=amp,
        schedule=schedule, epochs=epochs, batch_size=batch_size, nesterov=nesterov)  # fmt: skip
    out, own = _Output(output, tensorboard, quiet, keep_best), _options.device_of(device)
    more = dict[str, Any](seeds=seeds, class_means=class_means, resume=resume, overwrite=overwrite)
    with _output.resumable("epochs"):
        if data is None:
            return _train_heads(feats, plan, settings, out, base, device=own, **more)
        more |= {"arch": arch, "experts": experts, "teacher": teacher} | start
        more["view"] = _loading.view_settings(image_size, resize, crop, fit, window, interpolation)
        where = _Where(data, root, follow_links, _options.columns(columns), unlabelled)
        return _train_networks(where, plan, settings, out, device=own, **more)


def _method(
    context: typer.Context,
    method: str | None,
    recipe: str | None,
    data: str | None,
    feats: str | None,
) -> str:
    """Return the named loss or recipe; refuse a command line without, or with both kinds of input.

    Options that belong to the other kind of input, or to a single run, are refused, too.

    Raises:
        InputError: see above.
    """
    from ltkit.errors import InputError

    name = _one_of(method, recipe)
    if (data is None) == (feats is None):
        found = "neither" if data is None else "both"
        raise InputError(
            f"--data or FEATS: found {found}, expected a dataset to train a network on, or a "
            "features file to train a head on"
        )
    _refuse_others(context, data)
    if _of_stages(name):
        _refuse_of_one_run(context, name, data)
    return name


def _one_of(method: str | None, recipe: str | None) -> str:
    """Return the one that is named.

    Raises:
        InputError: when none or both are, or the recipe is unknown.
    """
    from ltkit.errors import InputError, nearest
    from ltkit.registry import names_in

    if method is not None and recipe is not None:
        said = f"found METHOD {method[:100]} and a recipe, expected one of them"
        raise InputError(f"--recipe: {said}")
    if recipe is not None and not _of_stages(recipe):
        near = nearest(recipe[:100], names_in("training.recipes"))
        raise InputError(f"--recipe: found {recipe[:100]!r}, unknown; {near}")
    if (name := method or recipe) is None:
        raise InputError("METHOD: absent; ltkit train --list names the losses")
    return name


def _of_stages(name: str) -> bool:
    """Return whether it is a recipe of several runs."""
    from ltkit.registry import names_in

    return name in names_in("training.recipes")


def _refuse_of_one_run(context: typer.Context, name: str, data: str | None) -> None:
    """Refuse cached features, and options that a recipe sets for each of its stages.

    Raises:
        InputError: naming the first.
    """
    from ltkit.errors import InputError

    if data is None:
        raise InputError(f"METHOD {name}: trains networks, found cached features; expected --data")
    if option := _given(context, OF_ONE_RUN):
        raise InputError(f"--{option}: {name} sets it for each of its stages; leave it out")


def _init(
    said: str | None, keep_head: bool, data: str | None
) -> tuple[Init | None, dict[str, Any]]:
    """Return what a head on cached features starts from, and what a network does.

    Raises:
        InputError: for a word that no head starts from.
    """
    from ltkit.errors import InputError

    if said is None or data is not None:
        return None, {"init": None if said is None else Path(said), "keep_head": keep_head}
    words: dict[str, Init] = {word: word for word in get_args(Init)}
    if said not in words:
        expected = f"{', '.join(words)} for a head on FEATS; a checkpoint goes with --data"
        raise InputError(f"--init: found {said[:100]!r}, expected {expected}")
    return words[said], {}


def _settings(data: str | None, steps: str, seed: int, **given: Any) -> TrainSettings:
    """Return the settings of a network, or of a head; the defaults for those not given."""
    kind = HeadSettings if data is None else TrainSettings
    given |= {"steps": tuple(_options.numbers(steps, "steps", once=False)), "seed": seed}
    if data is None:
        del given["augment"]
    return kind(**{name: value for name, value in given.items() if value is not None})


def _refuse_others(context: typer.Context, data: str | None) -> None:
    """Refuse options of images where a head is trained, and of a head where a network is.

    Raises:
        InputError: naming the first.
    """
    from ltkit.errors import InputError

    found, expected = ("a features file", "--data")[:: 1 if data is None else -1]
    if option := _given(context, OF_IMAGES if data is None else OF_FEATURES):
        raise InputError(f"--{option}: found {found}, expected {expected} with it")


def _given(context: typer.Context, names: tuple[str, ...]) -> str | None:
    """Return the first of these options that the command line has, as it is written there."""
    for name in names:
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE":
            return name.rstrip("_").replace("_", "-")
    return None


class _Output(NamedTuple):
    """Where results are written, and what is printed."""

    given: Path | None
    tensorboard: Path | None
    quiet: bool
    keep_best: bool

    def reports(self, unit: str) -> "Callable[[Path], Report]":
        """Return a function that makes the progress display for a run's output."""
        return lambda path: _report(unit, path, self.tensorboard, self.quiet)


class _Where(NamedTuple):
    """Which images a network is trained on."""

    data: str
    root: Path | None
    follow_links: bool
    columns: dict[str, str] | None
    unlabelled: str | None

    def load(self) -> "Dataset":
        """Read what there is of them."""
        from ltkit import datasets
        from ltkit.datasets.unlabelled import with_unlabelled

        data, root, follow_links, columns, more = self
        found = datasets.load(data, root, follow_links=follow_links, columns=columns, val="holdout")
        if more is None:
            return found
        return with_unlabelled(found, more, root, follow_links=follow_links)


def _train_networks(
    where: "_Where",
    plan: TrainPlan,
    settings: TrainSettings,
    out: _Output,
    **more: Any,
) -> None:
    """Train networks; report the data and the written files."""
    from ltkit.training import beside, distributed, in_stages, runs

    def load() -> "Dataset":
        dataset = where.load()
        sizes = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
        quiet = out.quiet or not distributed.writes()
        _output.say(f"{dataset.record['spec']}: {sizes} images", quiet)
        _output.say_notes(dataset, quiet)
        return dataset

    def wrote(path: Path) -> None:
        if out.keep_best and beside.best_path(path).is_file():
            _output.say(f"wrote {beside.best_path(path)}", out.quiet)
        _output.wrote(path, out.quiet)

    target = out.given or Path(f"{plan.method}.pt")
    more |= {"report": out.reports("images"), "wrote": wrote}
    more["keep_best"] = out.keep_best
    more["note"] = lambda line: _output.say(line, out.quiet or not distributed.writes())
    if not _of_stages(plan.method):
        runs.train_networks(load, plan, settings, target, **more)
        return
    kept = {name: value for name, value in more.items() if name not in OF_ONE_RUN}
    in_stages.train_in_stages(load, plan.method, plan.parameters, settings, target, **kept)


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
