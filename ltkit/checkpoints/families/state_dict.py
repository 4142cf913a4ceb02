"""State dicts of ltkit's own networks, whoever trained them.

The outermost mapping, or ``state_dict``, ``model`` or ``net`` in it, holds a network's tensors
under the names of torchvision (``conv1``, ``layer1.0.bn2``) with any of the usual wrappers'
prefixes. The architecture is the one that has these tensors. What is left over must be the head:
one matrix with a side as wide as the features, and its bias; a head without a bias may be a cosine
head, whose scale no file of this kind has, so the user is asked. Weights that were averaged over
training (``state_dict_ema``, ``model_ema``) are taken before the raw ones, because their scripts
evaluate with them.
"""

from ltkit import architectures
from ltkit.architectures.heads import CosineHead, LinearHead
from ltkit.checkpoints.content import Content, Place
from ltkit.checkpoints.recognised import (
    IMAGENET,
    Recognised,
    Stored,
    assemble,
    bare,
    choose,
    head_size,
    under,
)
from ltkit.errors import InputError
from ltkit.settings import LoadSettings

SUMMARY = "state dicts of ResNets with any wrappers: CIFAR ResNets, torchvision's names, CDB"
GENERAL = True
EMA: tuple[Place, ...] = (("state_dict_ema",), ("model_ema",), ("ema",))
RAW: tuple[Place, ...] = (("state_dict",), ("model",), ("net",), ())
LIKE = 0.5
"""Share of common tensors from which a state dict is taken for that architecture."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether most tensors are those of one of ltkit's backbones."""
    if wanted.arch is not None and ":" in wanted.arch:
        return False
    return any(_likeness(content, place)[1] >= LIKE for place in _places(content).values())


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that has these tensors.

    Raises:
        FormatError: when tensors do not fit, or the head is no matrix as wide as the features.
        InputError: when there is no head, or more than one; they are listed with their shapes.
    """
    place, note = choose(content, wanted, _places(content))
    state = {n: t for n, t in content.states[place].items() if n != "n_averaged"}
    names = bare(content.path, state)
    arch = wanted.arch or _likeness(content, place)[0]
    spec = architectures.spec(arch)
    layers = {n.rpartition(".")[0] for n in architectures.backbone_shapes(arch)}
    rest = {n: f for n, f in names.items() if n.rpartition(".")[0] not in layers}
    weight, bias, others = _head(content, place, rest, spec.features, wanted.head)
    count, transposed = head_size(content, Stored(place, rest[weight]), spec.features, weight)
    body = {n: f for n, f in names.items() if n not in (weight, bias, *others)}
    stored = under("backbone.", place, body)
    stored["head.weight"] = Stored(place, rest[weight], transposed)
    if bias is not None:
        stored["head.bias"] = Stored(place, rest[bias])
    cosine = bias is None and not wanted.linear
    if cosine and wanted.scale is None:
        raise InputError(
            f"{content.path}: {rest[weight]}: has no bias; if it is a cosine head, give its factor "
            "with --scale (30 in the LDAM family), else pass --linear"
        )
    head = (
        CosineHead(spec.features, count, wanted.scale or 1.0)
        if cosine
        else LinearHead(spec.features, count, bias=bias is not None)
    )
    notes = [note, f"left out: {', '.join(others)}" if others else ""]
    return assemble(
        content, "state-dict", arch, head, stored, wanted, normalisation=IMAGENET, notes=notes
    )


def _places(content: Content) -> dict[str, Place]:
    """Return the places that this file has, in order of preference."""
    found = {}
    for kind, places in (("ema", EMA), ("raw", RAW)):
        there = [place for place in places if place in content.states]
        if there:
            found[kind] = there[0]
    return found


def _likeness(content: Content, place: Place) -> tuple[str, float]:
    names = bare(content.path, content.states[place])
    return architectures.most_like(
        {own: tuple(content.states[place][name].shape) for own, name in names.items()}
    )


def _head(
    content: Content, place: Place, rest: dict[str, str], width: int, wanted: str | None
) -> tuple[str, str | None, list[str]]:
    """Return the head's weight and bias among the remaining tensors, and other heads' tensors."""
    state = content.states[place]
    heads = {
        own: tuple(state[name].shape)
        for own, name in rest.items()
        if own.endswith("weight") and state[name].ndim == 2 and width in state[name].shape
    }
    found = [o for o in heads if wanted in (None, o, o.rpartition(".")[0], rest[o])]
    if len(found) != 1:
        shown = ", ".join(f"{rest[o]} {s}" for o, s in heads.items()) or "none"
        raise InputError(
            f"{content.path}: head: found {len(found)} that are {width} wide ({shown}), expected "
            "one; name it with --head"
        )
    weight = found[0]
    # A square matrix may be a layer before the head: it is not left out, so it is unexpected.
    layers = {
        o.rpartition(".")[0] for o, shape in heads.items() if o != weight and len({*shape}) > 1
    }
    bias = f"{weight.removesuffix('weight')}bias"
    others = [own for own in rest if own.rpartition(".")[0] in layers]
    return weight, bias if bias in rest else None, others
