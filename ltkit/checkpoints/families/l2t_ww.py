"""L2T-ww: ``{epoch, best, test_prec, state_dict, num_classes}``, ``block1`` .. ``blocks6``, ``fc``.

The loss weights of its transfer learning (``alphas``) are left out. Images are normalised with
ImageNet's statistics.
"""

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import IMAGENET, Recognised, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "L2T-ww's CIFAR ResNets ('block1', 'blocks2', ..., 'fc')"
LEFT_OUT = "alphas."


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the blocks are numbered as in this work."""
    return {"block1.conv1.weight", "block3.conv1.weight", "fc.weight"} <= content.tensors.keys()


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    kept = [name for name in content.tensors if not name.startswith(LEFT_OUT)]
    body = {name: name for name in kept if not name.startswith("fc.")}
    head = {name.replace("fc.", "head."): name for name in kept if name.startswith("fc.")}
    stored = under("backbone.", content.place, body) | under("", content.place, head)
    return recognise_weights(content, "l2t-ww", stored, LinearHead, wanted, normalisation=IMAGENET)
