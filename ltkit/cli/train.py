"""``ltkit train``."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.settings import Amp, Augment, HeadSettings, Schedule, TrainSettings
from ltkit.training.schedules import Freeze, Sampler, Stage

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from ltkit.losses import Stateful
    from ltkit.records import Dataset
    from ltkit.training.mixing import Mixing
    from ltkit.training.run import OfBatch, Progress

OF_IMAGES = ("root", "follow_links", "arch", "augment", "mix", "freeze", "keep_best")
"""Options that mean nothing where a head is trained on cached features."""


def _defaults(name: str) -> str:
    """Return the help of an option whose default depends on what is trained."""
    values = [getattr(kind, name) for kind in (TrainSettings, HeadSettings)]
    return "Default: {}; for a head on FEATS, {}.".format(*values)


def train(
    context: typer.Context,
    method: Annotated[
        str | None, typer.Argument(help="The loss; see --list.", show_default=False)
    ] = None,
    feats: Annotated[
        str | None,
        typer.Argument(
            metavar="[FEATS]",
            help="Features file: train a head on it; '-' reads its path from stdin.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset name, folder, list file or CSV: train a network on its images.",
            show_default=False,
        ),
    ] = None,
    root: _options.Root = None,
    follow_links: _options.FollowLinks = False,
    arch: Annotated[str, typer.Option(help="Architecture.")] = "resnet32",
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Cosine head: normalised features and rows.")
    ] = False,
    scale: Annotated[float, _options.setting("scale", "Scale of a cosine head.")] = 30.0,
    epochs: Annotated[
        int | None, _options.setting("epochs", _defaults("epochs"), show_default=False)
    ] = None,
    batch_size: Annotated[int, _options.setting("batch_size")] = TrainSettings.batch_size,
    lr: Annotated[
        float, _options.setting("learning_rate", "Base learning rate.")
    ] = TrainSettings.learning_rate,
    weight_decay: Annotated[
        float | None,
        _options.setting("weight_decay", _defaults("weight_decay"), show_default=False),
    ] = None,
    schedule: Annotated[
        Schedule | None, typer.Option(help=_defaults("schedule"), show_default=False)
    ] = None,
    warmup_epochs: Annotated[
        int | None,
        _options.setting(
            "warmup_epochs",
            f"Of the step and cosine schedules. {_defaults('warmup_epochs')}",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option(help="Parts of the run after which the step schedule lowers the rate.")
    ] = ",".join(map(str, TrainSettings.steps)),
    step_factor: Annotated[
        float,
        _options.setting("step_factor", "Factor of the learning rate after each of the --steps."),
    ] = TrainSettings.step_factor,
    augment: Annotated[
        Augment, typer.Option(help="standard is crop and flip, which the others have, too.")
    ] = TrainSettings.augment,
    mix: Annotated[
        str | None,
        typer.Option(
            help="Mix images: mixup, cutmix, cmo or remix; --set mix.alpha=1 sets a parameter.",
            show_default=False,
        ),
    ] = None,
    amp: Annotated[Amp, typer.Option(help="Mixed precision.")] = TrainSettings.amp,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the network with torch.compile, CUDA graphs included: pays on a GPU.",
        ),
    ] = TrainSettings.compile,
    sampler: Annotated[
        Sampler, typer.Option(help="How often classes are drawn; instance is every image once.")
    ] = "instance",
    drw: Annotated[
        int | None,
        _options.setting(
            "drw",
            "Deferred re-weighting: the loss's class weights from this many finished epochs on, "
            "uniform ones before.",
            show_default=False,
        ),
    ] = None,
    from_epoch: Annotated[
        int | None,
        _options.setting(
            "from_epoch",
            "A second stage starts when so many epochs are finished.",
            show_default=False,
        ),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="The second stage's loss; --set then.beta=0.9 sets a parameter. Default: the "
            "first one goes on.",
            show_default=False,
        ),
    ] = None,
    then_sampler: Annotated[
        Sampler | None, typer.Option(help="The second stage's sampler.", show_default=False)
    ] = None,
    then_lr: Annotated[
        float | None,
        _options.setting(
            "learning_rate",
            "The second stage's learning rate; each stage then has its own schedule. Default: one "
            "schedule for both.",
            called="--then-lr",
            show_default=False,
        ),
    ] = None,
    freeze: Annotated[
        Freeze | None,
        typer.Option(
            help="In the second stage train the head alone; weights lets the statistics of batch "
            "norm move.",
            show_default=False,
        ),
    ] = None,
    class_means: Annotated[
        Path | None,
        typer.Option(
            metavar="FEATS",
            help="Features file whose class means swrm takes instead of the network's own.",
            show_default=False,
        ),
    ] = None,
    set_: _options.SetParameter = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the losses and mixings and exit.")
    ] = False,
    seed: _options.Seed = 0,
    seeds: Annotated[
        int,
        _options.setting(
            "seeds",
            "Train with so many seeds, from --seed on: networks <stem>.seed0.pt and so on; heads "
            "are runs of one file.",
        ),
    ] = 1,
    device: _options.Device = "auto",
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help="Also write the epoch that is best on the val split, balanced: <stem>.best.pt.",
        ),
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write each epoch's numbers for TensorBoard, a folder a run "
            "(pip install 'ltkit[tensorboard]').",
            show_default=False,
        ),
    ] = None,
    output: _options.Output = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Train a network from images, or a head on cached features, with one of the field's losses.

    Started by torchrun, each process takes its part of every batch; --batch-size is that of all.

    Example: ltkit train ce --data digits_lt --arch digits_net --epochs 30 -o digits.pt

    Example: ltkit train balanced-softmax feats.h5 --seeds 3
    """
    from ltkit import losses
    from ltkit.errors import InputError
    from ltkit.registry import described

    if list_:
        from ltkit.training import mixing

        for line in described(losses, "loss"):
            typer.echo(line)
        for line in described(mixing, "mix"):
            typer.echo(f"--mix {line}")
        return
    if method is None:
        raise InputError("METHOD: absent; ltkit train --list names the losses")
    if (data is None) == (feats is None):
        found = "neither" if data is None else "both"
        raise InputError(
            f"--data or FEATS: found {found}, expected a dataset to train a network on, or a "
            "features file to train a head on"
        )
    given = {
        "epochs": epochs, "weight_decay": weight_decay, "schedule": schedule,
        "warmup_epochs": warmup_epochs,
    }  # fmt: skip
    settings = (TrainSettings if data is not None else HeadSettings)(
        batch_size=batch_size, learning_rate=lr, step_factor=step_factor,
        steps=tuple(_options.numbers(steps, "steps", once=False)),
        amp=amp, compile=compile_, seed=seed,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )  # fmt: skip
    asked = [
        _asked(
            method, set_ or [], seed + number, cosine=cosine, scale=scale, mix=mix,
            sampler=sampler, drw=drw, from_epoch=from_epoch, then=then, then_sampler=then_sampler,
            then_lr=then_lr, freeze=freeze,
        )
        for number in range(seeds)
    ]  # fmt: skip
    out = _Output(output, seeds, seed, keep_best, tensorboard, resume, overwrite, quiet)
    chosen_device = _options.device_of(device)
    try:
        if data is not None:
            settings = replace(settings, augment=augment)
            load = functools.partial(_load_images, data, root, follow_links)
            _from_images(load, arch, asked, settings, class_means, chosen_device, out)
        else:
            for name in OF_IMAGES:
                if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE":
                    option = name.replace("_", "-")
                    raise InputError(f"--{option}: found a features file, expected --data with it")
            path = _paths.features_path(feats, quiet)
            _from_features(path, asked, settings, class_means, chosen_device, out)
    except KeyboardInterrupt:
        _output.say("interrupted; finished epochs are kept, go on with --resume")
        raise


