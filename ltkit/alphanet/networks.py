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
from ltkit.settings import Activation, AlphaNetAmp, AlphaNetSettings

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""AdamW parameters: PyTorch's defaults, as in the released code."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "leaky_relu": functional.leaky_relu,  # slope 0.01, PyTorch's default, as in the released code
    "relu": functional.relu,
    "tanh": torch.tanh,
}


class Networks:
    """S networks with three hidden layers as one stack of parameters."""

    def __init__(
        self, base: Classifier, neighbors: Neighbors, runs: Sequence[AlphaNetSettings], device: str
    ) -> None:
        """Initialise every run from its seed."""
        settings, few = runs[0], neighbors.few_class
        self.settings = settings
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

    def alphas(self) -> Tensor:
        """Return (S, F, K) coefficients with unit absolute sum."""
        return alphas_of(self.inputs, self.parameters, self.settings.activation)


class Learner:
    """Some runs' networks in training, with their AdamW state.

    Args:
        networks: of all runs; what is learned is written there.
        runs: of which these are.
        alone: one thread trains them, perhaps beside others with other runs.
    """

    def __init__(self, networks: Networks, runs: slice, *, alone: bool = False) -> None:
        """Allocate what training needs."""
        self.runs, self.settings, self.alone = runs, networks.settings, alone
        self.trained = [p[runs] for p in networks.trained]
        self._layers = len(networks.parameters)
        self._few_bias = networks.few_bias[runs]
        self._first = _FirstLayers(networks.inputs, self.trained[0], self.settings.amp, alone=alone)
        self._averages = [torch.zeros_like(p) for p in self.trained]
        self._squares = [torch.zeros_like(p) for p in self.trained]
        count, device = len(self.trained[0]), networks.inputs.device
        self._steps = [[torch.zeros((), device=device) for _ in range(count)] for _ in self.trained]

    def alphas_and_biases(self, trained: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the (S', F, K) coefficients and (S', F) biases of the first S' runs.

        Args:
            trained: their parts of what is trained.
        """
        products = _FirstProducts.apply(self._first, trained[0])
        alphas = _from_first_products(products, trained[: self._layers], self.settings.activation)
        learned = len(trained) > self._layers
        return alphas, trained[-1] if learned else self._few_bias[: len(alphas)]

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
            weight_decay=self.settings.weight_decay,
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
    return _from_first_products(_first_products(inputs, parameters[0]), parameters, activation)


def _first_products(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the (F, S * 32) products with the rows of all runs' first layers, as one."""
    return inputs @ weight.flatten(0, 1).T


class _FirstLayers:
    """The products of all runs' first layers in training, and their gradient.

    These can have tens of millions of numbers. What is as large is allocated once: the system has
    to clear new memory in each step.

    Args:
        inputs: (F, K D) rows that the networks read.
        weight: (S, 32, K D) of the first layers.
        amp: ``bf16``: products of bfloat16 numbers, added up in float32.
        alone: made on one thread, by NumPy in float32 (docs/decisions.md).
    """

    def __init__(
        self, inputs: Tensor, weight: Tensor, amp: AlphaNetAmp, *, alone: bool = False
    ) -> None:
        """Allocate."""
        self._alone = alone
        self._inputs, self._gradient = inputs, torch.empty_like(weight)
        self._half: tuple[Tensor, Tensor] | None = None
        if amp == "bf16":
            self._inputs = inputs.bfloat16()
            rows, gradient = (torch.empty_like(weight, dtype=torch.bfloat16) for _ in range(2))
            self._half = rows, gradient

    def products(self, weight: Tensor) -> Tensor:
        """Return the (F, S' * 32) products with the rows of the first S' runs."""
        if self._half is None:
            return self._product(self._inputs, weight.flatten(0, 1).T)
        rows = self._half[0][: len(weight)]
        return _first_products(self._inputs, rows.copy_(weight)).float()

    def gradient(self, of_products: Tensor) -> Tensor:
        """Return the (S', 32, K D) gradient of the weight, which the next one takes the place of.

        Args:
            of_products: (F, S' * 32).
        """
        active = of_products.shape[1] // self._gradient.shape[1]
        found = self._gradient[:active]
        if self._half is None:
            self._product(of_products.T, self._inputs, found.flatten(0, 1))
            return found
        half = self._half[1][:active]
        torch.mm(of_products.bfloat16().T, self._inputs, out=half.flatten(0, 1))
        return found.copy_(half)

    def _product(self, left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
        if not self._alone:
            return torch.mm(left, right, out=out)
        target = None if out is None else out.numpy()
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy(), out=target))


class _FirstProducts(torch.autograd.Function):
    """`_FirstLayers.products`, and their gradient."""

    @staticmethod
    def forward(ctx: Any, layers: _FirstLayers, weight: Tensor) -> Tensor:
        """Return the products."""
        ctx.layers = layers
        return layers.products(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the weight."""
        return None, ctx.layers.gradient(gradients[0])


def _from_first_products(
    products: Tensor, parameters: Sequence[Tensor], activation: Activation
) -> Tensor:
    """Return (S, F, K) coefficients from the (F, S * 32) products of the first layers."""
    bias = parameters[1]
    hidden = products.view(len(products), *bias.shape).transpose(0, 1) + bias[:, None]
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
