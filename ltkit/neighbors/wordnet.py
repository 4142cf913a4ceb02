"""Which classes count as near each other: by WordNet, coarse groups, or files of groups.

All three ways end in a (C, C) table of booleans, whose entry [i, j] says whether predicting class j
counts as right for the true class i. WordNet's links are shipped as tables, made by
``scripts/build_wordnet.py``: all hypernyms, up to the root, of the classes of ImageNet-1k,
CIFAR-100 and CIFAR-10. WordNet is a directed acyclic graph, not a tree: a synset may have several
parents. A wnid is "n" and the eight digits of a noun's offset in WordNet 3.0.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import ClassTable, values_by_class
from ltkit.settings import PathRule


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Synsets and their hypernyms.

    names: wnid -> its lemmas, separated by ", ".
    parents: wnid -> the wnids of its hypernyms; a root has none, or no entry.

    Example:
        >>> tree = Hierarchy({"pet": "pet", "dog": "dog, Canis"}, {"dog": ("pet",)})
        >>> tree.parents["dog"]
        ('pet',)
    """

    names: Mapping[str, str]
    parents: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        """Check that every synset of a link has a name."""
        linked = {*self.parents, *(p for parents in self.parents.values() for p in parents)}
        if nameless := sorted(linked - self.names.keys()):
            raise ValueError(f"parents has synsets that names has not: {_some(nameless)}")


@cache
def load_wordnet() -> Hierarchy:
    """Read the shipped part of WordNet 3.0 (1926 synsets, 2008 links; read once, then kept).

    Example:
        >>> wordnet = load_wordnet()
        >>> wordnet.names["n02084071"]
        'dog, domestic dog, Canis familiaris'
        >>> [wordnet.names[parent] for parent in wordnet.parents["n02084071"]]
        ['domestic animal, domesticated animal', 'canine, canid']

    Source:
        WordNet 3.0, Princeton University, 2006; its notice is ``ltkit/data/LICENSE-WORDNET``.
    """
    parents = defaultdict(list)
    for child, parent in _table("wordnet_edges.tsv"):
        parents[child].append(parent)
    names = {wnid: lemmas for wnid, lemmas in _table("wordnet_names.tsv")}
    return Hierarchy(names, {child: tuple(found) for child, found in parents.items()})


def readable_names(classes: ClassTable) -> list[str]:
    """Return (C,) readable class names: WordNet ids and blanks are replaced by words.

    Example:
        >>> readable_names(ClassTable(np.array([5, 3, 2]), ("n01440764", "cat", "")))
        ['tench (n01440764)', 'cat', '(class 2)']
    """
    names = [classes.name(c) for c in range(len(classes))]
    names = [name if name.strip() else f"(class {c})" for c, name in enumerate(names)]
    if not any(re.fullmatch(r"n\d{8}", name) for name in names):
        return names
    words = load_wordnet().names
    return [f"{words[n].split(',')[0]} ({n})" if n in words else n for n in names]


def related_classes(
    wnids: Sequence[str], *, rule: PathRule, level: int, hierarchy: Hierarchy | None = None
) -> NDArray[np.bool_]:
    """Return which classes are near enough in WordNet to count as right for each other.

    - ``path``: the shortest path between the two synsets over the hierarchy's links, up or down,
      has at most `level` links.
    - ``ancestor``: some common ancestor lies at most `level` links above both; a synset is its own
      ancestor, at distance 0. A path has then at most 2 `level` links, so this rule is much looser.
    - ``nltk``: the shortest path up to a common ancestor and down again has at most `level` links.

    All are symmetric, and a class is related to itself and to every class of the same wnid.

    Args:
        wnids: (C,) the synset of each class.
        rule: ``path``, ``ancestor`` or ``nltk``.
        level: the number of links, at least 0; 4 in the source.
        hierarchy: where the links are; the shipped WordNet tables when not given.

    Returns:
        (C, C), whether predicting class j (column) counts as right for true class i (row).

    Raises:
        InputError: when a wnid is not in the hierarchy.
        ValueError: when the level is negative or the rule is unknown.

    Example:
        >>> tree = Hierarchy(
        ...     dict.fromkeys(["animal", "pet", "cat", "dog", "wolf"], ""),
        ...     {"pet": ["animal"], "cat": ["pet"], "dog": ["pet"], "wolf": ["animal"]},
        ... )
        >>> wnids = ["cat", "dog", "wolf"]
        >>> related_classes(wnids, rule="path", level=2, hierarchy=tree).astype(int)
        array([[1, 1, 0],
               [1, 1, 0],
               [0, 0, 1]])
        >>> related_classes(wnids, rule="ancestor", level=2, hierarchy=tree).astype(int)
        array([[1, 1, 1],
               [1, 1, 1],
               [1, 1, 1]])

    Source:
        Chang et al., AlphaNet, arXiv:2008.07073, semantically grouped accuracy. ``ancestor`` is the
        paper's wording. The published code, which made the published numbers, measures a path with
        NLTK, ``nltk``: at level 4, 15.80 classes are related to a class of ImageNet. ``path`` may
        also go down and up (golf ball, golf equipment, golfcart), which relates 40 more of the
        499 500 pairs, 15.88 classes.
    """
    if level < 0:
        raise ValueError(f"level is {level}, expected at least 0")
    if rule not in get_args(PathRule):
        raise ValueError(f"rule is {rule!r}, expected one of {get_args(PathRule)}")
    hierarchy = load_wordnet() if hierarchy is None else hierarchy
    columns = _columns(wnids, hierarchy)
    related = np.zeros((len(columns), len(columns)), dtype=np.bool_)
    if rule == "path":
        links = _links(hierarchy)
        for wnid, row in columns.items():
            near = _distances(wnid, links, level)
            related[row, [columns[synset] for synset in near if synset in columns]] = True
    else:
        for below in _members_below(columns, hierarchy, level).values():
            members, steps = np.array(below).T
            height = np.maximum if rule == "ancestor" else np.add
            related[np.ix_(members, members)] |= height.outer(steps, steps) <= level
    order = [columns[wnid] for wnid in wnids]
    return related[np.ix_(order, order)]