@dataclass(frozen=True)
class _Output:
    """What is written, and what is said."""

    given: Path | None
    seeds: int
    seed: int
    keep_best: bool
    tensorboard: Path | None
    resume: bool
    overwrite: bool
    quiet: bool

    def of_seeds(self, target: Path) -> list[Path]:
        """Return the output of each seed: the target itself where there is one."""
        if self.seeds == 1:
            return [target]
        numbers = range(self.seed, self.seed + self.seeds)
        return [target.with_name(f"{target.stem}.seed{n}{target.suffix}") for n in numbers]

    def resumed(self, targets: list[Path]) -> list[bool]:
        """Say which runs are gone on with; those of several that were never begun start."""
        from ltkit.training.run import begun

        known = [begun(path) or (self.seeds > 1 and path.is_file()) for path in targets]
        return [self.resume and (found or not any(known)) for found in known]

    def saying(self, unit: str, output: Path) -> "Callable[[Progress], None]":
        """Return what shows the progress of the run with this output."""
        from ltkit.training import board, distributed

        quiet = self.quiet or distributed.rank() > 0
        drawn = []
        if self.tensorboard and distributed.rank() == 0:
            drawn.append(board.scalars(self.tensorboard / output.stem))

        def report(progress: "Progress") -> None:
            accuracy = "" if progress.accuracy is None else f", val {100 * progress.accuracy:.1f} %"
            _output.say(
                f"epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.3f}{accuracy}, "
                f"{progress.images_per_second:.0f} {unit}/s, {progress.seconds_left:.0f} s left",
                quiet,
            )
            for draw in drawn:
                draw(progress)

        return report


