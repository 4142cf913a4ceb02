"""ELM: logit adjustment and a contrastive term that draws the features of rare classes together."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.losses import Stateful, check_counts, check_range

NEUTRAL = {"weight": 0.0}


class ELM(Stateful, nn.Module):
    r"""Mean logit-adjusted cross-entropy plus a margin loss on the features of the batch.

    .. math::
        L_i &= CE(z_i + \tau \log \pi, y_i) + \lambda E_i, \quad
        E_i = -\frac{1}{|P_i|} \sum_{j \in P_i} \log
        \frac{e^{s_{ij} / t}}{e^{s_{ij} / t} + \sum_{k: y_k \ne y_i} e^{(s_{ik} + \rho_{ik}) / t}}\\
        \rho_{ik} &= \kappa \max(0, \log \pi_{y_k} - \log \pi_{y_i})

    s is the cosine of two features, P_i the other samples of i's class in the batch; a sample
    without any has E_i = 0. A rare class is held further from frequent ones. Predict with the
    plain logits.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        tau: at least 0; 1 is the default of logit adjustment.
        weight: lambda, at least 0; 0 is logit-adjusted. No value is published; 0.1 is a choice.
        temperature: t, above 0. No value is published; 0.1 is a choice.
        kappa: factor on the margins, at least 0. No value is published; 0.1 is a choice.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> elm = loss(torch.tensor([10, 10]), weight=1.0, temperature=1.0)
        >>> features, labels = torch.tensor([[1.0, 0], [2, 0], [0, 3]]), torch.tensor([0, 0, 1])
        >>> round(elm(torch.zeros(3, 2), labels, features).item(), 4)  # log 2 + 2/3 log(1 + 1/e)
        0.902

    Source:
        Jitkrittum et al., 2022, arXiv:2204.13208 (embedding and logit margins).

        No code was released. The contrastive form, the margins and their defaults are our reading
        of the text, and no published number has been reproduced with them.
    """

    log_prior: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        tau: float = 1.0,
        weight: float = 0.1,
        temperature: float = 0.1,
        kappa: float = 0.1,
    ) -> None:
        """Compute the prior from the counts."""
        super().__init__()
        check_range("tau", tau)
        check_range("weight", weight)
        check_range("temperature", temperature, 1e-6)
        check_range("kappa", kappa)
        check_counts(class_counts)
        self.tau, self.weight, self.temperature, self.kappa = tau, weight, temperature, kappa
        prior = class_counts.double() / class_counts.sum()
        self.register_buffer("log_prior", prior.log(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        log_prior = self.log_prior.to(logits.dtype)
        adjusted = functional.cross_entropy(logits + self.tau * log_prior, labels)
        embedding = embedding_costs(features, labels, log_prior, self.temperature, self.kappa)
        return adjusted + self.weight * embedding.mean()


def embedding_costs(
    features: Tensor, labels: Tensor, log_prior: Tensor, temperature: float, kappa: float
) -> Tensor:
    """Return the (B,) costs E_i."""
    unit = functional.normalize(features)
    cosines = unit @ unit.T  # (B, B)
    rarity = log_prior[labels]
    margins = kappa * (rarity - rarity[:, None]).clamp(min=0)  # (B, B): row i is held from column k
    same = labels == labels[:, None]
    others = ((cosines + margins) / temperature).masked_fill(same, -torch.inf)
    others = others.logsumexp(dim=1, keepdim=True)  # (B, 1); -inf where the batch has one class
    pairs = functional.softplus(others - cosines / temperature)  # (B, B)
    partners = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (pairs * partners).sum(dim=1) / partners.sum(dim=1).clamp(min=1)


loss = ELM
