"""The recipe of one run: its losses, their parameters, stages, sampler, mixing and kind of head."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor

from ltkit import losses
from ltkit.errors import SettingError
from ltkit.losses import Stateful
from ltkit.registry import defaults, load, names, parameters_of
from ltkit.settings import Init, Sampler, Trained, TrainPlan, TrainSettings, as_json, check
from ltkit.training import methods, mixing
from ltkit.training.deferred import Deferred, OfBatch
from ltkit.training.mixing import Mixing
from ltkit.training.schedules import Stage
from ltkit.training.starts import Start
from ltkit.training.teachers import Teacher

PREFIXES = ("mix", "then")
"""Prefixes of parameters that do not belong to the first loss."""

Loss = OfBatch | Stateful


@dataclass(frozen=True)
class Recipe:
    """One run, except the data: everything in it determines the result.

    method: the loss's name, for the files that are written.
    loss_of: gives the loss for (C,) training counts: ``loss(logits, labels, class_counts)``, or a
        `Stateful` one.
    settings: the schedule and the seed.
    parameters: of the loss, for the files that are written.
    sampler: how an epoch's samples are chosen: each once (``instance``), or as many draws with the
        probabilities of `schedules.class_probabilities`.
    then: what changes at an epoch, but for the loss, which is a `Deferred` one.
    mixing: how batches of images are mixed.
    cosine, scale: whether the head is a cosine head, and its factor.
    init: what a head on cached features starts from; None: rows drawn from the seed.
    class_means: for a loss that asks for them, of another model: a digest, for the files, and the
        (C, D) means; None: those of the network, or of the features.
    start: what a network starts from; None: weights drawn from the seed.
    trained: what of a network with a start is trained.
    teacher: what it learns from, for a loss that does.
    """

    method: str
    loss_of: Callable[[Tensor], Loss]
    settings: TrainSettings
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sampler: Sampler = "instance"
    then: Stage | None = None
    mixing: Mixing | None = None
    cosine: bool = False
    scale: float = 1.0
    class_means: tuple[str, Tensor] | None = None
    init: Init | None = None
    start: Start | None = None
    trained: Trained = "all"
    teacher: Teacher | None = None

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """The samplers of its stages."""
        return (self.sampler, *((self.then.sampler,) if self.then else ()))

    def record(self, data: Mapping[str, Any], arch: str | None = None) -> dict[str, Any]:
        """Return what files record of it, with what it is trained on."""
        return {
            **as_json(self.settings), "method": self.method, "parameters": dict(self.parameters),
            **({} if arch is None else {"arch": arch}), "cosine": self.cosine, "scale": self.scale,
            **data, "sampler": self.sampler,
            "class_means": self.class_means[0] if self.class_means else None,
            "then": asdict(self.then) if self.then else None,
            **({} if self.init is None else {"init": self.init}),
            **({} if self.trained == "all" else {"train": self.trained}),
            **({} if self.teacher is None else {"teacher": self.teacher.digest}),
        }  # fmt: skip


def recipe(plan: TrainPlan, settings: TrainSettings) -> Recipe:
    """Return the run described by a plan.

    A loss with a scale makes the head a cosine head and gives it its scale; one that draws at
    random has the run's seed, unless the parameters say another.

    Args:
        plan: what is asked for.
        settings: the schedule, and the seed of the run.

    Raises:
        InputError: when something in the plan is unknown, is missing, or does not go with the rest.

    Example:
        >>> made = recipe(TrainPlan("ldam", {"max-margin": "0.4"}), TrainSettings(seed=3))
        >>> made.cosine, made.scale, made.parameters
        (True, 30.0, {'scale': 30.0, 'max_margin': 0.4})
    """
    check(plan)
    given = _by_prefix(plan.parameters)
    module, mixed = load_method(plan.method), _mixing(plan.mixing, given["mix"])
    shared = {"scale": plan.scale, "seed": settings.seed}
    first = _choice(plan.method, module, given[""], shared)
    has_scale = "scale" in defaults(module.loss)
    cosine, scale = plan.cosine or has_scale, first.parameters.get("scale", plan.scale)
    second = first
    if plan.then is not None:
        second = _second(plan.then, given["then"], cosine, shared | {"scale": scale})
    elif given["then"]:
        said = "found no loss of a second stage (then), whose parameter it would be"
        raise SettingError(f"parameters then.{next(iter(given['then']))}", said)
    stage = _stage(plan, second)
    loss_of = _loss_of(first, plan.drw)
    if stage is not None and second is not first:
        loss_of = partial(
            _two_losses, loss_of, _loss_of(second, None), stage.from_epoch,
            held=stage.freeze == "backbone",
        )  # fmt: skip
    parameters = first.parameters | ({} if plan.drw is None else {"drw": plan.drw})
    return Recipe(
        plan.method, loss_of, settings, parameters, plan.sampler, stage, mixed, cosine,
        scale if cosine else 1.0, init=plan.init, trained=plan.train,
    )  # fmt: skip


def load_method(name: str) -> ModuleType:
    """Return the module of a loss, or of a method that needs more than a loss.

    Raises:
        InputError: when there is neither; the message lists the nearest names.
    """
    return load(methods if name in names(methods) else losses, name)


class _Choice(NamedTuple):
    """A chosen loss."""

    method: str
    module: ModuleType
    parameters: dict[str, Any]


def _by_prefix(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters of the loss, and those of mix and then without their prefix."""
    groups: dict[str, dict[str, Any]] = {prefix: {} for prefix in ("", *PREFIXES)}
    for name, value in given.items():
        prefix, dot, rest = name.partition(".")
        if dot and prefix in PREFIXES:
            groups[prefix][rest] = value
        else:
            groups[""][name] = value
    return groups


