"""A plan trained with one or several seeds, from the data to the written files."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ltkit.architectures import CATALOGUE, with_experts
from ltkit.datasets.unlabelled import UNLABELLED
from ltkit.errors import SettingError
from ltkit.files import bases, classifiers
from ltkit.files import features as features_file
from ltkit.files.atomic import check_output, hold
from ltkit.neighbors.class_means import class_means as means_of
from ltkit.records import Correction, Dataset, FeatureSet, Present, joined, note_of_left_out
from ltkit.settings import RANGES, TrainPlan, TrainSettings, ViewSettings, as_json
from ltkit.training import beside, checkpoint, distributed, heads, networks, pictures
from ltkit.training.batches import undersampled_size
from ltkit.training.features import stores
from ltkit.training.images import resident
from ltkit.training.job import Progress, Report, methods_in
from ltkit.training.recipe import Recipe, recipe
from ltkit.training.self_training import self_trained
from ltkit.training.starts import Start, start_of, unlike
from ltkit.training.teachers import Teacher, teacher_of


def quiet(progress: Progress) -> None:
    """Show nothing."""


def seed_paths(count: int, settings: TrainSettings, target: Path) -> list[tuple[int, Path]]:
    """Return each run's seed and output, from the seed of the settings on."""
    if count == 1:
        return [(settings.seed, target)]
    numbers = range(settings.seed, settings.seed + count)
    return [(n, target.with_name(f"{target.stem}.seed{n}{target.suffix}")) for n in numbers]


@dataclass(frozen=True)
class _Seeds:
    """The runs of a plan, one per seed, and whether those already begun are resumed."""

    recipes: list[Recipe]
    paths: list[Path]
    resumed: list[bool]

    @classmethod
    def of(
        cls, count: int, plan: TrainPlan, settings: TrainSettings, target: Path, resume: bool
    ) -> "_Seeds":
        """Return the runs for this many seeds, starting from that of the settings.

        When several are resumed, those not yet begun are started.

        Raises:
            InputError: as `recipe`, or when there is no seed.
        """
        if count not in RANGES["seeds"]:
            raise SettingError("seeds", f"found {count}, expected {RANGES['seeds']}")
        numbered = seed_paths(count, settings, target)
        recipes = [recipe(plan, replace(settings, seed=number)) for number, _ in numbered]
        paths = [path for _, path in numbered]
        known = [beside.begun(path) or (count > 1 and path.is_file()) for path in paths]
        return cls(recipes, paths, [resume and (found or not any(known)) for found in known])

    def __iter__(self) -> Iterator[tuple[Recipe, Path, bool]]:
        """Yield each run: its recipe, its output, whether it is resumed."""
        return zip(self.recipes, self.paths, self.resumed, strict=True)


