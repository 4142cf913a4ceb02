"""The last layers of a network, told by the tensors that its backbone leaves over.

A head is one linear layer, plain or weight-normed, maybe behind dropout (``fc.1``), behind batch
norm (folded into it) or behind other layers: an MLP, whose last layer is the head and whose rest
belongs to the features. Activations have no tensors. One ReLU is taken between two linear layers,
at the first number that no tensor has; layers that follow each other by number have none between
them. What was taken is said.
"""

import itertools
import re
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ltkit.architectures.heads import CosineHead, LinearHead
from ltkit.architectures.normed_heads import BatchNormHead, WeightNormHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.plain import Names, shapes, value
from ltkit.checkpoints.recognised import Stored
from ltkit.errors import InputError, listed
from ltkit.settings import LoadSettings

LEAVES = re.compile(
    r"(?:(?P<layer>.*)\.)?(?P<leaf>weight|bias|weight_g|weight_v|running_mean|running_var|"
    r"num_batches_tracked|parametrizations\.weight\.original[01])"
)
OURS = {
    "weight_g": "g", "weight_v": "v", "parametrizations.weight.original0": "g",
    "parametrizations.weight.original1": "v",
}  # fmt: skip
"""Of weight norm, torch's old and new names to ours."""

PROJECTION = re.compile(
    r"(.*_)?(contrast|contrastive|last_layer|predictor|projection|projector|proj|prototypes|ssl|dino|ibot)(_.*)?"
)
"""Layers of self-supervised learning, beside the features and not before the head."""

HEADLESS = "no head: the features are what the backbone gives"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer of a head: our names of its tensors to their names in the file."""

    name: str
    tensors: dict[str, str]
    shapes: dict[str, Shape]

    @property
    def matrix(self) -> Shape:
        """The shape of a linear layer's weight; () for any other layer."""
        shape = self.shapes.get("v", self.shapes.get("weight", ()))
        return shape if len(shape) == 2 else ()

    @property
    def norm(self) -> int:
        """The width of a batch or layer norm; 0 for any other layer."""
        shape = self.shapes.get("weight", ())
        return shape[0] if len(shape) == 1 and self.shapes.get("bias") == shape else 0

    @property
    def number(self) -> int | None:
        """The place in an ``nn.Sequential``."""
        last = self.name.rpartition(".")[2]
        return int(last) if last.isdecimal() else None


@dataclass(frozen=True)
class LastLayers:
    """What follows a backbone.

    head: the last layer's module; None where there is none.
    neck: what stands between backbone and head, and belongs to the features.
    stored: tensors by the names that they have in a `Network`, ``neck.*`` and ``head.*``.
    rest: tensors that are none of these.
    notes: what was taken and left out.
    """

    head: nn.Module | None
    neck: nn.Sequential | None = None
    stored: dict[str, Stored] = field(default_factory=dict)
    rest: Names = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def last_layers(content: Content, rest: Names, width: int, wanted: LoadSettings) -> LastLayers:
    """Return the layers that the backbone leaves over.

    Args:
        content: of the file.
        rest: tensors that are not the backbone's, by their own names.
        width: of the features.
        wanted: what the user says of the head.

    Raises:
        InputError: when there is not one head; what is as wide as the features is listed.
    """
    layers = _layers(content, rest)
    every = chains = _chains(layers, width)
    if wanted.head is not None:
        chains = [chain for c in every if (chain := _up_to(c, wanted.head, rest))]
    chains, beside = _without_projections(chains, width, wanted.head)
    if not chains and (not rest or beside) and wanted.head is None:
        _refuse_a_loss(content, width)
        left = {name for name in rest if name.split(".")[0] in beside}
        notes = [f"left out: {listed(beside)}, a projection; --head takes it"] if beside else []
        notes.append(HEADLESS)
        return LastLayers(
            None, rest={n: t for n, t in rest.items() if n not in left}, notes=tuple(notes)
        )
    if len(chains) != 1:
        raise _not_one(content, rest, layers, width, len(chains))
    built = _built(content, chains[0], rest, width, wanted)
    others = [c for c in every if c[0] is not chains[0][0] and c[-1].matrix[0] != width]
    wide = [layer for layer in layers if width in layer.matrix and len({*layer.matrix}) > 1]
    named = [layer for layer in layers if layer.name.split(".")[0] in beside]
    taken = {layer.name for layer in chains[0]}
    out = [layer for layer in [*itertools.chain(*others), *wide, *named] if layer.name not in taken]
    return _less(built, [own for layer in out for own in layer.tensors.values()])


def _layers(content: Content, rest: Names) -> list[Layer]:
    """Return the layers of known kinds, in the order of the file."""
    found: dict[str, dict[str, str]] = {}
    for own in rest:
        match = LEAVES.fullmatch(own)
        if match:
            leaf = match["leaf"]
            found.setdefault(match["layer"] or "", {})[OURS.get(leaf, leaf)] = own
    sizes = shapes(content, rest)
    return [
        Layer(name, tensors, {leaf: sizes[own] for leaf, own in tensors.items()})
        for name, tensors in found.items()
    ]


