"""Weight balancing: a plain state dict of ``encoder.*``, with the head as ``encoder.fc``.

The network is a ResNet-34 with a 3x3 stem and no pooling, for CIFAR images.
"""

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import CIFAR, Recognised, bare, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "weight balancing (raw, 'encoder.fc')"


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether all names are the encoder's, including its head."""
    names = content.tensors
    return "encoder.fc.weight" in names and all(name.startswith("encoder.") for name in names)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    names = bare(content.path, content.tensors)
    body = {own: name for own, name in names.items() if not own.startswith("fc.")}
    head = {own.replace("fc.", "head."): n for own, n in names.items() if own.startswith("fc.")}
    stored = under("backbone.", content.place, body) | under("", content.place, head)
    return recognise_weights(
        content, "weight-balancing", stored, LinearHead, wanted, normalisation=CIFAR
    )
