"""The shot groups: classes with few, medium and many training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltkit.errors import SettingError
from ltkit.records.arrays import Ints
from ltkit.settings import BINS, SHOT_GROUPS, StoredBins


@dataclass(frozen=True, eq=False)
class ShotGroups:
    """The classes of each shot group, by training count.

    few, medium, many: class ids, ascending; `base` is medium + many.
    """

    few: Ints
    medium: Ints
    many: Ints

    @property
    def base(self) -> Ints:
        """Medium and many."""
        return np.sort(np.concatenate([self.medium, self.many]))

    def items(self) -> list[tuple[str, Ints]]:
        """Return (name, class ids) in the order few, medium, many."""
        return [(name, getattr(self, name)) for name in SHOT_GROUPS]


def shot_groups(class_counts: Ints, bins: Sequence[int] = BINS) -> ShotGroups:
    """Group classes by training count: few < bins[0], many > bins[1], medium between.

    Args:
        class_counts: (C,) training images per class.
        bins: the least and the greatest count of medium.

    Raises:
        SettingError: when the bins are not two ascending counts.

    Example:
        >>> groups = shot_groups(np.array([101, 100, 20, 19]))
        >>> [ids.tolist() for _, ids in groups.items()]
        [[3], [1, 2], [0]]
    """
    if len(bins) != 2 or not 0 < bins[0] <= bins[1]:
        raise SettingError(
            "bins", f"found {','.join(map(str, bins))}, expected two counts, as 20,100"
        )
    low, high = bins
    return ShotGroups(
        few=np.flatnonzero(class_counts < low).astype(np.int64),
        medium=np.flatnonzero((class_counts >= low) & (class_counts <= high)).astype(np.int64),
        many=np.flatnonzero(class_counts > high).astype(np.int64),
    )


def automatic_bins(class_counts: Ints) -> tuple[int, int]:
    """Return the usual bins if all three groups are there, else those of thirds of the classes.

    Example:
        >>> automatic_bins(np.array([500, 50, 5])), automatic_bins(np.array([9, 7, 7, 5, 4, 2]))
        ((20, 100), (5, 7))
        >>> [ids.tolist() for _, ids in shot_groups(np.array([9, 7, 7, 5, 4, 2]), (5, 7)).items()]
        [[4, 5], [1, 2, 3], [0]]
    """
    groups = shot_groups(class_counts)
    if all(len(ids) for _, ids in groups.items()):
        return BINS
    ordered = np.sort(class_counts)
    third = len(ordered) // 3
    low, high = int(ordered[third]), int(ordered[len(ordered) - 1 - third])
    return max(low, 1), max(high, 1)


def stored_bins(said: StoredBins, class_counts: Ints) -> dict[str, list[int]]:
    """Return what a features file keeps of its shot groups.

    Raises:
        SettingError: when the bins are not two ascending counts.

    Example:
        >>> stored_bins("auto", np.array([3, 2, 1])), stored_bins(None, np.array([3, 2, 1]))
        ({'bins': [2, 2]}, {})
    """
    if said is None:
        return {}
    bins = automatic_bins(class_counts) if said == "auto" else said
    shot_groups(class_counts, bins)
    return {"bins": list(bins)}


def note_of_bins(said: StoredBins, class_counts: Ints) -> tuple[str, ...]:
    """Return what ``auto`` has chosen; nothing where the user chose.

    Example:
        >>> note_of_bins("auto", np.array([9, 7, 7, 5, 4, 2]))
        ('--bins auto: few below 5, many above 7, thirds of the classes by count',)
    """
    if said != "auto":
        return ()
    low, high = automatic_bins(class_counts)
    usual = (low, high) == tuple(BINS)
    why = (
        "the usual ones, as all three groups are there"
        if usual
        else "thirds of the classes by count"
    )
    return (f"--bins auto: few below {low}, many above {high}, {why}",)


def members(groups: ShotGroups, name: str, setting: str) -> Ints:
    """Return the class ids of ``few``, ``medium``, ``many``, ``base`` or ``all``, ascending.

    Raises:
        SettingError: for another name; it names the setting.
    """
    if name == "all":
        return np.sort(np.concatenate([groups.few, groups.base]))
    if name not in (*SHOT_GROUPS, "base"):
        raise SettingError(setting, f"found {name}, expected few, medium, many, base or all")
    ids: Ints = getattr(groups, name)
    return ids
