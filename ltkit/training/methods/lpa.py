"""LPA: PaCo, and a contrast of classes that have the same local pseudo-attributes."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.attributes import prototypes as local
from ltkit.attributes.maps import FeatureMaps
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_choice, check_range
from ltkit.neighbors.clusters import check_clusters, k_means
from ltkit.settings import TrainSettings
from ltkit.training import distributed
from ltkit.training.methods import Seen
from ltkit.training.methods.paco import PaCo
from ltkit.training.momentum import Queue, width

CONTRASTED = ("projection", "features")


class LPA(PaCo):
    r"""PaCo with supervised contrast on class attributes, found by clusters of local features.

    .. math:: L_i = L_{PaCo} - \frac{\alpha}{\sum_j \omega_{ij}} \sum_{j \in A(i)} \omega_{ij} \log
        \frac{e^{q_i \cdot v_j / t}}{\sum_{a \in A(i)} e^{q_i \cdot v_a / t}}, \quad
        \omega_{ij} = \max\Bigl(0, \frac{\cos(a(y_i) - \bar a, a(y_j) - \bar a) - \theta}
        {1 - \theta}\Bigr)

    After a warm-up, and then every so many epochs, the training images as they are go through the
    key encoder. Its last feature map before the pooling has a vector for each position; k-means on
    vectors of length 1, at most so many a class, gives K prototypes. s(x) are the shares of an
    image's positions by their nearest prototype, a(y) is the mean of s over the images of class y,
    :math:`\bar a` over the classes. Two samples of a class have the weight 1, also where it has one
    image, whose key is its partner; those of classes with like attributes a part of it. Until the
    end of the warm-up, and with alpha 0, it is PaCo. Predict with the plain logits.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        alpha: weight of the contrast, at least 0; a reading, 0.05 to 1 are worth a search.
        prototypes: K; a reading: 128 for CIFAR, 1000 for ImageNet-LT.
        threshold: theta, a cosine from -1 to 0.999 up to which classes share nothing; a reading.
        groups: 0, or G: classes are put in G groups by k-means of a(y), and omega is 1 within a
            group, 0 elsewhere: another reading of a label made of attributes.
        warmup: epochs before the first prototypes, fewer than the run's; a reading.
        refresh: epochs between one set of prototypes and the next, at least 1; a reading.
        sample: most local vectors of a class for the k-means, at least 1; a reading.
        contrast_on: ``projection``, q and v as in PaCo, or ``features``, the pooled features of
            length 1, of which there is a second queue: eq. 1 writes it so.
        paco_alpha: alpha of PaCo, the weight of a pair, as are the others: beta, gamma,
            temperature, queue, size, momentum, second_view.
        seed: of the draws and of the k-means, from 0.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> lpa = loss(torch.tensor([5, 5]), queue=0, size=2, temperature=1.0)
        >>> lpa.directions = torch.tensor([[1.0, 0.0], [0.8, 0.6]])  # cos 0.8: omega 0.6
        >>> lpa.likeness(torch.tensor([0, 1]), torch.tensor([0, 1])).round(decimals=4)
        tensor([[1.0000, 0.6000],
                [0.6000, 1.0000]])
        >>> unit, own = torch.eye(2), torch.tensor([0, 1])
        >>> value = lpa.shared(unit, own, torch.cat([unit, unit]), own.repeat(2))
        >>> round(value.item(), 4)  # log(2 + e) - 1 / 2.2
        1.0969

    Source:
        Kim, Ke, Yu, local pseudo-attributes, 2022, eq. 1; no code was published, and K, alpha, the
        refresh, hard or soft scores, and how they become labels are not said.
    """

    prototypes: Tensor
    profiles: Tensor
    directions: Tensor
    fitted: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        alpha: float = 0.1,
        prototypes: int = 128,
        threshold: float = 0.5,
        groups: int = 0,
        warmup: int = 20,
        refresh: int = 20,
        sample: int = local.SAMPLE,
        contrast_on: str = "projection",
        paco_alpha: float = 0.01,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 0.05,
        queue: int = 1024,
        size: int = 32,
        momentum: float = 0.999,
        second_view: str = "simclr",
        seed: int = 0,
    ) -> None:
        """Check the parameters."""
        super().__init__(
            class_counts, alpha=paco_alpha, beta=beta, gamma=gamma, temperature=temperature,
            queue=queue, size=size, momentum=momentum, second_view=second_view,
        )  # fmt: skip
        ranges = {"alpha": (alpha, 0, 1e6), "prototypes": (prototypes, 1, 1e6),
                  "threshold": (threshold, -1, 0.999), "groups": (groups, 0, len(class_counts)),
                  "warmup": (warmup, 0, 1e9), "refresh": (refresh, 1, 1e9),
                  "sample": (sample, 1, 1e6), "seed": (seed, 0, 2**31 - 1)}  # fmt: skip
        for name, given in ranges.items():
            check_range(name, *given)
        check_choice("contrast_on", contrast_on, CONTRASTED)
        self.share, self.threshold, self.groups = alpha, 0.0 if groups else threshold, groups
        self.warmup, self.refresh, self.sample, self.seed = warmup, refresh, sample, seed
        self.on_features, self.number = contrast_on == "features", prototypes
        self.ready = False  # `fitted` from the first epoch on, without asking the device
        self.counts = class_counts.cpu().numpy().astype(np.int64)
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("profiles", torch.zeros(len(class_counts), prototypes))
        self.register_buffer("directions", torch.zeros(len(class_counts), groups or prototypes))

    def attach(self, network: Network) -> None:
        """Build what depends on the size of the features."""
        super().attach(network)
        self.trained = (network.backbone,)  # not a part of the state
        self.register_buffer("prototypes", torch.zeros(self.number, width(network)))
        self.feature_queue = Queue(self.queue_size if self.on_features else 0, width(network))

    def check(self, settings: TrainSettings, samples: int) -> None:
        """Reject a run that has no room for the queue, or ends before the warm-up.

        Raises:
            SettingError: naming the parameter.
        """
        super().check(settings, samples)
        if self.share and self.warmup >= settings.epochs:
            said = f"found {self.warmup}, expected fewer than the run's {settings.epochs} epochs"
            raise SettingError("parameters warmup", f"{said}; alpha=0 never needs attributes")

    def before_epoch(self, moment: Moment) -> None:
        """Look for the feature map at first; find the attributes where their time has come."""
        if not self.share:
            return
        if not self.ready:
            images, _ = next(iter(moment.blocks()))
            _, found = self._maps()(images[:2])
            positions = found[0, 0].numel()
            check_clusters(self.number, local.available(self.counts, positions, self.sample))
        since = moment.epoch - self.warmup
        if since >= 0 and (since % self.refresh == 0 or not self.fitted):
            self._fit(moment)
        self.ready = bool(self.fitted)

    @torch.no_grad()
    def _fit(self, moment: Moment) -> None:
        """Find prototypes, the classes' profiles, and the directions that tell which are alike."""
        maps = self._maps()

        def every() -> local.Maps:
            return ((maps(images)[1], labels) for images, labels in moment.blocks())

        with torch.no_grad():
            made = local.fit(every(), self.counts, self.number, sample=self.sample, seed=self.seed)
            self.prototypes.copy_(made)
            self.profiles.copy_(local.profiles(every(), self.prototypes, len(self.counts)))
        centred = self.profiles - self.profiles.mean(dim=0)
        if self.groups:
            centred = self._grouped()
        self.directions.copy_(functional.normalize(centred))
        self.fitted.fill_(True)
        distributed.share_buffers(self)

    def _grouped(self) -> Tensor:
        """Return which group each class is of, (C, G) of zeros and ones."""
        rows = self.profiles.cpu()
        centres = torch.from_numpy(k_means(rows.numpy(), self.groups, self.seed))
        groups = torch.cdist(rows.double(), centres.double()).argmin(dim=1)
        return functional.one_hot(groups, self.groups).to(self.profiles)

    def _maps(self) -> FeatureMaps:
        """Return what gives the maps: the key encoder once it follows, until then its model."""
        backbone = self.keys.backbone if self.keys.begun else self.trained[0]
        return FeatureMaps(backbone.eval())  # each epoch sets it to training again

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queues."""
        found = self.encoded(seen)
        value = self.contrast(found.logits, seen.labels, found.queries, found.keys)
        own, other, queue = found.queries, found.keys, self.queue
        if self.on_features:
            queue = self.feature_queue
            own, other = (functional.normalize(f) for f in (found.features, found.key_features))
        if self.ready:
            candidates = torch.cat([own, other, queue.keys])
            of = torch.cat([seen.labels, seen.labels, queue.labels])
            value = value + self.share * self.shared(own, seen.labels, candidates, of)
        self.queue.put(found.keys, seen.labels)
        self.feature_queue.put(other, seen.labels)
        return value

    def shared(self, unit: Tensor, labels: Tensor, candidates: Tensor, of: Tensor) -> Tensor:
        """Return the mean cost of the contrast on attributes.

        Args:
            unit: (B, d) of length 1; they are the first B candidates.
            labels: (B,) int64.
            candidates: (M, d) of length 1.
            of: (M,) their classes; -1 for what is none.
        """
        similarity = unit @ candidates.T / self.weights["temperature"]
        other = (of >= 0).repeat(len(unit), 1)
        other[:, : len(unit)].fill_diagonal_(False)
        weight = self.likeness(labels, of.clamp(min=0)) * other
        total = similarity.masked_fill(~other, -torch.inf).logsumexp(dim=1)
        return (total - (weight * similarity).sum(dim=1) / weight.sum(dim=1)).mean()

    def likeness(self, labels: Tensor, of: Tensor) -> Tensor:
        """Return omega, (B, M), of samples of some classes with samples of others."""
        cosines = self.directions[labels] @ self.directions[of].T
        part = ((cosines - self.threshold) / (1 - self.threshold)).clamp(min=0)
        return part.masked_fill(labels[:, None] == of, 1.0)

    def watched(self) -> dict[str, float]:
        """Return how many other classes, weighted by omega, a class shares attributes with."""
        if not self.ready:
            return {}
        every = torch.arange(len(self.counts), device=self.directions.device)
        sums = [self.likeness(part, every).sum() - len(part) for part in every.split(1024)]
        return {"classes_alike": round(float(sum(sums)) / len(every), 4)}

    def kept(self) -> dict[str, Tensor]:
        """Return the prototypes, with which images can be described afterwards."""
        return {"prototypes": self.prototypes} if self.fitted else {}


loss = LPA
