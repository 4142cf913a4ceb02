"""The training job of one run: network, loss, samples and optimizer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ltkit.architectures.network import Network
from ltkit.losses import Stateful
from ltkit.records import Ints
from ltkit.training.deferred import Deferred, OfBatch
from ltkit.training.methods import Method
from ltkit.training.recipe import Recipe
from ltkit.training.stores import Store
from ltkit.training.validation import accuracy_of


@dataclass(frozen=True)
class Progress:
    """The progress of training, for display.

    epoch: finished epochs; loss: mean of the epoch; accuracy: balanced, on val, or None.
    images_per_second: of this epoch; seconds_left: at this rate.
    line: all numbers of the epoch, as the log has them.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float
    line: Mapping[str, Any]


Report = Callable[[Progress], None]
"""Called after each epoch."""


class Samples(NamedTuple):
    """The samples for training and validation.

    labels: (N,) int64, of the store's samples, on its device.
    class_counts: (C,) training images per class, there, too.
    val, val_labels: the validation split, where there is one.
    shot_counts: (C,) by which classes fall into shot groups; None: class_counts.
    """

    store: Store
    labels: Tensor
    class_counts: Tensor
    val: Store | None
    val_labels: Ints | None
    shot_counts: Tensor | None = None


@dataclass
class Job:
    """A training job; `job_of` makes one.

    labels: (N,) int64, of the store's samples.
    class_counts: (C,) training images per class.
    accuracy: gives the (C,) accuracy on the validation split after so many epochs.
    class_means: gives the (C, D) mean features of the classes.
    keep: called after so many epochs when none was better on the validation split.
    shot_counts: (C,) by which classes fall into shot groups; None: class_counts.
    epoch: finished ones.
    """

    recipe: Recipe
    network: Network
    loss: Stateful
    store: Store
    labels: Tensor
    class_counts: Tensor
    class_means: Callable[[], Tensor]
    accuracy: Callable[[int], Tensor] | None
    keep: Callable[[int], None] | None = None
    shot_counts: Tensor | None = None
    epoch: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        """Join the parameters of the network and the loss; seed the draws."""
        settings = self.recipe.settings
        self.generator.manual_seed(settings.seed)
        self.whole = _Whole(self.network, self.loss)
        decays = any(method.weight_decay for method in methods_in(self.loss))
        self.optimizer = torch.optim.SGD(
            _groups(self.network, self.loss, settings.weight_decay if decays else 0.0),
            settings.learning_rate, settings.momentum,
            weight_decay=settings.weight_decay, nesterov=settings.nesterov, fused=True,
        )  # fmt: skip
        self.wrapped = "not yet"
        self.parallel: nn.Module = self.network


def _groups(network: Network, loss: Stateful, decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups; ``part`` names those that have a learning rate of their own.

    Args:
        network: that is trained, with the run's weight decay.
        loss: whose parameters are trained beside.
        decay: weight decay of these.
    """
    methods = methods_in(loss)
    rated = {name for method in methods for name in method.rates}
    of: dict[int, str] = {}
    for module in (network, *methods):
        for name, parameter in module.named_parameters():
            inside = (part for part in rated if f"{name}.".startswith(f"{part}."))
            of[id(parameter)] = next(inside, "")
    groups: list[dict[str, Any]] = []
    for module, more in ((network, {}), (loss, {"weight_decay": decay})):
        parts: dict[str, list[nn.Parameter]] = {}
        for parameter in module.parameters():
            if parameter.requires_grad or module is network:
                parts.setdefault(of.get(id(parameter), ""), []).append(parameter)
        groups += [{"params": held, "part": part, **more} for part, held in parts.items()]
    return groups


class _Whole(Network):
    """A network with its loss: the tensors of both are saved together."""

    def __init__(self, network: Network, loss: Stateful) -> None:
        super().__init__(network.backbone, network.head)
        self.loss = loss


def method_of(loss: Stateful) -> Method | None:
    """Return the method in use, where the loss in use is one."""
    now = loss.current if isinstance(loss, Deferred) else loss
    return now if isinstance(now, Method) else None


def _evaluated(loss: Stateful, network: Network) -> nn.Module:
    method = method_of(loss)
    return network if method is None else method.evaluated(network)


def methods_in(loss: OfBatch | Stateful) -> list[Method]:
    """Return the methods that a loss is, or has for its stages."""
    parts = loss.parts if isinstance(loss, Deferred) else (loss,)
    return [part for part in parts if isinstance(part, Method)]


Built = TypeVar("Built")


def seeded(build: Callable[[], Built], seed: int) -> Built:
    """Build something with weights that follow from a seed, without affecting other draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def job_of(
    recipe: Recipe,
    loss: OfBatch | Stateful,
    network: Network,
    samples: Samples,
    class_means: Callable[[], Tensor],
    keep: Callable[[int], None] | None = None,
) -> Job:
    """Return the job of a recipe.

    Args:
        recipe: what the run is.
        loss: the recipe's loss.
        network: on the device.
        samples: on the device.
        class_means: gives the (C, D) mean features, where the recipe has none of another model.
        keep: as `Job` has it.
    """
    store, labels, counts, val, val_labels, shot_counts = samples
    if not isinstance(loss, Stateful):
        loss = Deferred(counts, loss, loss, 0)
    given, accuracy = recipe.class_means, None
    if val is not None and val_labels is not None:
        model = partial(_evaluated, loss, network)
        accuracy = accuracy_of(model, val, val_labels, len(counts), recipe.settings)
    for method in methods_in(loss):
        if recipe.teacher and method.takes_teacher:
            method.teacher = recipe.teacher.to(store.device)
        seeded(partial(method.attach, network), recipe.settings.seed)
    means = class_means if given is None else lambda: given[1]
    return Job(
        recipe, network, loss.to(store.device), store, labels, counts, means, accuracy, keep,
        shot_counts,
    )  # fmt: skip
