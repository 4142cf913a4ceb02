"""Methods whose queries are compared with keys that a momentum encoder gives of another view."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import MomentumEncoder, projection, width


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
    """A method with a projection of its own, and a key encoder that follows the network.

    size: units of the projection. momentum: of the key encoder.
    """

    size: int
    momentum: float

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
