"""Lightning's checkpoints (``.ckpt``).

``{epoch, global_step, pytorch-lightning_version, state_dict, callbacks, optimizer_states,
hyper_parameters, ...}``: the user's module has the network under an attribute of any name
(``model.``, ``net.``, ``resnet.``), and the head in it or under another (``classifier.``). They are
found as in any state dict.
"""

from dataclasses import replace

from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import state_dict
from ltkit.checkpoints.recognised import Recognised
from ltkit.settings import LoadSettings

SUMMARY = "Lightning ('pytorch-lightning_version', 'state_dict'), the network under any attribute"
PLACE = ("state_dict",)


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether Lightning wrote the file, and its network is one of ours."""
    if "pytorch-lightning_version" not in content.top or PLACE not in content.states:
        return False
    if wanted.arch is not None:
        return ":" not in wanted.arch
    return state_dict.matches(content, wanted)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network under the prefix that matches most of a known network's tensors.

    Raises:
        FormatError: when tensors do not fit.
        InputError: when there are several networks, or not one head.
    """
    inside = replace(content, states={PLACE: content.states[PLACE]})
    return replace(state_dict.load(inside, wanted), family="lightning")