def train_networks(
    dataset: Dataset | Callable[[], Dataset],
    plan: TrainPlan,
    settings: TrainSettings,
    output: Path,
    *,
    arch: str | None = None,
    experts: int | None = None,
    view: ViewSettings = ViewSettings(),  # noqa: B008 - it is frozen
    seeds: int = 1,
    class_means: Path | None = None,
    init: Path | None = None,
    keep_head: bool = False,
    teacher: Path | None = None,
    device: str = "cpu",
    keep_best: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[Path], Report] = lambda path: quiet,
    wrote: Callable[[Path], None] = lambda path: None,
    note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Train a network for each seed, one after another; they share the images.

    Args:
        dataset: what to train on, or what loads it once the outputs are known to be writable.
        plan: the losses, stages, sampler, mixing and kind of head.
        settings: the schedule, and the first seed.
        output: the checkpoint; of several seeds, ``<stem>.seed<n>.pt`` beside it.
        arch: a key of `ltkit.architectures.CATALOGUE`; None: that of `init`, or one that fits the
            pictures.
        experts: how many it has; None: those of `arch`, or as many as the method has of a network
            that is not named.
        view: what is said of how the network sees the pictures.
        seeds: how many runs, with the seeds from that of the settings on.
        class_means: a features file whose class means the loss takes instead of the network's own.
        init: a checkpoint whose weights all runs start from; a resumed run has them already.
        keep_head: whether its head is kept, too; else each run starts its own from the seed.
        teacher: a checkpoint that the loss learns from, or that gives unlabelled images of the
            dataset their labels; a resumed run is given it again.
        device: ``cpu`` or ``cuda[:i]``.
        keep_best: also write the epoch that is best on the validation split, ``<stem>.best.pt``.
        resume: resume interrupted runs; with several, start those not yet begun.
        overwrite: whether existing outputs and logs may be replaced.
        report: returns the callback for each epoch of the run with this output.
        wrote: called when a checkpoint is written.
        note: called with what was chosen.

    Returns:
        The checkpoints.

    Raises:
        InputError: when the plan, the settings or the outputs are refused, or as `networks.train`.
    """
    runs = _Seeds.of(seeds, plan, settings, output, resume)
    for _, path, goes_on in runs:
        _check_network(path, goes_on, several=seeds > 1, keep_best=keep_best, overwrite=overwrite)
    start = _start(init, keep_head, note)
    known = start or (_known_start(runs) if resume else None)
    data = dataset if isinstance(dataset, Dataset) else dataset()
    arch = arch or (known.arch if known is not None and known.arch in CATALOGUE else None)
    arch = _network(arch, experts, runs.recipes[0], data, note)
    data = _drawn_from(runs.recipes[0], _as_seen(data, arch, view, start, note), note)
    means = _means_of(runs.recipes[0], class_means, torch.from_numpy(data.classes.train_count))
    taught = _teacher(teacher, data, note)
    with distributed.group(device) as own:
        data, taught = _self_trained(data, runs.recipes[0], taught, own, note)
        if said := _of_undersampling(runs.recipes[0], torch.from_numpy(data.classes.train_count)):
            note(f"note: {said}")
        images = functools.cache(lambda: resident(data, settings.augment, own))
        for one, path, goes_on in runs:
            networks.train(
                data, arch, replace(one, class_means=means, start=start, teacher=taught), path,
                device=own, images=images, keep_best=keep_best, resume=goes_on, overwrite=overwrite,
                report=report(path),
            )  # fmt: skip
            if distributed.rank() == 0:
                wrote(path)
    return runs.paths


def _network(
    arch: str | None,
    experts: int | None,
    made: Recipe,
    data: Dataset,
    note: Callable[[str], None],
) -> str:
    """Return the architecture: the named one, or one that fits the pictures, with its experts.

    Raises:
        SettingError: when it has no form with so many.
    """
    if arch is not None:
        return arch if experts is None else with_experts(arch, experts)
    if experts is None:
        parts = methods_in(made.loss_of(torch.from_numpy(data.classes.train_count)))
        experts = max((part.experts for part in parts), default=0) or 1
    arch = pictures.network_for(data, experts)
    note(f"network: {arch}, which fits the pictures; --arch names another")
    return arch


def _as_seen(
    data: Dataset,
    arch: str,
    view: ViewSettings,
    start: Start | None,
    note: Callable[[str], None],
) -> Dataset:
    """Return the pictures as the network sees them; say how, and where it was used to others."""
    data, lines = pictures.as_seen(data, arch, view)
    for line in lines:
        note(line)
    if start is not None and (said := unlike(start, data.mean, data.std)):
        note(f"note: {said}")
    return data


def _drawn_from(made: Recipe, data: Dataset, note: Callable[[str], None]) -> Dataset:
    """Return a dataset whose training images are those that a method learns from.

    Raises:
        InputError: when it has no such split, or no image in it.
    """
    parts = methods_in(made.loss_of(torch.from_numpy(data.classes.train_count)))
    name = next((part.split for part in parts if part.split != "train"), None)
    if name is None:
        return data
    split = data.split(name)
    note(f"note: {made.method} learns from the {len(split)} images of {name}, without their labels")
    return replace(data, splits={**data.splits, "train": split})


def _start(init: Path | None, keep_head: bool, note: Callable[[str], None]) -> Start | None:
    """Read what networks start from; say what of it is used.

    Raises:
        InputError: as `starts.start_of`, or when a head is to be kept of nothing.
    """
    if init is None:
        if keep_head:
            raise SettingError("keep_head", "found no checkpoint to start from (init)")
        return None
    start = start_of(init, keep_head=keep_head)
    note(f"note: {start.note}")
    return start


def _teacher(path: Path | None, data: Dataset, note: Callable[[str], None]) -> Teacher | None:
    """Read what networks learn from, where it is named; say so."""
    if path is None:
        return None
    teacher = teacher_of(path, data)
    note(f"note: {teacher.note}")
    return teacher


def _self_trained(
    data: Dataset, made: Recipe, taught: Teacher | None, device: str, note: Callable[[str], None]
) -> tuple[Dataset, Teacher | None]:
    """Return data with labels for what has none, and the teacher where the loss learns from it."""
    if UNLABELLED not in data.splits:
        return data, taught
    data, said = self_trained(data, taught, device)
    note(f"note: {said}")
    parts = methods_in(made.loss_of(torch.from_numpy(data.classes.train_count)))
    return data, taught if any(part.takes_teacher for part in parts) else None


def _of_undersampling(made: Recipe, counts: Tensor) -> str:
    """Return a note where an epoch leaves samples out, of classes with (C,) counts; else ''."""
    if "undersample" not in made.samplers:
        return ""
    seen, whole = undersampled_size(counts), int(counts.sum())
    return f"undersample: an epoch has {seen} of {whole} training samples, others each time"


def _known_start(runs: _Seeds) -> checkpoint.Started | None:
    """Return what resumed runs started from.

    Raises:
        SettingError: when others are not yet begun, and would start without it.
    """
    begun = [path for _, path, goes_on in runs if goes_on]
    found = [checkpoint.started(beside.state_of(path)) for path in begun]
    known = next((one for one in found if one), None)
    if known and len(begun) < len(runs.paths):
        said = "found seeds not yet begun, and no checkpoint that they start from"
        raise SettingError("init", said)
    return known


def _check_network(
    path: Path, goes_on: bool, *, several: bool, keep_best: bool, overwrite: bool
) -> None:
    """Refuse the output of a seed that cannot or must not be written; hold it."""
    writes = distributed.writes()
    if not (goes_on and several) or beside.begun(path):
        check_output(path, overwrite=overwrite, writes=writes)
    elif writes:
        hold(path)
    beside.check_beside(path, resume=goes_on)
    if keep_best:
        best = beside.best_path(path)
        check_output(best, overwrite=overwrite or goes_on, writes=writes)


def train_heads(
    features: Path,
    plan: TrainPlan,
    settings: TrainSettings,
    output: Path,
    *,
    seeds: int = 1,
    class_means: Path | None = None,
    base: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    report: Callable[[Path], Report] = lambda path: quiet,
    note: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Train a head on cached features for each seed; write them as the runs of one file.

    Classes without training images are left out: the head is trained on the others, and its rows of
    these are those of `heads.of_left_out`.

    Args:
        features: the features file.
        plan: the losses, stages, sampler and kind of head.
        settings: the schedule, and the first seed; `HeadSettings` has the usual one.
        output: the classifier file.
        seeds: how many runs, with the seeds from that of the settings on.
        class_means: a features file whose class means the loss takes instead of these ones.
        base: a classifier file that heads with ``init`` head start from instead of the file's own.
        device: ``cpu`` or ``cuda[:i]``.
        resume: resume interrupted runs; with several, start those not yet begun.
        overwrite: whether existing outputs and logs may be replaced.
        command: as typed, to be kept in the file.
        report: returns the callback for each epoch of the run with this output.
        note: called with a note on classes that are left out.

    Returns:
        The classifier file; None in a process of several that does not write.

    Raises:
        InputError: when the plan, the settings or the output are refused, or as `heads.train`.
    """
    runs = _Seeds.of(seeds, plan, settings, output, resume)
    writes = distributed.writes()
    check_output(output, overwrite=overwrite, inputs=(features,), writes=writes)
    for _, path, goes_on in runs:
        if writes:
            hold(path)
        beside.check_beside(path, resume=goes_on)
    data = features_file.read(features)
    if base is not None:
        data = bases.read(base, data)
    every, present = data, Present.of(data)
    for line in _left_out(data, present, runs.recipes[0]):
        note(line)
    data = data if present.whole else present.features(data)
    counts = torch.from_numpy(data.classes.train_count)
    means = _means_of(runs.recipes[0], class_means, counts, present)
    corrections = []
    with distributed.group(device) as own:
        held = functools.cache(lambda: stores(data, own))
        for one, path, goes_on in runs:
            head = heads.train(
                data, replace(one, class_means=means), path, device=own, held=held,
                resume=goes_on, overwrite=overwrite, report=report(path),
            )  # fmt: skip
            if not present.whole:
                head = present.widened(head, heads.of_left_out(every, one))
            run = {**one.parameters, "seed": one.settings.seed}
            corrections.append(Correction.whole(plan.method, head, run))
        if distributed.rank() > 0:
            return None
    inputs = data.inputs | ({"class_means": means[0]} if means else {})
    kept = _kept(runs.recipes[0])
    classifiers.write(output, joined(corrections), settings=kept, inputs=inputs, command=command)
    for path in runs.paths:
        beside.forget(path)
    return output