def _load_images(data: str, root: Path | None, follow_links: bool) -> "Dataset":
    from ltkit import datasets

    return datasets.load(data, root, follow_links=follow_links)


def _from_images(
    load: "Callable[[], Dataset]",
    arch: str,
    asked: "list[_Asked]",
    settings: TrainSettings,
    class_means: Path | None,
    device: str,
    out: _Output,
) -> None:
    """Train a network for each seed, one after another; they share the images."""
    import torch

    from ltkit.files.atomic import check_output, hold
    from ltkit.training import distributed, run

    targets = out.of_seeds(out.given or Path(f"{asked[0].first.method}.pt"))
    resumed = out.resumed(targets)
    writes = distributed.writes()
    for path, goes_on in zip(targets, resumed, strict=True):
        if not (goes_on and out.seeds > 1) or run.begun(path):
            check_output(path, overwrite=out.overwrite, writes=writes)
        elif writes:
            hold(path)
        run.check_beside(path, resume=goes_on)
        if out.keep_best:
            best = run.best_path(path)
            check_output(best, overwrite=out.overwrite or goes_on, writes=writes)
    dataset = load()
    counts = torch.from_numpy(dataset.classes.train_count)
    means = _means_of(asked[0], class_means, counts)
    with distributed.group(device) as own:
        first = distributed.rank() == 0
        sizes = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
        _output.say(f"{dataset.record['spec']}: {sizes} images", out.quiet or not first)
        _output.say_of_doubles(dataset, out.quiet or not first)
        images = functools.cache(lambda: run.resident(dataset, settings.augment, own))
        for number, (one, path) in enumerate(zip(asked, targets, strict=True)):
            run.train(
                dataset, arch, one.loss(counts), replace(settings, seed=settings.seed + number),
                path, **one.record(), mixing=one.mixing, class_means=means, device=own,
                images=images, keep_best=out.keep_best, resume=resumed[number],
                overwrite=out.overwrite, report=out.saying("images", path),
            )  # fmt: skip
            if first and out.keep_best:
                _output.say(f"wrote {run.best_path(path)}", out.quiet)
            if first:
                _output.wrote(path, out.quiet)


def _from_features(
    path: Path,
    asked: "list[_Asked]",
    settings: TrainSettings,
    class_means: Path | None,
    device: str,
    out: _Output,
) -> None:
    """Train a head for each seed; write them as the runs of one file."""
    import torch

    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output, hold
    from ltkit.records import Correction, joined
    from ltkit.settings import as_json
    from ltkit.training import distributed, heads, run

    method = asked[0].first.method
    target = _paths.output_path(out.given, path, method)
    check_output(
        target, overwrite=out.overwrite, inputs=(path,), writes=distributed.writes()
    )  # fmt: skip
    targets = out.of_seeds(target)
    resumed = out.resumed(targets)
    for of_seed, goes_on in zip(targets, resumed, strict=True):
        if distributed.writes():
            hold(of_seed)
        run.check_beside(of_seed, resume=goes_on)
    features = features_file.read(path)
    counts = torch.from_numpy(features.classes.train_count)
    means = _means_of(asked[0], class_means, counts)
    corrections = []
    with distributed.group(device) as own:
        held = functools.cache(lambda: heads.stores(features, own))
        for number, (one, of_seed) in enumerate(zip(asked, targets, strict=True)):
            seeded = replace(settings, seed=settings.seed + number)
            head = heads.train(
                features, one.loss(counts), seeded, of_seed, **one.record(), class_means=means,
                device=own, held=held, resume=resumed[number], overwrite=out.overwrite,
                report=out.saying("samples", of_seed),
            )  # fmt: skip
            parameters = one.parameters | {"seed": seeded.seed}
            corrections.append(Correction.whole(method, head, parameters))
        if distributed.rank() > 0:
            return
    then = asked[0].stage
    kept = as_json(settings) | asked[0].record() | {"then": asdict(then) if then else None}
    inputs = {"features": features.digest} | ({"class_means": means[0]} if means else {})
    classifiers.write(
        target, joined(corrections), settings=kept, inputs=inputs, command=_output.command_line()
    )
    for of_seed in targets:
        run.forget(of_seed)
    _output.wrote(target, out.quiet)


