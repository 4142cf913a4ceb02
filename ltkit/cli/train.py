"""``ltkit train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ltkit.cli import _options, _output
from ltkit.settings import Amp, Augment, Schedule, TrainSettings
from ltkit.training.schedules import Freeze, Sampler, Stage

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from ltkit.losses import Stateful
    from ltkit.training.mixing import Mixing
    from ltkit.training.run import OfBatch


def train(
    method: Annotated[
        str | None, typer.Argument(help="The loss; see --list.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset name, folder, list file or CSV.", show_default=False)
    ] = None,
    root: _options.Root = None,
    arch: Annotated[str, typer.Option(help="Architecture.")] = "resnet32",
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Cosine head: normalised features and rows.")
    ] = False,
    scale: Annotated[float, typer.Option(help="Scale of a cosine head.")] = 30.0,
    epochs: Annotated[int, typer.Option()] = TrainSettings.epochs,
    batch_size: Annotated[int, typer.Option()] = TrainSettings.batch_size,
    lr: Annotated[float, typer.Option(help="Base learning rate.")] = TrainSettings.learning_rate,
    weight_decay: Annotated[float, typer.Option()] = TrainSettings.weight_decay,
    schedule: Annotated[Schedule, typer.Option()] = TrainSettings.schedule,
    warmup_epochs: Annotated[
        int, typer.Option(help="Of the step and cosine schedules.")
    ] = TrainSettings.warmup_epochs,
    steps: Annotated[
        str, typer.Option(help="Parts of the run after which the step schedule lowers the rate.")
    ] = ",".join(map(str, TrainSettings.steps)),
    step_factor: Annotated[
        float, typer.Option(help="By which it does each time.")
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
    sampler: Annotated[
        Sampler, typer.Option(help="How often classes are drawn; instance is every image once.")
    ] = "instance",
    drw: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="EPOCH",
            help="Deferred re-weighting: the loss's class weights from this many finished epochs "
            "on, uniform ones before.",
            show_default=False,
        ),
    ] = None,
    from_epoch: Annotated[
        int | None,
        typer.Option(
            help="A second stage starts when so many epochs are finished.", show_default=False
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
        typer.Option(
            help="The second stage's learning rate; each stage then has its own schedule. "
            "Default: one schedule for both.",
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
    list_: Annotated[bool, typer.Option("--list", help="List the losses and exit.")] = False,
    seed: _options.Seed = 0,
    device: _options.Device = "auto",
    output: _options.Output = None,
    resume: _options.Resume = False,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Train a network from images with one of the field's losses.

    Example: ltkit train ce --data digits_lt --arch digits_net --epochs 30 -o digits.pt
    """
    from ltkit import losses
    from ltkit.cli._methods import defaults, described, load, parameters_of
    from ltkit.errors import InputError

    if list_:
        for line in described(losses, "loss"):
            typer.echo(line)
        return
    if method is None:
        raise InputError("METHOD: absent; ltkit train --list names the losses")
    if not scale > 0:
        raise InputError(f"--scale: found {scale:g}, expected above 0")
    given = _by_prefix(set_ or [])
    module, mixing = load(losses, method), _mixing(mix, given["mix"])
    known = defaults(module.loss)
    # A loss with a scale works on scale * cosine, one with a seed draws: both follow the run's.
    shared = {name: value for name, value in (("scale", scale), ("seed", seed)) if name in known}
    parameters = shared | parameters_of(module.loss, given[""], method)
    cosine, scale = cosine or "scale" in known, parameters.get("scale", scale)
    first = _Choice(method, module, parameters)
    second = _second(first, then, given["then"], cosine=cosine, scale=scale, seed=seed)
    stage = _stage(
        second, from_epoch, sampler, drw=drw, then=then, then_sampler=then_sampler,
        then_lr=then_lr, freeze=freeze,
    )  # fmt: skip
    if data is None:
        raise InputError("--data: absent, expected a dataset name, folder, list file or CSV")
    import torch

    from ltkit import datasets
    from ltkit.files.atomic import check_output
    from ltkit.training import run

    target = output or Path(f"{method}.pt")
    check_output(target, overwrite=overwrite)
    chosen_device = _options.device_of(device)
    dataset = datasets.load(data, root)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
    _output.say(f"{dataset.record['spec']}: {sizes} images", quiet)
    counts = torch.from_numpy(dataset.classes.train_count)
    loss = _loss(first, drw, counts)
    if stage and then is not None:
        loss = run.Deferred(counts, loss, _loss(second, None, counts), stage.from_epoch)
    if class_means is not None and not getattr(loss, "takes_class_means", False):
        raise InputError(f"--class-means: {method} takes none; swrm does")
    means = None if class_means is None else _class_means(class_means, len(dataset.classes))
    settings = TrainSettings(
        epochs=epochs, batch_size=batch_size, learning_rate=lr, weight_decay=weight_decay,
        schedule=schedule, warmup_epochs=warmup_epochs, step_factor=step_factor,
        steps=tuple(_options.numbers(steps, "--steps")), augment=augment, amp=amp, seed=seed,
    )  # fmt: skip

    def report(progress: run.Progress) -> None:
        accuracy = "" if progress.accuracy is None else f", val {100 * progress.accuracy:.1f} %"
        _output.say(
            f"epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.3f}{accuracy}, "
            f"{progress.images_per_second:.0f} images/s, {progress.seconds_left:.0f} s left",
            quiet,
        )

    try:
        run.train(
            dataset, arch, loss, settings, target, method=method,
            parameters=parameters if drw is None else parameters | {"drw": drw},
            sampler=sampler, then=stage, mixing=mixing, class_means=means, cosine=cosine,
            scale=scale if cosine else 1.0, device=chosen_device, resume=resume, report=report,
        )  # fmt: skip
    except KeyboardInterrupt:
        _output.say("interrupted; finished epochs are kept, go on with --resume")
        raise
    _output.wrote(target, quiet)