def _choice(
    method: str, module: ModuleType, given: Mapping[str, Any], shared: Mapping[str, Any]
) -> _Choice:
    """Return a loss with its parameters; shared ones follow the run if it sets them."""
    known = defaults(module.loss)
    own = {name: value for name, value in shared.items() if name in known}
    return _Choice(method, module, own | parameters_of(module.loss, given, method))


def _mixing(name: str | None, given: Mapping[str, Any]) -> Mixing | None:
    """Return how images are mixed.

    Raises:
        InputError: for an unknown mixing, or parameters without a mixing.
    """
    if name is None:
        if given:
            said = "found no mixing, whose parameter it would be"
            raise SettingError(f"parameters mix.{next(iter(given))}", said)
        return None
    mix = load(mixing, name).mix
    made: Mixing = mix(**parameters_of(mix, given, name))
    return made


def _second(
    method: str, given: Mapping[str, Any], cosine: bool, shared: Mapping[str, Any]
) -> _Choice:
    """Return the loss of the second stage.

    Raises:
        InputError: when its parameters are unknown, or it would need another head than the first.
    """
    module = load_method(method)
    if "scale" in defaults(module.loss) and not cosine:
        said = "needs a cosine head from the start; set cosine, too"
        raise SettingError(f"then {method}", said)
    second, scale = _choice(method, module, given, shared), shared["scale"]
    if (found := second.parameters.get("scale", scale)) != scale:
        said = f"expected {scale:g}, the scale of the head"
        raise SettingError(f"parameters then.scale={found:g}", said)
    return second


def _stage(plan: TrainPlan, loss: _Choice) -> Stage | None:
    """Return the second stage, or None if there is none.

    Raises:
        SettingError: when it changes nothing, has no beginning, or there are two of them.
    """
    options = ("then", "then_sampler", "then_lr", "freeze")
    changes = [name for name in options if getattr(plan, name) is not None]
    if plan.from_epoch is None:
        if changes:
            raise SettingError(changes[0], "needs from_epoch, where the second stage starts")
        return None
    if not changes:
        raise SettingError("from_epoch", f"changes nothing; set one of {', '.join(options)}")
    if plan.drw is not None:
        raise SettingError("drw", "is a second stage already; expected no from_epoch beside it")
    return Stage(
        plan.from_epoch, loss.method, loss.parameters, plan.then_sampler or plan.sampler,
        plan.then_lr, plan.freeze,
    )  # fmt: skip


def _loss_of(choice: _Choice, drw: int | None) -> Callable[[Tensor], Loss]:
    """Return a function that makes the loss for training counts, with deferred weights if asked.

    Raises:
        SettingError: when class weights are deferred for a loss that has none.
    """
    method, module, parameters = choice
    made = partial(module.loss, **parameters)
    if drw is None:
        return made if isinstance(module.loss, type) else lambda class_counts: made
    if not hasattr(module, "UNIFORM"):
        said = f"{method} has no class weights to defer; weighted, class-balanced, ldam, ride have"
        raise SettingError("drw", said)
    later = getattr(module, "DEFERRED", {}) | parameters
    first, then = partial(module.loss, **parameters | module.UNIFORM), partial(module.loss, **later)
    if isinstance(module.loss, type):
        return partial(_two_losses, first, then, drw)
    return lambda class_counts: Deferred(class_counts, first, then, drw)


def _two_losses(
    first: Callable[[Tensor], Loss],
    then: Callable[[Tensor], Loss],
    epoch: int,
    class_counts: Tensor,
    *,
    held: bool = False,
) -> Deferred:
    return Deferred(class_counts, first(class_counts), then(class_counts), epoch, held=held)
