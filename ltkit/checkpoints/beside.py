"""What stands beside a network and is none of it: losses, metrics, class weights."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:  # its containers import it while they are imported
    from ltkit.checkpoints.content import Content

DEPTH = 3
"""How many attributes deep a loss may be; a layer deep in a network may be called anything."""

LOSSES = re.compile(
    r"(.*_)?(acc|accuracy|auc|auroc|bce|calibration|ce|confmat|confusion|crit|criteria|criterion|"
    r"criterions|ece|f1|focal|kld|ldam|loss|losses|metric|metrics|mse|nll|precision|recall|top1|"
    r"top5)\d*(_.*)?"
)
"""Attributes of losses and metrics."""

COUNTS = re.compile(
    r"(class|cls|ce|loss|per_cls|per_class)_?(weights?|counts?|freqs?|frequency|prior|priors)|"
    r"cls_num_list|num_per_cls|samples_per_(cls|class)|(log_)?priors?|pos_weight|m_list|margins"
)
"""Vectors of a loss that are kept as buffers of the network."""


def first_words(names: Iterable[str]) -> list[str]:
    """Return the first attributes of names, sorted.

    Example:
        >>> first_words(["loss.weight", "acc.total", "loss.m"])
        ['acc', 'loss']
    """
    return sorted({name.split(".")[0] for name in names})


def without_losses(content: "Content", head: str | None) -> "Content":
    """Return what a file holds less the tensors of losses and metrics, which it then names.

    Args:
        content: of the file.
        head: the user's name of the last layer, which may be called as a loss.
    """
    out: dict[str, Tensor] = {}
    states = {}
    for place, state in content.states.items():
        kept = {}
        for name, tensor in state.items():
            *parents, leaf = name.split(".")
            words = [*place, *parents[:DEPTH]]
            lossy = any(LOSSES.fullmatch(word) for word in words)
            counted = COUNTS.fullmatch(leaf) is not None and tensor.ndim < 2
            named = head is not None and (name.startswith(head) or head in (leaf, *parents))
            if (lossy or counted) and not named:
                out[".".join((*place, name)) if place != content.place else name] = tensor
            else:
                kept[name] = tensor
        states[place] = kept
    if not out:
        return content
    kept_states = {place: state for place, state in states.items() if state}
    return replace(content, states=kept_states, left_out=out)


def notes(content: "Content") -> tuple[str, ...]:
    """Say what was left out, where something was."""
    out = content.left_out
    return (f"left out: {len(out)} tensors of {', '.join(first_words(out))[:160]}",) if out else ()
