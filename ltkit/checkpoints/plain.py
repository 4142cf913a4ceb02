"""One network's tensors under its own names, wherever they lie and whatever stands before them.

A file may have its weights outermost, under ``state_dict``, ``model_state_dict``, ``network`` or
any other key, several keys deep, or the backbone under one key and the head under another. So all
mappings of tensors are joined to one with dotted names, and the prefix is looked for under which
the names are those of a known network. Wrappers of torch (``module``, ``_orig_mod``) are taken out
wherever they stand. Where two prefixes have a network each, the user is asked.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltkit.checkpoints.beside import first_words
from ltkit.checkpoints.content import Content, Place
from ltkit.checkpoints.recognised import Stored
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.settings import LoadSettings

Shapes = Mapping[str, tuple[int, ...]]
Names = dict[str, Stored]
"""A network's own names, to where the file has them."""

TRANSPARENT = {
    "_checkpoint_wrapped_module", "_forward_module", "_fsdp_wrapped_module", "_orig_mod", "module",
}  # fmt: skip
"""Attributes of torch's wrappers, which no network has itself."""

OTHER = re.compile(
    r".*(optim|sched|scaler|callback|loops|hparams|hyper_param|generator|rng).*|args|config|meta"
)
"""Keys of what a training run keeps beside its weights."""

EMA = re.compile(
    r"((state_dict|model|net|network|module)_)?(ema|swa|averaged?)(_(model|net|network|weights|"
    r"state|state_dict))?"
)
BEST = re.compile(r"best(_.*)?|.*_best")
"""What averages over training, and the best epoch's weights, are called."""

COPIES = re.compile(
    r"encoder_k|key_encoder|momentum_.*|.*_momentum|target_(net.*|encoder|backbone)|"
    r"(label_)?queue(_.*)?"
)
"""Queues and momentum copies of contrastive learning; the network beside them is the one used."""

DISTILLED = "head.last_layer."
"""What DINO's networks have, whose teacher is an average of the student."""

AVERAGES = "n_averaged"
"""What torch's averaged models count beside their weights."""

DEPTH = 8
"""How many attributes deep a network is looked for."""

FEWEST = 7
"""Fewer tensors are less than half of any network's, which has 15 at least."""

LIKE = 0.5
"""From this part of common tensors on, a state dict is taken to be of a network."""


@dataclass(frozen=True)
class Gathered:
    """All tensors of a file that may be a network's, under dotted names.

    kind: which of several weights, as ``--weights`` calls them.
    note: what was chosen and left out.
    """

    names: Names
    kind: str = "raw"
    note: str = ""


def gather(content: Content, wanted: LoadSettings | None = None, fewest: int = FEWEST) -> Gathered:
    """Join a file's tensors under dotted names, those of the wanted kind alone.

    Averages are taken first, because their scripts evaluate with them.

    Args:
        content: of the file.
        wanted: ``weights`` decides between kinds; without it nothing is refused.
        fewest: tensors that make a network.

    Raises:
        FormatError: when two names differ only in a wrapper.
        InputError: when the file has no weights of the wanted kind.
    """
    kinds: dict[str, dict[Place, list[str]]] = {}
    teacher = any(DISTILLED in name for state in content.states.values() for name in state)
    for place, state in content.states.items():
        if not any(OTHER.fullmatch(key) for key in place):
            for name in state:
                kinds.setdefault(_kind(place, name, teacher), {}).setdefault(place, []).append(name)
    there = [kind for kind in ("ema", "raw", "best") if kind in kinds]
    order = [kind for kind in there if _count(kinds[kind]) >= fewest] or there
    if not order:
        return Gathered({})
    asked = None if wanted is None or wanted.weights is None else str(wanted.weights)
    if asked not in (None, *order):
        said = f"not in the file; it has {', '.join(order)}"
        raise SettingError(f"weights {asked}", said, f"{content.path}: ")
    kind = asked or order[0]
    others = [other for other in order if other != kind]
    note = f"weights: {kind} taken; --weights {' or '.join(others)} takes others" if others else ""
    return Gathered(_joined(content, kinds[kind], fewest), kind, note)


def _kind(place: Place, name: str, teacher: bool) -> str:
    first = name.partition(".")[0] if "." in name else ""
    if teacher and "teacher" in (*place, first):
        return "ema"
    if any(EMA.fullmatch(key) for key in (*place, first)):
        return "ema"
    return "best" if any(BEST.fullmatch(key) for key in place) else "raw"


def _count(found: Mapping[Place, list[str]]) -> int:
    return sum(len(names) for names in found.values())


