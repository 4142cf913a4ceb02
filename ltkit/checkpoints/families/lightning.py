"""Lightning's checkpoints (``.ckpt``).

``{epoch, global_step, pytorch-lightning_version, state_dict, callbacks, optimizer_states,
hyper_parameters, ...}``: the user's module has the network under an attribute of any name
(``model.``, ``net.``, ``resnet.``), and the head in it or under another (``classifier.``). The
prefix that the backbone's tensors share is taken off. Tensors of losses and metrics are left out,
when their attribute is called so (``criterion``, ``train_acc``).
"""

import re
from dataclasses import replace

from ltkit import architectures
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import state_dict
from ltkit.checkpoints.recognised import Recognised
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

SUMMARY = "Lightning ('pytorch-lightning_version', 'state_dict'), the network under any attribute"
PLACE = ("state_dict",)
LEFT_OUT = re.compile(
    r"([^.]*_)?(acc|accuracy|auroc|calibration|confmat|confusion|criterion|f1|loss|losses|metric|"
    r"metrics|precision|recall)(_[^.]*)?\."
)
"""Attribute names of losses and metrics."""

DEPTH = 3
"""How many attributes deep the network is searched for."""

FEWEST = 7
"""With fewer tensors it cannot be half of any network, which has at least 15."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether Lightning wrote the file, and its network is one of ours."""
    if "pytorch-lightning_version" not in content.top or PLACE not in content.states:
        return False
    if wanted.arch is not None:
        return ":" not in wanted.arch
    return max(_likeness(content).values()) >= state_dict.LIKE


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network under the prefix that matches most of a known network's tensors.

    Raises:
        FormatError: when tensors do not fit.
        InputError: when there are several networks, or not one head.
    """
    prefix, state, head = _prefix(content, wanted), content.states[PLACE], wanted.head or ""
    inside = {name for name in state if name.startswith(prefix)} if prefix else set()
    out = [
        name for name in state
        if name not in inside and LEFT_OUT.match(name) and not (head and name.startswith(head))
    ]  # fmt: skip
    names: dict[str, str] = {}
    for name in state:
        own = name.removeprefix(prefix)
        if own in names:
            raise FormatError(
                f"{content.path}: {names[own]}, {name}: differ only in their prefix; save one "
                "network's state_dict"
            )
        if name not in out:
            names[own] = name
    inner = replace(content, top={}, states={(): {own: state[name] for own, name in names.items()}})
    model = state_dict.load(inner, replace(wanted, head=head.removeprefix(prefix) or None))
    stored = {
        ours: replace(there, place=PLACE, name=names[there.name])
        for ours, there in model.stored.items()
    }
    layers = ", ".join(sorted({name.split(".")[0] for name in out}))
    notes = (*model.notes, f"left out: {len(out)} tensors of {layers}") if out else model.notes
    return replace(model, family="lightning", stored=stored, notes=notes)


def _prefix(content: Content, wanted: LoadSettings) -> str:
    """Return the prefix of the backbone's names, with its dot."""
    likeness = _likeness(content)
    best = max(likeness.values())
    found = sorted(prefix for prefix, value in likeness.items() if value == best)
    chosen = [p for p in found if len(found) == 1 or (wanted.head or "").startswith(p)]
    if len(chosen) != 1:
        raise InputError(
            f"{content.path}: found {len(found)} networks ({', '.join(found[:5])[:120]}), expected "
            "one; name the last layer of one with --head"
        )
    return chosen[0]


def _likeness(content: Content) -> dict[str, float]:
    """Return each prefix's share of a known network's tensors; 0 for a prefix with few tensors."""
    under: dict[str, dict[str, tuple[int, ...]]] = {"": {}}
    for name, tensor in content.states[PLACE].items():
        attributes = name.split(".", DEPTH)[:-1]
        for depth in range(len(attributes) + 1):
            prefix = ".".join([*attributes[:depth], ""]) if depth else ""
            under.setdefault(prefix, {})[name.removeprefix(prefix)] = tuple(tensor.shape)
    return {"": 0.0} | {
        prefix: architectures.most_like(shapes)[1]
        for prefix, shapes in under.items()
        if len(shapes) >= FEWEST
    }
