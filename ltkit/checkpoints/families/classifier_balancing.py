"""Classifier-balancing (cRT, LWS) and its descendants: BALMS, OLTR's first stage, LADE, MARC.

``{state_dict_best: {feat_model, classifier}, best_acc, ...}``, or ``state_dict`` in the file called
``latest``: the weights of the best epoch are taken unless ``--weights last`` says otherwise. The
head is ``[module.]fc`` in the classifier; learnable weight scaling has ``scales`` beside it, which
multiply the bias, too; MARC has ``a`` and ``b``, 1 x C. The networks are ResNet-10, 50, 152,
ResNeXt-50 and CIFAR ResNets, LADE's with two branches, OLTR's with one more layer (``fc_add``).
"""

from torch import nn

from ltkit.architectures.heads import LinearHead, MarginHead, ScaledHead
from ltkit.checkpoints.content import Content, Place
from ltkit.checkpoints.recognised import Recognised, Stored, bare, choose, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "classifier-balancing, BALMS, OLTR stage 1, LADE, MARC ('feat_model', 'classifier')"
PLACES: dict[str, Place] = {
    "best": ("state_dict_best", "feat_model"), "last": ("state_dict", "feat_model"),
}  # fmt: skip


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a feature model and a classifier whose layer is ``fc``."""
    return any(
        place in content.states and "fc.weight" in _classifier(content, place)
        for place in PLACES.values()
    )


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network; the tensors beside ``fc`` determine the kind of head.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
        InputError: when the wanted weights are not in the file.
    """
    place, note = choose(content, wanted, PLACES)
    stored = under("backbone.", place, bare(content.path, content.states[place]))
    found = _classifier(content, place)
    make: type[nn.Module]
    if "scales" in found:
        names = {"fc.weight": "linear.weight", "fc.bias": "linear.bias", "scales": "scales"}
        make, weight = ScaledHead, "head.linear.weight"
    elif {"a", "b"} <= found.keys():
        names = {"fc.weight": "linear.weight", "fc.bias": "linear.bias", "a": "a", "b": "m"}
        make, weight = MarginHead, "head.linear.weight"
    else:
        names, make, weight = {"fc.weight": "weight", "fc.bias": "bias"}, LinearHead, "head.weight"
    for name, stands in found.items():
        stored[f"head.{names.get(name, name)}"] = stands
    return recognise_weights(
        content, "classifier-balancing", stored, make, wanted, weight=weight, notes=[note]
    )


def _classifier(content: Content, place: Place) -> dict[str, Stored]:
    """Return the classifier's tensors that belong to a feature model, without prefixes."""
    beside = (*place[:-1], "classifier")
    names = content.states.get(beside, {})
    bare = {name.removeprefix("module."): name for name in names}
    return {own: Stored(beside, name, row=own in ("a", "b")) for own, name in bare.items()}
