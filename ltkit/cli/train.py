"""``ltkit train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output
from ltkit.settings import Amp, Schedule, TrainSettings
from ltkit.training.schedules import Sampler

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from ltkit.losses import Stateful
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
    module = load(losses, method)
    known = defaults(module.loss)
    given = parameters_of(module.loss, set_ or [], method)
    # A loss with a scale works on scale * cosine, one with a seed draws: both follow the run's.
    shared = {name: value for name, value in (("scale", scale), ("seed", seed)) if name in known}
    parameters = shared | given
    cosine, scale = cosine or "scale" in known, parameters.get("scale", scale)
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
    loss = _loss(module, method, parameters, drw, counts)
    if class_means is not None and not getattr(loss, "takes_class_means", False):
        raise InputError(f"--class-means: {method} takes none; swrm does")
    means = None if class_means is None else _class_means(class_means, len(dataset.classes))
    settings = TrainSettings(
        epochs=epochs, batch_size=batch_size, learning_rate=lr, weight_decay=weight_decay,
        schedule=schedule, amp=amp, seed=seed,
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
            sampler=sampler, class_means=means, cosine=cosine, scale=scale if cosine else 1.0,
            device=chosen_device, resume=resume, report=report,
        )  # fmt: skip
    except KeyboardInterrupt:
        _output.say("interrupted; finished epochs are kept, go on with --resume")
        raise
    _output.wrote(target, quiet)


def _loss(
    module: "ModuleType",
    method: str,
    parameters: dict[str, Any],
    drw: int | None,
    class_counts: "Tensor",
) -> "OfBatch | Stateful":
    """Return the loss of a module, with its parameters.

    Raises:
        InputError: when class weights are deferred of a loss that has none.
    """
    from functools import partial

    from ltkit.errors import InputError
    from ltkit.training.run import Deferred

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