def _chains(layers: list[Layer], width: int) -> list[list[Layer]]:
    """Return what may be a head: layers that follow each other from the features on.

    Layers of one attribute (``fc.0``, ``fc.3``) are a chain; else all of them are one in the order
    of the file (``bn``, ``fc``; ``fc1``, ``fc2``), where only the first is as wide as the features.
    """
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.name.split(".")[0], []).append(layer)
    ordered = [
        sorted(g, key=lambda x: x.number or 0) if all(x.number is not None for x in g) else g
        for g in groups.values()
    ]
    found = [group for group in ordered if _follows(group, width)]
    wide = [layer for layer in layers if width in layer.matrix]
    if len(ordered) > 1 and len(wide) == 1 and _follows(layers, width):
        return [layers]
    return found


def _follows(chain: list[Layer], width: int) -> bool:
    """Say whether each layer takes what the one before it gives, and the last one is linear."""
    if len(chain) == 1:
        return width in chain[0].matrix
    for layer in chain:
        if layer.matrix:
            if layer.matrix[1] != width:
                return False
            width = layer.matrix[0]
        elif layer.norm != width:
            return False
    return bool(chain[-1].matrix)


def _up_to(chain: list[Layer], head: str, rest: Names) -> list[Layer]:
    """Return a chain as far as the layer that the user calls the head; [] where it is another."""
    for number, layer in enumerate(chain):
        weight = layer.tensors.get("weight") or layer.tensors.get("v", "")
        file_name = rest[weight].name if weight else ""
        if layer.matrix and head in (
            layer.name, weight, file_name, file_name.rpartition(".")[0], layer.name.split(".")[0]
        ):  # fmt: skip
            whole = head == layer.name.split(".")[0] != layer.name
            return chain if whole else chain[: number + 1]
    return []


def _without_projections(
    chains: list[list[Layer]], width: int, head: str | None
) -> tuple[list[list[Layer]], list[str]]:
    """Return the chains that are no projection, and the projections that surely are beside these.

    One that gives as many values as it takes may stand before the head.
    """

    def is_one(chain: list[Layer]) -> bool:
        words = {word for layer in chain for word in layer.name.split(".")}
        named = any(PROJECTION.fullmatch(word) for word in words)
        return named and (len(chains) == 1 or chain[-1].matrix[0] != width)

    if head is not None:
        return chains, []
    kept = [chain for chain in chains if not is_one(chain)]
    return kept, [chain[0].name.split(".")[0] for chain in chains if is_one(chain)]


def _refuse_a_loss(content: Content, width: int) -> None:
    """Refuse to take a network for one without a head when a loss has a matrix that may be it.

    Raises:
        InputError: naming it.
    """
    heads = {n: tuple(t.shape) for n, t in content.left_out.items()
             if t.ndim == 2 and width in t.shape}  # fmt: skip
    if heads:
        listed = ", ".join(f"{name} {shape}" for name, shape in list(heads.items())[:3])[:120]
        raise InputError(
            f"{content.path}: head: found 0 that are {width} wide beside the losses, which have "
            f"{listed}; if it is the head, name it with --head"
        )


def _not_one(
    content: Content, rest: Names, layers: list[Layer], width: int, count: int
) -> InputError:
    wide = [layer for layer in layers if width in layer.matrix]
    names = (
        f"{rest[layer.tensors.get('weight') or layer.tensors['v']].name} {layer.matrix}"
        for layer in wide
    )
    return InputError(
        f"{content.path}: head: found {count} that are {width} wide "
        f"({', '.join(names)[:140] or 'none'}), expected one; name it with --head"
    )


def _less(built: LastLayers, out: list[str]) -> LastLayers:
    """Leave other heads out: what takes the features and gives another number of values."""
    names = list(dict.fromkeys(out))
    notes = [f"left out: {', '.join(names)[:160]}"] if names else []
    rest = {own: there for own, there in built.rest.items() if own not in names}
    return replace(built, rest=rest, notes=(*built.notes, *notes))


def _built(
    content: Content, chain: list[Layer], rest: Names, width: int, wanted: LoadSettings
) -> LastLayers:
    """Build a chain's modules."""
    steps = _with_activations(chain)
    folded = len(steps) > 1 and isinstance(steps[-2], Layer) and "running_var" in steps[-2].shapes
    folded = folded and "v" not in chain[-1].shapes
    before = steps[: -2 if folded else -1]
    neck: list[nn.Module] = []
    stored: dict[str, Stored] = {}
    for number, step in enumerate(before):
        if isinstance(step, Layer):
            stored |= {f"neck.{number}.{leaf}": rest[own] for leaf, own in step.tensors.items()
                       if leaf not in ("g", "v")}  # fmt: skip
        neck.append(_module(content, step, rest))
    last = chain[-1]
    width = last.matrix[1] if len(chain) > 1 else width
    turned = last.matrix[1] != width
    count = last.matrix[1] if turned else last.matrix[0]
    head = _head(content, last, rest, (width, count), wanted, folded=folded)
    inner = "linear." if folded else ""
    for leaf, own in last.tensors.items():
        stored[f"head.{inner}{leaf}"] = replace(rest[own], transposed=turned and leaf == "weight")
    if folded:
        stored |= {f"head.norm.{leaf}": rest[own] for leaf, own in chain[-2].tensors.items()}
    used = {own for layer in chain for own in layer.tensors.values()}
    return LastLayers(
        head, nn.Sequential(*neck) if neck else None, stored,
        {own: there for own, there in rest.items() if own not in used}, _said(chain, steps, folded),
    )  # fmt: skip


