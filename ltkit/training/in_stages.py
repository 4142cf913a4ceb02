"""A recipe of several runs, trained one after another, from the data to the last checkpoint."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ltkit.architectures import with_experts
from ltkit.errors import SettingError
from ltkit.files.atomic import check_output
from ltkit.records import Dataset
from ltkit.registry import load, parameters_of
from ltkit.settings import RANGES, TrainSettings, ViewSettings
from ltkit.training import beside, checks, distributed, pictures, recipes
from ltkit.training.job import Report
from ltkit.training.recipe import recipe
from ltkit.training.recipes import StagePlan
from ltkit.training.runs import quiet, seed_paths, train_networks


class _Stage(NamedTuple):
    """A stage of one seed, and where its checkpoint goes."""

    number: int
    plan: StagePlan
    path: Path

    def name(self, count: int) -> str:
        """Return what it is called, among so many."""
        return f"stage {self.number} of {count}, {self.plan.plan.method}"

    @property
    def known(self) -> bool:
        """Whether it was begun."""
        return beside.begun(self.path) or self.path.is_file()


class _Chain(NamedTuple):
    """The stages of one seed."""

    stages: list[_Stage]

    def options(self, stage: _Stage) -> dict[str, Any]:
        """Return what a stage takes of those before it."""
        plan = stage.plan
        start, teacher = (
            None if number is None else self.stages[number - 1].path
            for number in (plan.start, plan.teacher)
        )
        kept = start is not None
        return {"init": start, "keep_head": kept, "teacher": teacher, "experts": plan.experts}


def stage_path(output: Path, number: int) -> Path:
    """Return the path of a stage before the last.

    Example:
        >>> str(stage_path(Path("nets/ssd.pt"), 1))
        'nets/ssd.stage1.pt'
    """
    return output.with_name(f"{output.stem}.stage{number}{output.suffix}")


def train_in_stages(
    dataset: Dataset | Callable[[], Dataset],
    name: str,
    parameters: Mapping[str, Any],
    settings: TrainSettings,
    output: Path,
    *,
    arch: str | None = None,
    view: ViewSettings = ViewSettings(),  # noqa: B008 - it is frozen
    seeds: int = 1,
    device: str = "cpu",
    keep_best: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[Path], Report] = lambda path: quiet,
    wrote: Callable[[Path], None] = lambda path: None,
    note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Train a recipe's stages for each seed, one after another.

    Args:
        dataset: as `runs.train_networks`.
        name: of the recipe.
        parameters: of it.
        settings: from which it makes those of its stages, and the first seed.
        output: the last stage's checkpoint; the others are at `stage_path`.
        arch: of all networks, but for their experts; None: one that fits the pictures.
        view: as `runs.train_networks`.
        seeds: as there.
        device: ``cpu`` or ``cuda[:i]``.
        keep_best: also write the best epoch of the last stage.
        resume: resume with the stage that was interrupted; with several seeds, start those not yet
            begun.
        overwrite: whether existing outputs and logs may be replaced.
        report: returns the callback for each epoch of the run with this output.
        wrote: called when a checkpoint is written, or is there already.
        note: called with what was chosen, each line once a stage.

    Returns:
        The checkpoints of the last stages.

    Raises:
        InputError: when something is unknown or refused, or as `runs.train_networks`.
    """
    chains = _chains(name, parameters, settings, output, seeds)
    data = functools.cache(lambda: _loaded(dataset, chains[0], arch))
    more: dict[str, Any] = {
        "arch": arch,
        "view": view,
        "device": device,
        "report": report,
        "wrote": wrote,
    }
    with distributed.group(device):
        known = {stage.path for chain in chains for stage in chain.stages if stage.known}
        if not (resume and known):
            _check_outputs(chains, overwrite)
        distributed.wait()  # for the files are looked at by all
        for chain, stage in ((every, one) for every in chains for one in every.stages):
            goes_on, plan = resume and (stage.path in known or not known), stage.plan
            note(f"{stage.name(len(chain.stages))}, {plan.settings.epochs} epochs: {stage.path}")
            train_networks(
                data, plan.plan, plan.settings, stage.path, resume=goes_on, note=note,
                keep_best=keep_best and stage is chain.stages[-1], overwrite=overwrite or goes_on,
                **chain.options(stage), **more,
            )  # fmt: skip
            distributed.wait()  # for the checkpoint, which the next stage reads
    return [chain.stages[-1].path for chain in chains]


def _chains(
    name: str, parameters: Mapping[str, Any], settings: TrainSettings, output: Path, seeds: int
) -> list[_Chain]:
    """Return the stages of each seed.

    Raises:
        InputError: when the recipe or a parameter is unknown, or one of its plans is refused.
    """
    if seeds not in RANGES["seeds"]:
        raise SettingError("seeds", f"found {seeds}, expected {RANGES['seeds']}")
    planned = load(recipes, name).stages
    chosen = parameters_of(planned, parameters, name)
    chains = []
    for number, path in seed_paths(seeds, settings, output):
        plans = planned(replace(settings, seed=number), **chosen)
        paths = [*(stage_path(path, n) for n in range(1, len(plans))), path]
        both = zip(plans, paths, strict=True)
        chains.append(_Chain([_Stage(n, *one) for n, one in enumerate(both, 1)]))
    return chains


def _check_outputs(chains: list[_Chain], overwrite: bool) -> None:
    """Refuse outputs that cannot or must not be written, before the first stage; hold them."""
    for path in (stage.path for chain in chains for stage in chain.stages):
        check_output(path, overwrite=overwrite, writes=distributed.writes())


def _loaded(dataset: Dataset | Callable[[], Dataset], chain: _Chain, arch: str | None) -> Dataset:
    """Return the dataset, on which all stages' losses and networks can be trained.

    Raises:
        InputError: when one of them cannot, before the first is trained for hours.
    """
    data = dataset if isinstance(dataset, Dataset) else dataset()
    counts = torch.from_numpy(data.classes.train_count)
    for stage in chain.stages:
        settings = stage.plan.settings
        made = recipe(stage.plan.plan, settings)
        checks.check_settings(settings)
        checks.check_methods(made.loss_of(counts), settings, made.method, data)
        if (experts := stage.plan.experts) is not None:
            with_experts(arch or pictures.network_for(data), experts)
    return data
