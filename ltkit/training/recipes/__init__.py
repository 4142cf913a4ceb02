"""Recipes of several runs, one file each: what is trained, one after another, from what.

The file's ``stages`` gives them for a run's settings; its keyword-only parameters are those of
``--set``. `ltkit.training.recipe` is about one run, `ltkit.training.in_stages` trains several.
"""

from dataclasses import dataclass

from ltkit.settings import TrainPlan, TrainSettings


@dataclass(frozen=True)
class StagePlan:
    """One of a recipe's runs; other stages are named by their number, from 1.

    plan, settings: what is trained, and how.
    start: the stage whose network it starts from, the head included; None: it starts anew.
    teacher: the stage whose network it learns from; None: it has no teacher.
    experts: of its network; None: those of the run's.
    """

    plan: TrainPlan
    settings: TrainSettings
    start: int | None = None
    teacher: int | None = None
    experts: int | None = None
