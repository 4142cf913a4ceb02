"""Directions as far apart as they can be, and which of them is nearest to which class."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

STEPS = 500
"""Of the solver; those of a hundred classes are done after fewer."""


def nearness(directions: Tensor, temperature: float) -> Tensor:
    r"""Return how near (C, d) directions of length 1 are to each other.

    .. math:: \log \Bigl(\frac{1}{C} \sum_c \log \sum_{c'} e^{(t_c \cdot t_{c'} - 1) / \tau}\Bigr)

    Least where the mean of log-sums of TSC's eq. 2 is: that is 1 / tau more than the mean here. Its
    logarithm is solved, for directions that are far apart hardly change the mean.

    Example:
        >>> round(nearness(torch.eye(2), 1.0).exp().item(), 4)  # log (1 + 1 / e)
        0.3133
    """
    cosines = directions @ directions.T
    others = cosines.fill_diagonal_(-torch.inf) if len(cosines) > 1 else cosines
    return functional.softplus(((others - 1) / temperature).logsumexp(dim=1)).mean().log()


def drawn(count: int, size: int) -> Tensor:
    """Return (C, d) random directions, of any length, in double precision."""
    return torch.randn(count, size, dtype=torch.float64)


def apart(start: Tensor, temperature: float) -> Tensor:
    """Return (C, d) directions that are the least near, solved in double precision.

    Of at most d + 1 they are the corners of a regular simplex: every two have the cosine
    -1 / (C - 1).

    Args:
        start: (C, d), `drawn`.
        temperature: of the nearness, above 0.

    Example:
        >>> two = apart(drawn(2, 3), 0.07)
        >>> round(float(two[0] @ two[1]), 4)
        -1.0
    """
    free = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [free], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def again() -> float:
        solver.zero_grad()
        value = nearness(functional.normalize(free), temperature)
        value.backward()
        return float(value.detach())

    solver.step(again)
    return functional.normalize(free.detach()).float()


def matched(centroids: Tensor, directions: Tensor) -> Tensor:
    """Return (C,) indices of directions, one for each class, with the greatest sum of cosines.

    Args:
        centroids: (C, d) of length 1; zero for a class that was not met yet.
        directions: (C, d) of length 1.

    Example:
        >>> matched(torch.tensor([[0.0, 1.0], [0.6, 0.8]]), torch.eye(2)).tolist()
        [1, 0]
    """
    _, found = linear_sum_assignment(-(centroids @ directions.T).double().cpu().numpy())
    return torch.from_numpy(found).to(centroids.device)
