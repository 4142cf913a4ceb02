"""What contrastive methods compare a batch with: a momentum encoder's keys, and a queue of them."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.settings import Amp
from ltkit.training import distributed
from ltkit.training.validation import autocast


def projection(features: int, size: int, hidden: int | None = None) -> nn.Sequential:
    """Return a projection: a linear layer, batch norm, ReLU, and a linear layer of this size.

    Args:
        features: units of its input.
        size: of its output.
        hidden: between the two; None: as many as the input's.
    """
    hidden = hidden or features
    return nn.Sequential(
        nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True),
        nn.Linear(hidden, size),
    )  # fmt: skip


def width(network: Network) -> int:
    """Return the size of a network's features."""
    head = network.record()
    if head is None:
        raise SettingError("arch", "found a network without a head, expected one that is trained")
    return head.feature_size


class MomentumEncoder(nn.Module):
    r"""A copy of a backbone and a projection that follows them slowly.

    .. math:: \theta_k \leftarrow m\, \theta_k + (1 - m)\, \theta_q

    Its batch norm statistics are its own. Of several processes, each encodes a part of the batch
    that its queries are spread over, so that batch norm does not tell which images belong together.

    Source:
        He et al., CVPR 2020, arXiv:1911.05722, eq. 2 and sec. 3.3 (shuffling).
    """

    begun: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, momentum: float) -> None:
        """Start as a copy.

        Args:
            backbone: gives (B, D) features of images.
            head: gives (B, d) projections of features.
            momentum: m, 0 to 1.
        """
        super().__init__()
        self.backbone = deepcopy(backbone).requires_grad_(False)
        self.head = deepcopy(head).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("begun", torch.tensor(False))
        self._follows = False  # as `begun`, without asking the device at each step

    @torch.no_grad()
    def follow(self, backbone: nn.Module, head: nn.Module) -> None:
        """Move the parameters a step towards those of the trained ones; train what these train.

        The first step makes it a copy again, of a network that other losses may have trained until
        now. A part that is held as it is keeps its batch norm statistics here, too.
        """
        if not self._follows:
            if not self.begun:
                self.backbone.load_state_dict(backbone.state_dict())
                self.head.load_state_dict(head.state_dict())
                self.begun.fill_(True)
            self._follows = True
        for copy, trained in zip(self.backbone.modules(), backbone.modules(), strict=True):
            copy.training = trained.training
        own = [p.detach() for p in self.parameters()]
        theirs = [p.detach() for p in (*backbone.parameters(), *head.parameters())]
        torch._foreach_lerp_(own, theirs, 1 - self.momentum)

    def forward(self, images: Tensor, amp: Amp = "off") -> Tensor:
        """Return the (B, d) keys of images, of length 1, the same in all processes."""
        return self.keys(self.features(images, amp))

    @torch.no_grad()
    def keys(self, features: Tensor) -> Tensor:
        """Return the (B, d) keys, of length 1, of (B, D) features."""
        return functional.normalize(self.head(features))

    @torch.no_grad()
    def features(self, images: Tensor, amp: Amp = "off") -> Tensor:
        """Return the (B, D) features of images, the same in all processes."""
        count, processes = len(images), distributed.processes()
        if processes > 1:
            spread = (torch.arange(count) % processes).argsort(stable=True).to(images.device)
            images = images[spread[distributed.part(count)]]
        with autocast(images.device.type, amp):
            features: Tensor = self.backbone(images).float()
        if processes > 1:
            features = distributed.whole(features, count)[spread.argsort()]
        return features


class Queue(nn.Module):
    """The keys of the last batches with their labels; empty places have the label -1.

    keys: (K, d); labels: (K,) int64; at: where the next ones go.
    """

    keys: Tensor
    labels: Tensor
    at: Tensor

    def __init__(self, size: int, width: int) -> None:
        """Start empty."""
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("at", torch.tensor(0))

    @torch.no_grad()
    def put(self, keys: Tensor, labels: Tensor) -> None:
        """Put keys in the places of the oldest; at most K of them.

        Example:
            >>> queue = Queue(3, 1)
            >>> for batch in ([[1.0], [2.0]], [[3.0], [4.0]]):
            ...     queue.put(torch.tensor(batch), torch.tensor([0, 1]))
            >>> queue.keys.flatten().tolist(), queue.labels.tolist()
            ([4.0, 2.0, 3.0], [1, 1, 0])
        """
        size = len(self.labels)
        if not size:
            return
        places = (self.at + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, places, keys.detach())
        self.labels.index_copy_(0, places, labels)
        self.at.add_(len(keys)).remainder_(size)