def _left_out(data: FeatureSet, present: Present, made: Recipe) -> Iterator[str]:
    """Yield notes on the classes and the samples that a run leaves out."""
    if not present.whole:
        then = "their rows stay as they are" if made.init in heads.KEPT else "never predicted"
        yield note_of_left_out(data.classes, present.left_out, then)
    if said := _of_undersampling(made, torch.from_numpy(data.classes.train_count)):
        yield said


def _kept(first: Recipe) -> dict[str, object]:
    """Return the settings that a classifier file records."""
    return as_json(first.settings) | {
        "method": first.method, "parameters": first.parameters, "sampler": first.sampler,
        "then": asdict(first.then) if first.then else None, "cosine": first.cosine,
        "scale": first.scale, **({} if first.init is None else {"init": first.init}),
    }  # fmt: skip


def _means_of(
    made: Recipe, path: Path | None, counts: Tensor, present: Present | None = None
) -> tuple[str, Tensor] | None:
    """Return a features file's digest and the (C, D) class means of its train split.

    Args:
        made: whose loss takes them.
        path: the file; None: there are no means.
        counts: (C,) training images.
        present: which classes of the file the C are; None: all.

    Raises:
        SettingError: when the loss takes none, or they are of other classes.
    """
    if path is None:
        return None
    if not getattr(made.loss_of(counts), "takes_class_means", False):
        raise SettingError("class_means", f"{made.method} takes none; swrm does")
    features = features_file.read(path)
    found, expected = len(features.classes), present.num_classes if present else len(counts)
    if found != expected:
        raise SettingError("class_means", f"{path}: found {found} classes, expected {expected}")
    means, _ = means_of(features.split("train"), found)
    return features.digest, torch.from_numpy(means if present is None else means[present.ids])
