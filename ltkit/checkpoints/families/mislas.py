"""MiSLAS: ``{state_dict_model, state_dict_classifier, state_dict_lws_model, best_acc1, its_ece}``.

The classifier is ``fc``; the second stage multiplies its logits by ``learned_norm``, 1 x C. The
Places-LT files keep one more block apart (``state_dict_block``): it follows the fourth stage's.
"""

from torch import nn

from ltkit.architectures.heads import LinearHead, ScaledHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, Stored, bare, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "MiSLAS ('state_dict_model', 'state_dict_classifier', 'state_dict_lws_model')"
MODEL, CLASSIFIER = ("state_dict_model",), ("state_dict_classifier",)
SCALES, BLOCK = ("state_dict_lws_model",), ("state_dict_block",)


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether model and classifier are stored separately, as in this work."""
    return {MODEL, CLASSIFIER} <= content.states.keys()


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network, with the scales of the second stage.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    stored = under("backbone.", MODEL, bare(content.path, content.states[MODEL]))
    if BLOCK in content.states:
        blocks = {n.split(".")[2] for n in stored if n.startswith("backbone.layer4.")}
        prefix = f"backbone.layer4.{len(blocks)}."
        stored |= under(prefix, BLOCK, bare(content.path, content.states[BLOCK]))
    scaled = SCALES in content.states
    layer = "head.linear." if scaled else "head."
    for name in content.states[CLASSIFIER]:
        own = name.removeprefix("module.").removeprefix("fc.")
        stored[layer + own] = Stored(CLASSIFIER, name)
    for name in content.states.get(SCALES, {}):
        own = name.removeprefix("module.").replace("learned_norm", "scales")
        stored[f"head.{own}"] = Stored(SCALES, name, row=True)
    make: type[nn.Module] = ScaledHead if scaled else LinearHead
    weight = f"{layer}weight"
    return recognise_weights(content, "mislas", stored, make, wanted, weight=weight)
