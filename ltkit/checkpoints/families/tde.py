"""TDE, total direct effect after De-confound training: classifier-balancing and ``embed``.

``{state_dict_best: {feat_model, classifier}, ...}``; the classifier is one ``module.weight``, C x D
without a bias, in two parts that are normalised each by itself. ``embed``, the moving mean of the
training features, stands beside the state dicts as a NumPy array: it must be there, since the
prediction takes its direction off. The constants of the paper are not in the file: 16 for tau, 1/32
for gamma, and alpha 1.5 on CIFAR's small networks, 3 on the others.
"""

from functools import partial

import torch

from ltkit.architectures.heads import CausalHead
from ltkit.checkpoints.containers.inert import values_of
from ltkit.checkpoints.content import Content, Place, single
from ltkit.checkpoints.recognised import Recognised, Stored, bare, choose, recognise_weights, under
from ltkit.errors import FormatError
from ltkit.settings import LoadSettings

SUMMARY = "TDE ('feat_model', 'classifier' with one 'weight', 'embed')"
PLACES: dict[str, Place] = {
    "best": ("state_dict_best", "feat_model"), "last": ("state_dict", "feat_model"),
}  # fmt: skip
SMALL_ALPHA, LARGE_ALPHA = 1.5, 3.0
"""For CIFAR's two-branch network, and for the others."""
WEIGHT = {"weight", "module.weight"}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a feature model with a classifier of a single weight."""
    return any(
        place in content.states and set(_classifier(content, place)) & WEIGHT
        for place in PLACES.values()
    )


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network; the mean feature's direction is part of the head.

    Raises:
        FormatError: when tensors do not fit, or the mean feature is absent or of another size.
        InputError: when the wanted weights are not in the file.
    """
    place, note = choose(content, wanted, PLACES)
    body = bare(content.path, content.states[place])
    stored = under("backbone.", place, body)
    for name, there in _classifier(content, place).items():
        stored[f"head.{name.removeprefix('module.')}"] = there
    alpha = SMALL_ALPHA if "cb_block.conv1.weight" in body else LARGE_ALPHA
    notes = [note, f"causal head: tau 16, gamma 1/32, alpha {alpha:g}"]
    make = partial(CausalHead, alpha=alpha)
    found = recognise_weights(content, "tde", stored, make, wanted, notes=notes)
    embed, mean = found.network.get_buffer("head.embed"), _mean_feature(content)
    if mean.shape != embed.shape:
        raise FormatError(
            f"{content.path}: embed: found {tuple(mean.shape)}, expected {tuple(embed.shape)}, the "
            "mean training feature; save it again"
        )
    embed.copy_(mean)
    return found


def _mean_feature(content: Content) -> torch.Tensor:
    """Return the (D,) mean training feature stored next to the state dicts."""
    value = values_of(content.top.get("embed"))
    if value is None:
        raise FormatError(
            f"{content.path}: embed: absent, expected the mean training feature; the prediction "
            "takes its direction off, so save it with the weights"
        )
    return single(torch.as_tensor(value), f"{content.path}: embed").flatten()


def _classifier(content: Content, place: Place) -> dict[str, Stored]:
    """Return the classifier's tensors that belong to a feature model."""
    beside = (*place[:-1], "classifier")
    return {name: Stored(beside, name) for name in content.states.get(beside, {})}