def _joined(content: Content, found: dict[Place, list[str]], fewest: int) -> Names:
    """Return tensors of several mappings under dotted names, from their common place on.

    Single values that lie outermost, beside a network, are the run's.
    """
    if len(found) > 1 and len(found.get((), [])) < fewest:
        kept = [name for name in found.pop((), []) if content.states[()][name].ndim > 1]
        found |= {(): kept} if kept else {}
    root = 0
    while len({place[: root + 1] for place in found}) == 1 and all(len(p) > root for p in found):
        root += 1
    names: Names = {}
    for place, inside in found.items():
        for name in inside:
            words = [*place[root:], *name.split(".")]
            own = ".".join(word for word in words if word not in TRANSPARENT)
            if own in names:
                raise _doubled(content, names[own], name)
            if not own.endswith(AVERAGES):
                names[own] = Stored(place, name)
    return names


def _doubled(content: Content, first: Stored, second: str) -> FormatError:
    return FormatError(
        f"{content.path}: {first.name}, {second}: differ only in their prefix; save one network's "
        "state_dict"
    )


def value(content: Content, stored: Stored) -> Tensor:
    """Return a tensor of the file."""
    return content.states[stored.place][stored.name]


def shapes(content: Content, names: Mapping[str, Stored]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by the same names."""
    return {own: tuple(value(content, there).shape) for own, there in names.items()}


def prefixes(
    content: Content, names: Names, stems: Iterable[str], likeness: Callable[[Shapes], float]
) -> dict[str, float]:
    """Return each prefix under which there may be a network, with how like it that is.

    Args:
        content: of the file.
        names: all tensors.
        stems: names of first tensors of known networks: a prefix has one of them after it.
        likeness: of the tensors under a prefix, by their own names; 1 where all are a network's.
    """
    known = set(stems)
    splits = [(name, name.split(".", DEPTH)) for name in names]
    starts = {
        ".".join([*words[:depth], ""]) if depth else ""
        for _, words in splits
        for depth in range(len(words))
        if ".".join(words[depth:]) in known
    }
    under: dict[str, Names] = {start: {} for start in starts}
    for name, words in splits:
        for depth in range(len(words)):
            start = ".".join([*words[:depth], ""]) if depth else ""
            if start in under:
                under[start][name.removeprefix(start)] = names[name]
    return {
        start: likeness(shapes(content, inside))
        for start, inside in under.items()
        if len(inside) >= FEWEST
    }


def network_in(
    content: Content, names: Names, found: Mapping[str, float], head: str | None = None
) -> tuple[str, list[str]]:
    """Return the one prefix that has a network, and those of networks that are not taken.

    Args:
        content: of the file.
        names: all tensors.
        found: prefixes to how like a network their tensors are.
        head: the user's name of the last layer, which decides between two.

    Raises:
        InputError: when there are several that differ.
    """
    every = chosen = [start for start, part in found.items() if part >= LIKE]
    if len(chosen) > 1:
        chosen = [s for s in chosen if not COPIES.fullmatch(s.rstrip(".").rpartition(".")[2])]
    if len(chosen) > 1 and head:
        chosen = [s for s in chosen if head.startswith(s)] or chosen
    if len(chosen) > 1 and not _all_equal(content, names, chosen):
        listed = ", ".join(sorted(start or "outermost" for start in chosen)[:5])[:120]
        raise InputError(
            f"{content.path}: found {len(chosen)} networks ({listed}), expected one; name the last "
            "layer of one with --head, or save its state_dict alone"
        )
    start = chosen[0] if chosen else ""
    return start, [other for other in every if not start.startswith(other) and other != start]


def _all_equal(content: Content, names: Names, starts: list[str]) -> bool:
    """Say whether networks under several prefixes are one that was saved more than once."""
    inside = [
        {n.removeprefix(s): value(content, t) for n, t in names.items() if n.startswith(s)}
        for s in starts
    ]
    first, *others = inside
    return all(
        first.keys() == other.keys() and all(torch.equal(first[n], other[n]) for n in first)
        for other in others
    )


def below(
    content: Content, names: Names, start: str, others: Sequence[str] = ()
) -> tuple[Names, Names, str]:
    """Return the tensors under a prefix by their own names, what is beside them, and a note.

    Args:
        content: of the file.
        names: all tensors.
        start: the prefix.
        others: prefixes of other networks, which are left out, as momentum copies are.

    Raises:
        FormatError: when something beside has the same name.
    """
    inside = {n.removeprefix(start): t for n, t in names.items() if n.startswith(start)}
    outside = {n: t for n, t in names.items() if not n.startswith(start)}
    out = {
        own for own in outside
        if own.startswith(tuple(others))
        or any(COPIES.fullmatch(word) for word in own.split(".")[:DEPTH])
    }  # fmt: skip
    outside = {own: there for own, there in outside.items() if own not in out}
    for name in outside:
        if name in inside:
            raise _doubled(content, inside[name], outside[name].name)
    note = f"left out: {', '.join(first_words(out))[:160]}, beside the network" if out else ""
    return inside, outside, note
