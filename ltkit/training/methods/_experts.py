"""What methods for several experts share."""

from ltkit.architectures.network import Network


def experts_of(network: Network) -> int:
    """Return how many heads share a network's features."""
    head = network.record()
    return 1 if head is None else head.experts
