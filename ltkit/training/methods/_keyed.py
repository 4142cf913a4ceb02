"""Methods whose queries are compared with keys that a momentum encoder gives of another view."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.losses import check_choice, check_range
from ltkit.training.augment import VIEWS
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import MomentumEncoder, Queue, projection, width


class Encoded(NamedTuple):
    """A batch's (B, d) queries and keys of length 1, the features of both, and the first's logits.

    The queries are of the first view, the keys of the second.
    """

    queries: Tensor
    keys: Tensor
    features: Tensor
    key_features: Tensor
    logits: Tensor


class Keyed(Method, nn.Module):
    """A method with a projection of its own, and a key encoder that follows the network."""

    def __init__(
        self,
        size: int,
        momentum: float,
        second_view: str,
        *,
        temperature: float = 1.0,
        queue: int = 0,
        least_queue: int = 0,
    ) -> None:
        """Check the parameters.

        Args:
            size: units of the projection, at least 1.
            momentum: of the key encoder, 0 to 1.
            second_view: the second view's augmentation, a word.
            temperature: that divides cosines, above 0.
            queue: keys of earlier batches.
            least_queue: fewest of them.

        Raises:
            InputError: when one is out of range.
        """
        super().__init__()
        check_range("temperature", temperature, 1e-4)
        check_range("queue", queue, least_queue)
        check_range("size", size, 1)
        check_range("momentum", momentum, 0, 1)
        check_choice("second_view", second_view, VIEWS)
        self.temperature, self.size, self.momentum = temperature, size, momentum
        self.views, self.queue_size = (VIEWS[second_view],), queue
        self.queue = Queue(queue, size)

    def attach(self, network: Network) -> None:
        """Build the projection, and the key encoder from the network."""
        self.projection = projection(width(network), self.size)
        self.keys = MomentumEncoder(network.backbone, self.projection, self.momentum)

    def encoded(self, seen: Seen) -> Encoded:
        """Return what the network and the key encoder make of a batch; these move on a step."""
        first, second = seen.views
        features, logits = seen.encode(first)
        queries = functional.normalize(self.projection(features))
        self.keys.follow(seen.network.backbone, self.projection)
        key_features = self.keys.features(second, seen.amp)
        return Encoded(queries, self.keys.keys(key_features), features, key_features, logits)

    def queries_and_keys(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, d) queries and keys of length 1, and the (B, C) logits of the first view."""
        found = self.encoded(seen)
        return found.queries, found.keys, found.logits