def _means_of(asked: "_Asked", path: Path | None, counts: "Tensor") -> "tuple[str, Tensor] | None":
    """Return the class means of another model, for a loss that takes them.

    Raises:
        InputError: when it takes none, or they are of other classes.
    """
    from ltkit.errors import InputError

    if path is None:
        return None
    if not getattr(asked.loss(counts), "takes_class_means", False):
        raise InputError(f"--class-means: {asked.first.method} takes none; swrm does")
    return _class_means(path, len(counts))


class _Choice(NamedTuple):
    """A loss that was asked for."""

    method: str
    module: "ModuleType"
    parameters: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """The losses and stages of one run.

    drw: epoch of deferred weights; then: whether the second stage has another loss.
    """

    first: _Choice
    second: _Choice
    stage: Stage | None
    sampler: Sampler
    mixing: "Mixing | None"
    cosine: bool
    scale: float
    drw: int | None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the first loss and of deferring it."""
        return self.first.parameters | ({} if self.drw is None else {"drw": self.drw})

    def loss(self, counts: "Tensor") -> "OfBatch | Stateful":
        """Return the loss of a new run."""
        from ltkit.training.run import Deferred

        loss = _loss(self.first, self.drw, counts)
        if self.stage is None or self.second is self.first:
            return loss
        return Deferred(counts, loss, _loss(self.second, None, counts), self.stage.from_epoch)

    def record(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {
            "method": self.first.method, "parameters": self.parameters, "sampler": self.sampler,
            "then": self.stage, "cosine": self.cosine, "scale": self.scale,
        }  # fmt: skip


def _asked(
    method: str,
    set_: list[str],
    seed: int,
    *,
    cosine: bool,
    scale: float,
    mix: str | None,
    sampler: Sampler,
    drw: int | None,
    from_epoch: int | None,
    then: str | None,
    then_sampler: Sampler | None,
    then_lr: float | None,
    freeze: Freeze | None,
) -> _Asked:
    """Return what the words of the command line ask for, with one seed."""
    from ltkit import losses
    from ltkit.registry import defaults, load, parameters_of

    given = _by_prefix(set_)
    module, mixing = load(losses, method), _mixing(mix, given["mix"])
    known = defaults(module.loss)
    # A loss with a scale works on scale * cosine, one with a seed draws: both follow the run's.
    shared = {name: value for name, value in (("scale", scale), ("seed", seed)) if name in known}
    parameters = shared | parameters_of(module.loss, _options.parameters(given[""]), method)
    cosine, scale = cosine or "scale" in known, parameters.get("scale", scale)
    first = _Choice(method, module, parameters)
    second = _second(first, then, given["then"], cosine=cosine, scale=scale, seed=seed)
    stage = _stage(
        second, from_epoch, sampler, drw=drw, then=then, then_sampler=then_sampler,
        then_lr=then_lr, freeze=freeze,
    )  # fmt: skip
    return _Asked(first, second, stage, sampler, mixing, cosine, scale if cosine else 1.0, drw)


def _by_prefix(items: list[str]) -> dict[str, list[str]]:
    """Return the ``--set`` items of the loss, and without their prefix those of mix and then."""
    groups: dict[str, list[str]] = {"": [], "mix": [], "then": []}
    for item in items:
        prefix, dot, rest = item.partition(".")
        if dot and prefix in ("mix", "then"):
            groups[prefix].append(rest)
        else:
            groups[""].append(item)
    return groups


def _mixing(name: str | None, given: list[str]) -> "Mixing | None":
    """Return how images are mixed.

    Raises:
        InputError: when there is no such way, or parameters without one.
    """
    from ltkit.errors import InputError
    from ltkit.registry import load, parameters_of
    from ltkit.training import mixing

    if name is None:
        if given:
            raise InputError(f"--set mix.{given[0]}: found no --mix, whose parameter it would be")
        return None
    mix = load(mixing, name).mix
    made: Mixing = mix(**parameters_of(mix, _options.parameters(given), name))
    return made


def _second(
    first: _Choice, then: str | None, given: list[str], *, cosine: bool, scale: float, seed: int
) -> _Choice:
    """Return the loss of the second stage; the first one where there is no other.

    Raises:
        InputError: when its parameters are unknown, or it would need another head than the first.
    """
    from ltkit import losses
    from ltkit.errors import InputError
    from ltkit.registry import defaults, load, parameters_of

    if then is None:
        if given:
            raise InputError(f"--set then.{given[0]}: found no --then, whose parameter it would be")
        return first
    module = load(losses, then)
    known = defaults(module.loss)
    if "scale" in known and not cosine:
        raise InputError(f"--then {then}: needs a cosine head from the start; add --cosine")
    shared = {name: value for name, value in (("scale", scale), ("seed", seed)) if name in known}
    parameters = shared | parameters_of(module.loss, _options.parameters(given), then)
    if (found := parameters.get("scale", scale)) != scale:
        raise InputError(f"--set then.scale={found:g}: expected {scale:g}, the scale of the head")
    return _Choice(then, module, parameters)


def _stage(
    loss: _Choice,
    from_epoch: int | None,
    sampler: Sampler,
    *,
    drw: int | None,
    then: str | None,
    then_sampler: Sampler | None,
    then_lr: float | None,
    freeze: Freeze | None,
) -> Stage | None:
    """Return the second stage, or None where there is none.

    Raises:
        InputError: when it changes nothing, has no beginning, or there are two of them.
    """
    from ltkit.errors import InputError

    options = {
        "--then": then, "--then-sampler": then_sampler, "--then-lr": then_lr, "--freeze": freeze,
    }  # fmt: skip
    changes = [name for name, value in options.items() if value is not None]
    if from_epoch is None:
        if changes:
            raise InputError(f"{changes[0]}: needs --from-epoch, where the second stage starts")
        return None
    if not changes:
        raise InputError(f"--from-epoch: changes nothing; add one of {', '.join(options)}")
    if drw is not None:
        raise InputError("--drw: is a second stage already; expected no --from-epoch beside it")
    return Stage(
        from_epoch, loss.method, loss.parameters, then_sampler or sampler, then_lr, freeze
    )  # fmt: skip


def _loss(choice: _Choice, drw: int | None, class_counts: "Tensor") -> "OfBatch | Stateful":
    """Return the loss of a module, with its parameters.

    Raises:
        InputError: when class weights are deferred of a loss that has none.
    """
    from functools import partial

    from ltkit.errors import InputError
    from ltkit.training.run import Deferred

    method, module, parameters = choice
    if drw is None:
        stateful = isinstance(module.loss, type)
        loss: OfBatch | Stateful = (
            module.loss(class_counts, **parameters)
            if stateful
            else partial(module.loss, **parameters)
        )
        return loss
    if not hasattr(module, "UNIFORM"):
        raise InputError(
            f"--drw: {method} has no class weights to defer; weighted, class-balanced, ldam have"
        )
    later = getattr(module, "DEFERRED", {}) | parameters
    first, then = partial(module.loss, **parameters | module.UNIFORM), partial(module.loss, **later)
    return Deferred(class_counts, first, then, drw)


def _class_means(path: Path, num_classes: int) -> "tuple[str, Tensor]":
    """Return the digest of a features file and the (C, D) mean features of its train split.

    Raises:
        InputError: when its classes are not as many as the dataset's.
    """
    import torch

    from ltkit.errors import InputError
    from ltkit.files import features as features_file
    from ltkit.neighbors.class_means import class_means

    features = features_file.read(path)
    if len(features.classes) != num_classes:
        raise InputError(
            f"--class-means: {path}: found {len(features.classes)} classes, expected {num_classes}"
        )
    means, _ = class_means(features.split("train"), num_classes)
    return features.digest, torch.from_numpy(means)
