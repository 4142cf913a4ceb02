"""De-confounded training: a multi-head normalised classifier, and the moving mean of features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.heads import CausalHead
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import check_range
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import width


class TDE(Method, nn.Module):
    r"""Cross-entropy of a multi-head normalised classifier, beside which a mean feature is kept.

    .. math:: L = CE(z, y), \quad z_c = \frac{\tau}{K} \sum_k \frac{w_c^k}{\lVert w_c^k \rVert +
        \gamma} \cdot \frac{f^k}{\lVert f^k \rVert}, \quad e \leftarrow \mu\, e + \bar f

    Features and rows are cut into K parts. The network's head is this classifier, without a bias:
    that of the checkpoint is the de-confounded one. The mean e over batches stands beside it;
    ``extract`` takes it along, and ``posthoc tde`` takes its direction off, by a share alpha that
    is chosen on validation data. A second stage with another loss keeps the head, and the mean as
    it was.

    Args:
        class_counts: (C,) training images per class.
        heads: K, a divisor of the features' size; 2.
        tau: factor of the logits, above 0; 16.
        gamma: added to a row's length, at least 0; 1/32.
        mu: share of the mean so far that stays at a step, at least 0 and below 1; 0.9. Since only
            its direction counts, the batch is not multiplied by 1 - mu.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> method = loss(torch.tensor([9, 1]), mu=0.5)
        >>> method.embed = torch.tensor([4.0, 0.0])
        >>> method.follow(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))  # 0.5 * 4 + 2, 0 + 1
        >>> method.embed.tolist()
        [4.0, 1.0]

    Source:
        Tang et al., NeurIPS 2020, arXiv:2009.12991, sec. 4; the constants of the released code.
        Its loss and gradients are the same to 3e-16 of them; it keeps the mean outside the state
        dict, here it is in the checkpoint.
    """

    own_head = True
    embed: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        heads: int = 2,
        tau: float = 16.0,
        gamma: float = 1 / 32,
        mu: float = 0.9,
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("heads", heads, 1)
        check_range("tau", tau, 1e-6)
        check_range("gamma", gamma)
        check_range("mu", mu, 0, 1 - 1e-6)
        self.heads, self.tau, self.gamma, self.mu = heads, tau, gamma, mu
        self.num_classes = len(class_counts)

    def attach(self, network: Network) -> None:
        """Give the network its head; start with an empty mean.

        Raises:
            SettingError: when the features do not fall into so many parts, or another kind of head
                is asked for.
        """
        size, record = width(network), network.record()
        if record is not None and record.normalize != "none":
            raise SettingError("cosine", "tde has a head of its own; leave it out")
        if size % self.heads:
            said = f"found {self.heads}, expected a divisor of {size}, the size of the features"
            raise SettingError("parameters heads", said)
        head = CausalHead(
            size, self.num_classes, heads=self.heads, tau=self.tau, gamma=self.gamma, alpha=0.0
        )
        network.head = head.to(next(network.parameters()).device)
        self.register_buffer("embed", torch.zeros(size))

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; note its mean feature."""
        features, logits = seen.encode(seen.views[0])
        self.follow(features)
        return functional.cross_entropy(logits, seen.labels)

    @torch.no_grad()
    def follow(self, features: Tensor) -> None:
        """Move the mean by a batch's (B, D) features."""
        self.embed.mul_(self.mu).add_(features.mean(dim=0))

    def kept(self) -> dict[str, Tensor]:
        """Return the mean, and the head's constants."""
        constants = torch.tensor([self.heads, self.tau, self.gamma], dtype=torch.float64)
        return {"causal.mean": self.embed, "causal.constants": constants}


loss = TDE
