"""TSC and KCL, first stage: an encoder with a projection and ``optimal_target``, no classifier.

The first stage learns features alone, so there is no head to extract and the file is refused. The
second stage, a ResNet with a trained ``fc``, is a plain state dict.
"""

from typing import NoReturn

from ltkit.checkpoints.content import Content
from ltkit.errors import InputError
from ltkit.settings import LoadSettings

SUMMARY = "TSC, KCL: the second stage as a plain state dict; the first has no classifier"


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a query encoder without a linear layer or a classifier."""
    names = {name.removeprefix("module.") for name in content.tensors}
    return "encoder_q.conv1.weight" in names and not {"linear.weight", "classifier.weight"} & names


def load(content: Content, wanted: LoadSettings) -> NoReturn:
    """Refuse the file.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{content.path}: found a contrastive first stage, which has no classifier; train the "
        "second stage's linear classifier and extract that"
    )
