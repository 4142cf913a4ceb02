"""OpenMMLab's classifiers: ``{meta, state_dict, optimizer}``, ``backbone.*`` and ``head.fc``.

Their image statistics are ImageNet's, unless ``--mean`` and ``--std`` say otherwise.
"""

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import IMAGENET, Recognised, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "OpenMMLab classification ('meta', 'state_dict', head 'head.fc')"
PREPROCESSOR = "data_preprocessor."
"""Buffers that only normalise images."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a head ``head.fc`` on a ``backbone``."""
    names = content.tensors
    return "head.fc.weight" in names and "backbone.conv1.weight" in names


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    names = {
        name.replace("head.fc.", "head."): name
        for name in content.tensors
        if not name.startswith(PREPROCESSOR)
    }
    stored = under("", content.place, names)
    return recognise_weights(
        content, "openmmlab", stored, LinearHead, wanted, normalisation=IMAGENET
    )
