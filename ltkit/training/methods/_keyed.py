"""Methods whose queries are compared with keys that a momentum encoder gives of another view."""

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import MomentumEncoder, projection, width


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

    def queries_and_keys(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, d) queries and keys of length 1, and the (B, C) logits of the first view."""
        first, second = seen.views
        features, logits = seen.encode(first)
        queries = functional.normalize(self.projection(features))
        self.keys.follow(seen.network.backbone, self.projection)
        return queries, self.keys(second, seen.amp), logits