def path_lengths(wnids: Sequence[str], *, hierarchy: Hierarchy | None = None) -> NDArray[np.int32]:
    """Return the number of links on the shortest path, up or down, between each two classes.

    Args:
        wnids: (C,) the synset of each class.
        hierarchy: where the links are; the shipped WordNet tables when not given.

    Returns:
        (C, C) int32, symmetric, 0 for equal wnids. Two classes that no path connects (never in the
        shipped tables) get the number of synsets, which is more than any path has links.

    Raises:
        InputError: when a wnid is not in the hierarchy.

    Example:
        >>> tree = Hierarchy(
        ...     dict.fromkeys(["animal", "pet", "cat", "dog", "wolf"], ""),
        ...     {"pet": ["animal"], "cat": ["pet"], "dog": ["pet"], "wolf": ["animal"]},
        ... )
        >>> path_lengths(["cat", "dog", "wolf"], hierarchy=tree)
        array([[0, 2, 3],
               [2, 0, 3],
               [3, 3, 0]], dtype=int32)
    """
    hierarchy = load_wordnet() if hierarchy is None else hierarchy
    columns = _columns(wnids, hierarchy)
    links = _links(hierarchy)
    unconnected = len(hierarchy.names)
    lengths = np.empty((len(columns), len(columns)), dtype=np.int32)
    for wnid, row in columns.items():
        distances = _distances(wnid, links, unconnected)
        lengths[row] = [distances.get(synset, unconnected) for synset in columns]
    order = [columns[wnid] for wnid in wnids]
    return lengths[np.ix_(order, order)]


def group_members(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which classes have the same group, given the name of each class's group.

    Args:
        names: (C,) the group of each class, such as CIFAR-100's coarse class.

    Returns:
        (C, C), whether the classes i and j have the same group.

    Example:
        >>> group_members(["pet", "tool", "pet"]).astype(int)
        array([[1, 0, 1],
               [0, 1, 0],
               [1, 0, 1]])
    """
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    same: NDArray[np.bool_] = groups[:, None] == groups[None, :]  # (C, C)
    return same


def read_group_file(path: Path, class_names: Sequence[str]) -> list[str]:
    r"""Read each class's group from a file with one line ``class<TAB>group`` per class.

    A line without a tab is read as CSV, so ``"tench, Tinca tinca",fish`` works. The class is its
    name or its id; what could be both is the name. When class names repeat, only ids are taken.
    Empty lines are skipped, and there is no heading.

    Args:
        path: the file, UTF-8.
        class_names: (C,) the names in class order.

    Returns:
        (C,) the group of each class in class order.

    Raises:
        InputError: when the file cannot be read, a line has not two columns, or a class is
            unknown, given twice or missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "groups.csv"
        ...     _ = path.write_text("dog,pet\n0,pet\nspade,tool\n")
        ...     read_group_file(path, ["cat", "spade", "dog"])
        ['pet', 'tool', 'pet']
    """
    return values_by_class(path, class_names, "group")


def _table(name: str) -> list[list[str]]:
    """Read the rows of a shipped table, without its heading."""
    text = resources.files("ltkit").joinpath("data", name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()[1:]]


def _some(values: Sequence[str]) -> str:
    """Return the first three values for a message."""
    shown = [f"{value[:60]!r}" for value in values[:3]]
    return ", ".join(shown + ["..."] * (len(values) > 3))


def _columns(wnids: Sequence[str], hierarchy: Hierarchy) -> dict[str, int]:
    """Number the distinct wnids in order, or report which of them are unknown."""
    unknown = [wnid for wnid in wnids if wnid not in hierarchy.names]
    if unknown:
        raise InputError(
            f"wnids: found {len(unknown)} of {len(wnids)} that are not in the hierarchy "
            f"({_some(unknown)}), expected WordNet 3.0 noun ids of ImageNet-1k or CIFAR classes; "
            "correct them, or group the classes by a file"
        )
    return {wnid: column for column, wnid in enumerate(dict.fromkeys(wnids))}


def _links(hierarchy: Hierarchy) -> dict[str, list[str]]:
    """Return each synset's parents and children."""
    links: dict[str, list[str]] = defaultdict(list)
    for child, parents in hierarchy.parents.items():
        for parent in parents:
            links[child].append(parent)
            links[parent].append(child)
    return links


def _distances(start: str, links: Mapping[str, Sequence[str]], limit: int) -> dict[str, int]:
    """Return the synsets at most `limit` links from `start`, with their distances."""
    distances = {start: 0}
    queue = [start]
    for synset in queue:  # grows while it is read: breadth first
        if distances[synset] == limit:
            break
        for other in links.get(synset, ()):
            if other not in distances:
                distances[other] = distances[synset] + 1
                queue.append(other)
    return distances


def _members_below(
    columns: Mapping[str, int], hierarchy: Hierarchy, level: int
) -> dict[str, list[tuple[int, int]]]:
    """Return, for each ancestor, the classes at most `level` links below it: column and links."""
    members: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for wnid, column in columns.items():
        for ancestor, steps in _distances(wnid, hierarchy.parents, level).items():
            members[ancestor].append((column, steps))
    return members
