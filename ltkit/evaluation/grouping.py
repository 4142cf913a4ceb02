"""Which predictions count as right in grouped accuracy: by WordNet, superclasses, or a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.neighbors import wordnet
from ltkit.records import FeatureSet
from ltkit.settings import PathRule


@dataclass(frozen=True, eq=False)
class Grouping:
    """The predictions that count as right in grouped accuracy.

    related: (C, C) bool, row the true class.
    described: printed with it (by, rule, level).
    """

    related: NDArray[np.bool_]
    described: Mapping[str, Any]


def grouping_of(
    features: FeatureSet, group: str, *, rule: PathRule = "path", level: int = 4
) -> Grouping | None:
    """Return the grouping of a features file's classes, or None.

    Args:
        features: with WordNet ids or superclasses, where these are asked for.
        group: ``none``, ``wordnet``, ``coarse``, a file of lines class<TAB>group, or ``auto``: the
            first of WordNet and superclasses that there is.
        rule: as `ltkit.neighbors.wordnet.related_classes`.
        level: likewise.

    Raises:
        InputError: when the classes have no such groups, or there is no such file.
    """
    classes = features.classes
    if group == "auto":
        group = "none" if classes.coarse is None else "coarse"
        group = group if classes.wnids is None else "wordnet"
    if group == "none":
        return None
    if group == "wordnet":
        if classes.wnids is None:
            raise InputError(
                f"{features.source}: classes/wnid: absent, so no WordNet groups; use coarse or a "
                "group file"
            )
        related = wordnet.related_classes(classes.wnids, rule=rule, level=level)
        return Grouping(related, {"by": "wordnet", "rule": rule, "level": level})
    if group == "coarse":
        if classes.coarse is None:
            raise InputError(
                f"{features.source}: classes/coarse: absent, so no superclasses; use a group file"
            )
        return Grouping(wordnet.group_members(classes.coarse), {"by": "coarse"})
    if not Path(group).is_file():
        raise SettingError("group", f"found {group}, expected none, wordnet, coarse or a file")
    names = classes.names or tuple(map(str, range(len(classes))))
    groups = wordnet.read_group_file(Path(group), names)
    return Grouping(wordnet.group_members(groups), {"by": group})