def _with_activations(chain: list[Layer]) -> list[Layer | None]:
    """Return the layers with a None where a ReLU is taken to be."""
    steps: list[Layer | None] = []
    pending = False  # a linear layer has no activation yet
    for layer, after in itertools.pairwise([*chain, None]):
        if layer is None:
            continue
        steps.append(layer)
        pending = bool(layer.matrix) or pending
        if after is None or not pending:
            continue
        apart = _apart(layer, after)
        if apart is False or (apart is None and not after.matrix):
            continue
        steps.append(None)
        pending = False
    return steps


def _apart(layer: Layer, after: Layer) -> bool | None:
    """Say whether a number between two layers is free; None where they are not numbered."""
    same = layer.name.rpartition(".")[0] == after.name.rpartition(".")[0]
    if not same or layer.number is None or after.number is None:
        return None
    return after.number > layer.number + 1


def _module(content: Content, step: Layer | None, rest: Names) -> nn.Module:
    """Return the module of a layer before the head; its values are loaded later.

    Raises:
        InputError: when it is weight-normed.
    """
    if step is None:
        return nn.ReLU()
    if step.norm:
        return (
            nn.BatchNorm1d(step.norm) if "running_var" in step.shapes else nn.LayerNorm(step.norm)
        )
    if "v" in step.shapes:
        raise InputError(
            f"{content.path}: {rest[step.tensors['v']].name}: weight norm before the last layer is "
            "not known; build the network with --model, or torch's remove_weight_norm and save"
        )
    return nn.Linear(step.matrix[1], step.matrix[0], bias="bias" in step.shapes)


def _head(
    content: Content,
    last: Layer,
    rest: Names,
    size: tuple[int, int],
    wanted: LoadSettings,
    *,
    folded: bool,
) -> nn.Module:
    """Return the last layer's module for (D, C).

    Raises:
        InputError: when it may be a cosine head, whose scale the user has to say; or its weight
            norm is not by rows.
    """
    bias = "bias" in last.shapes
    if "v" in last.shapes and last.shapes.get("g") != (size[1], 1):
        raise InputError(
            f"{content.path}: {rest[last.tensors['v']].name}: found lengths of shape "
            f"{last.shapes.get('g', ())}, expected {(size[1], 1)}, one a class; save it after "
            "torch's remove_weight_norm"
        )
    lengths: Tensor | None = (
        value(content, rest[last.tensors["g"]]) if "g" in last.tensors else None
    )
    plain = folded or (lengths is not None and bool((lengths != lengths[0]).any()))
    if not bias and not wanted.linear and not plain:
        weight = rest[last.tensors.get("weight") or last.tensors["v"]].name
        if wanted.scale is None or lengths is not None:
            raise InputError(
                f"{content.path}: {weight}: has no bias; if it is a cosine head, give its factor "
                "with --scale (30 in the LDAM family), else say --linear"
            )
        return CosineHead(*size, wanted.scale)
    kind = BatchNormHead if folded else WeightNormHead if lengths is not None else LinearHead
    return kind(*size, bias=bias)


def _said(chain: list[Layer], steps: list[Layer | None], folded: bool) -> tuple[str, ...]:
    """Say what was taken of layers before the last one."""
    notes = []
    names = [layer.name for layer in chain]
    if folded:
        notes.append(f"head: {names[-2]} (batch norm) is folded into {names[-1]}")
    before = names[: -2 if folded else -1]
    if before:
        relus = steps.count(None)
        taken = f"{relus} ReLU taken between linear layers" if relus else "no activation between"
        notes.append(
            f"head: {names[-1]}; {', '.join(before)[:100]} before it belong to the features, "
            f"{taken}, as no tensor tells; if that is not so, use --model"
        )
    return tuple(notes)


def in_sequence(built: LastLayers) -> tuple[nn.Module, Names]:
    """Return the last layers as one module of another network, and its tensors by their names.

    The head is its last part, named by its number; a head alone is itself.
    """
    assert built.head is not None
    if built.neck is None:
        return built.head, {n.removeprefix("head."): there for n, there in built.stored.items()}
    last = len(built.neck)
    names = {
        n.removeprefix("neck.") if n.startswith("neck.") else f"{last}.{n.removeprefix('head.')}": t
        for n, t in built.stored.items()
    }
    return nn.Sequential(*built.neck, built.head), names
