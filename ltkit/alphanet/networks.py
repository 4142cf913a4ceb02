"""The small networks that compute the coefficients, all runs as one stack."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim.adamw import adamw

from ltkit.records import Classifier, Ints, Neighbors
from ltkit.settings import Activation, AlphaNetSettings

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""AdamW parameters: PyTorch's defaults, as in the released code."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "leaky_relu": functional.leaky_relu,  # slope 0.01, PyTorch's default, as in the released code
    "relu": functional.relu,
    "tanh": torch.tanh,
}


class Networks:
    """S networks with three hidden layers as one stack of parameters, and their AdamW state."""

    def __init__(
        self, base: Classifier, neighbors: Neighbors, runs: Sequence[AlphaNetSettings], device: str
    ) -> None:
        """Initialise every run from its seed."""
        settings, few = runs[0], neighbors.few_class
        self.activation = settings.activation
        self.inputs = network_inputs(base, neighbors, settings.network_input).to(device)
        sizes = (self.inputs.shape[1], *settings.hidden, neighbors.k)
        layers = list(itertools.pairwise(sizes))
        self.parameters: list[Tensor] = []
        for size_in, size in layers:
            self.parameters.append(torch.empty(len(runs), size, size_in))
            self.parameters.append(torch.empty(len(runs), size))
        for number, run in enumerate(runs):
            generator = torch.Generator().manual_seed(run.seed)
            for layer, (size_in, _) in enumerate(layers):
                for stack in self.parameters[2 * layer : 2 * layer + 2]:
                    stack[number].uniform_(-(size_in**-0.5), size_in**-0.5, generator=generator)
        bias = torch.from_numpy(base.bias[few]).repeat(len(runs), 1) * settings.logit_scale
        self.few_bias = bias.to(device)  # (S, F)
        self.parameters = [p.to(device) for p in self.parameters]
        self.trained = list(self.parameters)
        if settings.few_biases == "learned":
            self.trained.append(self.few_bias)
        self._averages = [torch.zeros_like(p) for p in self.trained]
        self._squares = [torch.zeros_like(p) for p in self.trained]
        self._steps = [[torch.zeros((), device=device) for _ in runs] for _ in self.trained]
        self._weight_decay = settings.weight_decay

    def alphas(self, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """Return (S, F, K) coefficients with unit absolute sum, from these or from all networks."""
        return alphas_of(
            self.inputs, self.parameters if parameters is None else parameters, self.activation
        )

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Take one AdamW step with the gradients of the first S' runs."""
        active = len(gradients[0])

        def each(stacks: Sequence[Tensor]) -> list[Tensor]:
            return [one for stack in stacks for one in stack[:active].unbind()]

        adamw(
            each(self.trained),
            each([g.contiguous() for g in gradients]),  # the fused kernel takes no strides
            each(self._averages),
            each(self._squares),
            [],
            [one for steps in self._steps for one in steps[:active]],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )


def network_inputs(base: Classifier, neighbors: Neighbors, network_input: str) -> Tensor:
    """Return the (F, K D) rows that the networks read, with the class's own first if it is read."""
    near = base.weight[neighbors.base_class]  # (F, K, D)
    if network_input == "own+neighbors":
        near = np.concatenate([base.weight[neighbors.few_class][:, None], near], axis=1)
    return torch.from_numpy(np.ascontiguousarray(near.reshape(len(near), -1)))


def alphas_of(inputs: Tensor, parameters: Sequence[Tensor], activation: Activation) -> Tensor:
    """Return (S, F, K) coefficients with unit absolute sum."""
    weight, bias = parameters[0], parameters[1]
    hidden = inputs @ weight.flatten(0, 1).T  # one product for all runs: (F, S * 32)
    hidden = hidden.view(len(inputs), *bias.shape).transpose(0, 1) + bias[:, None]
    for weight, bias in zip(parameters[2::2], parameters[3::2], strict=False):
        hidden = ACTIVATIONS[activation](hidden)
        hidden = torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))  # (S, F, size)
    size = hidden.abs().sum(dim=2, keepdim=True)
    return hidden / torch.where(size > 0, size, 1)


def combine(base: Classifier, neighbors: Neighbors, alpha: NDArray[Any]) -> NDArray[np.float32]:
    """Return the corrected rows ``w_c + sum_i alpha_ci v_ci``.

    Args:
        base: classifier with the rows w and v.
        neighbors: (F, K) classes whose rows are added.
        alpha: (S, F, K) coefficients.

    Returns:
        (S, F, D) float32.

    Example:
        >>> base = Classifier(np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32))
        >>> near = Neighbors(np.array([2]), np.array([[0, 1]]), np.ones((1, 2)))
        >>> combine(base, near, np.array([[[0.75, -0.25]]])).tolist()
        [[[0.75, -0.25, 1.0]]]

    Source:
        Chang et al., arXiv:2008.07073, the definition of the corrected classifier.
    """
    own = base.weight[neighbors.few_class].astype(np.float64)
    combined: NDArray[np.float32] = (own + added_rows(base, neighbors.base_class, alpha)).astype(
        np.float32
    )
    return combined


def added_rows(base: Classifier, near: Ints, alpha: NDArray[Any]) -> NDArray[np.float64]:
    """Return the (S, F, D) sums ``sum_i alpha_ci v_ci`` of (F, K) classes' rows, in float64."""
    rows = base.weight[near].astype(np.float64)
    added: NDArray[np.float64] = np.einsum("sfk,fkd->sfd", alpha.astype(np.float64), rows)
    return added
