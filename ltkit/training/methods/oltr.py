"""OLTR: a memory of class centroids is mixed into the feature, after a first part of plain CE."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.meta_head import MetaHead
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_counts, check_range
from ltkit.records import Head
from ltkit.settings import TrainSettings
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import width


class OLTR(Method, nn.Module):
    r"""Dynamic meta-embedding with learned class centroids, after plain cross-entropy.

    .. math:: L = CE(\hat z, y) + \lambda \Bigl(\frac{1}{2B} \sum_i \lVert f_i - M_{y_i} \rVert^2
        + \rho \max\bigl(0,\ m - \frac{1}{BC} \sum_i \sum_{c \ne y_i}
        \lVert f_i - M_c \rVert^2\bigr)\Bigr) + CE(z, y)

    The first part of the run is cross-entropy of the network's head. Then the centroids M start
    as the mean features of the classes and the hallucinator as that head; the logits of the whole
    model are those of `ltkit.architectures.meta_head.MetaHead`. The gradient of a centroid's
    attraction, the first sum, is divided by its images in the batch and 1; the logits do not move
    centroids. The network's own head learns on, from features that it does not move (the last
    term). The checkpoint has both: ``extract`` takes the direct feature and the plain head,
    ``extract --head meta`` the whole model, which is what the log's accuracy is of.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        plain: the first part of the epochs, 0 to 1; 30 of 90 in the source.
        weight: lambda, at least 0; 0.01.
        repulsion: rho, at least 0; 0.01.
        margin: m, at least 0; 10, the mean squared distance from which centroids repel no longer.
        per_class: images of a class in a batch of the second part, a divisor of the batch size,
            from 2; 4. Its classes are drawn class-balanced, whatever the run's sampler is.
        backbone_rate: factor on the run's learning rate in the second part, at least 0; 0.1, from
            0.01 for features and 0.1 for the classifier.
        centroids_rate: that of the centroids; 0.1.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> oltr = loss(torch.tensor([9, 1]), repulsion=0.1)
        >>> centroids = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
        >>> features, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> value = oltr.discriminative(features, labels, centroids)
        >>> round(value.item(), 4)  # 2^2 / 2 + 0.1 (10 - 1^2 / 2)
        2.95

    Source:
        Liu et al., CVPR 2019, arXiv:1904.05160, sec. 3; the released code for ImageNet-LT. Its
        layers and its loss give the same values, to 2e-7 of them, and gradients, to 6e-7.

        Readings: the run's schedule goes through both parts, where theirs starts anew (so does
        ``train ce --from-epoch 30 --then oltr --set then.plain=0 --then-lr 0.1``); the plain head
        learns on, where theirs stays at the end of its stage; the mean over the other classes is
        divided by all C, as in their code; the weight decay is the run's. Their attention on the
        7 x 7 map is left out: its layer needs maps of that size.
    """

    begun: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        plain: float = 1 / 3,
        weight: float = 0.01,
        repulsion: float = 0.01,
        margin: float = 10.0,
        per_class: int = 4,
        backbone_rate: float = 0.1,
        centroids_rate: float = 0.1,
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("plain", plain, 0, 1)
        named = {"weight": weight, "repulsion": repulsion, "margin": margin, "per_class": per_class,
                 "backbone_rate": backbone_rate, "centroids_rate": centroids_rate}  # fmt: skip
        for name, value in named.items():
            check_range(name, value, 2 if name == "per_class" else 0)
        check_counts(class_counts)
        self.plain, self.weight, self.repulsion, self.margin = plain, weight, repulsion, margin
        self.per_class, self._asked = per_class, per_class
        self.num_classes = len(class_counts)
        self._slow = {"backbone": backbone_rate, "meta.centroids": centroids_rate}
        self.rates = dict.fromkeys(self._slow, 1.0)
        self.register_buffer("begun", torch.tensor(False))

    def attach(self, network: Network) -> None:
        """Build the meta-embedding; its memory is filled when the second part begins.

        Raises:
            SettingError: when the network has a cosine head.
        """
        record = network.record()
        if record is not None and record.normalize != "none":
            said = "the hallucinator starts as a linear head, found a cosine head; leave it out"
            raise SettingError("cosine", said)
        self.meta = MetaHead(width(network), self.num_classes)
        self._networks = (network,)

    def check(self, settings: TrainSettings, samples: int) -> None:
        """Reject a run that ends before its second part.

        Raises:
            SettingError: naming ``plain``, or as `Method.check`.
        """
        super().check(settings, samples)
        if (first := round(self.plain * settings.epochs)) >= settings.epochs:
            said = f"found {self.plain:g}, which is {first} of {settings.epochs} epochs"
            raise SettingError(
                "parameters plain", f"{said}, expected one left for the second part; set it lower"
            )

    def before_epoch(self, moment: Moment) -> None:
        """Begin the second part when it is reached."""
        second = self.detached = moment.reached(self.plain)
        self.per_class = self._asked if second else 0
        self.sampler = "class-balanced" if second else None
        self.rates = self._slow if second else dict.fromkeys(self._slow, 1.0)
        if second and not self.begun:
            self._begin(moment.class_means())

    @torch.no_grad()
    def _begin(self, means: Tensor) -> None:
        """Fill the memory with the (C, D) class means, the hallucinator with the head."""
        head: Head = self._networks[0].record()  # type: ignore[assignment]  # `width` found one
        linear = head.fold()
        self.meta.centroids.copy_(means)
        self.meta.hallucinator.weight.copy_(torch.from_numpy(linear.weight))
        self.meta.hallucinator.bias.copy_(torch.from_numpy(linear.bias))
        self.begun.fill_(True)

    def evaluated(self, network: Network) -> nn.Module:
        """Return the whole model, in the second part."""
        return Network(network.backbone, self.meta, network.neck) if self.detached else network

    def kept(self) -> dict[str, Tensor]:
        """Return the meta-embedding, once it has begun."""
        if not self.begun:
            return {}
        return {f"meta.{name}": value for name, value in self.meta.state_dict().items()}

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        features, logits = seen.encode(seen.views[0])
        plain = functional.cross_entropy(logits, seen.labels)
        if not self.detached:
            return plain
        whole = functional.cross_entropy(self.meta(self.meta.lift(features)), seen.labels)
        apart = self.discriminative(features, seen.labels, self.meta.centroids)
        return whole + self.weight * apart + plain

    def discriminative(self, features: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
        """Return how far (B, D) features are from their (C, D) centroids, and near the others."""
        size, classes = len(features), len(centroids)
        own = centroids[labels]
        share = 1 / (1 + labels.bincount(minlength=classes)[labels].to(own.dtype))  # (B,)
        pulled = own.detach() + share[:, None] * (own - own.detach())
        attraction = (features - pulled).square().sum() / (2 * size)
        every = classes * features.square().sum() + size * centroids.square().sum()
        every = every - 2 * features.sum(dim=0) @ centroids.sum(dim=0)  # of all B C distances
        others = (every - (features - own).square().sum()) / (size * classes)
        return attraction + self.repulsion * (self.margin - others).clamp(min=0)


loss = OLTR
