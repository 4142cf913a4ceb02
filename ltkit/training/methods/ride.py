"""RIDE: experts on one trunk, each trained with LDAM on its own, and rewarded for disagreeing."""

from torch import Tensor, nn

from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import check_counts, check_range, ldam
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._divergence import divergence
from ltkit.training.methods._experts import experts_of

UNIFORM = {"beta": 0.0, "spread": 0.0}
DEFERRED = {"beta": 0.9999, "spread": 0.05}


class RIDE(Method, nn.Module):
    r"""Routing diverse experts, without the router: the logits are the experts' mean.

    .. math:: L = \sum_i \bigl( LDAM(z_i, y)
        - \lambda \bar T^2 KL(softmax(\bar z / T) \,\|\, softmax(z_i / T)) \bigr), \quad
        T_c = t\, \frac{C \pi_c \eta + 1 - \eta}{\max_j (C \pi_j \eta + 1 - \eta)}

    z_i are the logits of an expert, the mean of all experts' is a target without gradient, and the
    mean temperature is over the classes. LDAM's weights and the temperatures by class are deferred:
    ``train ride --experts 3 --drw 160`` of 200 epochs. With a teacher, ``--teacher CKPT``, one of
    six experts in the source, E experts learn

    .. math:: E \bigl( L + d\, t_d^2 KL(softmax(v / t_d) \,\|\, softmax(\bar z / t_d)) \bigr)

    for the released code adds the whole once an expert. ``train router`` is the second stage.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        diversity: lambda, at least 0; 0.45 for CIFAR-100-LT, 0.2 elsewhere in the source. With 0,
            a network may have one expert: that is LDAM.
        diversity_temperature: t, above 0; 1.
        spread: eta, 0 to 1; 0 gives every class the temperature t. With ``--drw``, 0 until then,
            after it what is set, or else 0.05.
        max_margin: LDAM's; 0.5.
        scale: of the cosine heads; 30.
        beta: LDAM's parameter of class weights, deferred in the same way; 0.9999.
        distill: d, the weight of a teacher, at least 0; 1.
        distill_temperature: t_d, above 0; 1.5.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> ride = loss(torch.tensor([1, 1]), max_margin=0.0, diversity=0.5)
        >>> logits = torch.tensor([[[2 * torch.tensor(3.0).log(), 0.0], [0.0, 0.0]]])
        >>> value = ride.of_experts(logits, torch.tensor([0]))
        >>> # log 10/9 + log 2; the mean's 3/4, 1/4 against 9/10, 1/10 and 1/2, 1/2
        >>> round(value.item(), 4)
        0.6869

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 3; defaults of the released code for
        CIFAR-100-LT: weight decay 5e-4 with Nesterov momentum, ``--augment rotation``; with a
        teacher, 20 epochs of warm-up. Its losses give the same values, to 3e-7 of them, and
        gradients, to 4e-7.

        With a diversity of 0 that code trains the experts' mean, and not each; here each. Its
        deferred weights begin an epoch later.
    """

    each = takes_teacher = True
    experts = 3
    class_counts: Tensor
    temperature: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        diversity: float = 0.45,
        diversity_temperature: float = 1.0,
        spread: float = 0.0,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float = 0.0,
        distill: float = 1.0,
        distill_temperature: float = 1.5,
    ) -> None:
        """Check the parameters; compute the temperatures from the counts."""
        super().__init__()
        check_counts(class_counts)
        named = {"diversity": diversity, "max_margin": max_margin, "scale": scale,
                 "distill": distill}  # fmt: skip
        for name, value in named.items():
            check_range(name, value)
        for name, value in (("spread", spread), ("beta", beta)):
            check_range(name, value, 0, 1)
        check_range("diversity_temperature", diversity_temperature, 1e-4)
        check_range("distill_temperature", distill_temperature, 1e-4)
        self.diversity, self.distill = diversity, distill
        self.distill_temperature = distill_temperature
        self.ldam = {"max_margin": max_margin, "scale": scale, "beta": beta}
        shares = class_counts.double() / class_counts.sum() * len(class_counts)
        factors = shares * spread + 1 - spread
        temperature = diversity_temperature * factors / factors.max()
        self.register_buffer("temperature", temperature, persistent=False)
        self.register_buffer("class_counts", class_counts, persistent=False)

    def attach(self, network: Network) -> None:
        """Check that there are experts to be told apart.

        Raises:
            SettingError: when there is one.
        """
        if self.diversity and experts_of(network) == 1:
            said = "found a network of one, which has nobody to differ from; expected 3, 4 or 6"
            raise SettingError("experts", said)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        (images,) = seen.views
        _, logits = seen.encode(images)
        value = self.of_experts(logits, seen.labels)
        if self.teacher is None:
            return value
        apart = divergence(
            logits.mean(dim=1), self.teacher(images, seen.amp), self.distill_temperature
        )
        taught = self.distill * self.distill_temperature**2 * apart
        return logits.shape[1] * (value + taught)

    def of_experts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cost of the experts' (B, E, C) logits."""
        mean, temperature = logits.mean(dim=1).detach(), self.temperature.to(logits.dtype)
        value = logits.new_zeros(())
        for own in logits.unbind(dim=1):
            value = value + ldam.loss(own, labels, self.class_counts, **self.ldam)
            if self.diversity:
                apart = temperature.mean() ** 2 * divergence(own, mean, temperature)
                value = value - self.diversity * apart
        return value


loss = RIDE