class _Choice(NamedTuple):
    """A loss that was asked for."""

    method: str
    module: "ModuleType"
    parameters: dict[str, Any]


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
    from ltkit.cli._methods import load, parameters_of
    from ltkit.errors import InputError
    from ltkit.training import mixing

    if name is None:
        if given:
            raise InputError(f"--set mix.{given[0]}: found no --mix, whose parameter it would be")
        return None
    mix = load(mixing, name).mix
    made: Mixing = mix(**parameters_of(mix, given, name))
    return made


def _second(
    first: _Choice, then: str | None, given: list[str], *, cosine: bool, scale: float, seed: int
) -> _Choice:
    """Return the loss of the second stage; the first one where there is no other.

    Raises:
        InputError: when its parameters are unknown, or it would need another head than the first.
    """
    from ltkit import losses
    from ltkit.cli._methods import defaults, load, parameters_of
    from ltkit.errors import InputError

    if then is None:
        if given:
            raise InputError(f"--set then.{given[0]}: found no --then, whose parameter it would be")
        return first
    module = load(losses, then)
    known = defaults(module.loss)
    if "scale" in known and not cosine:
        raise InputError(f"--then {then}: needs a cosine head from the start; add --cosine")
    shared = {name: value for name, value in (("scale", scale), ("seed", seed)) if name in known}
    parameters = shared | parameters_of(module.loss, given, then)
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

    from ltkit.class_means import class_means
    from ltkit.errors import InputError
    from ltkit.files import features as features_file

    features = features_file.read(path)
    if len(features.classes) != num_classes:
        raise InputError(
            f"--class-means: {path}: found {len(features.classes)} classes, expected {num_classes}"
        )
    means, _ = class_means(features.split("train"), num_classes)
    return features.digest, torch.from_numpy(means)
