"""Lists of images of a long-tailed subset, drawn of a balanced dataset of the user's own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ltkit import settings as ranges
from ltkit.datasets import lists, longtail
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, SettingError
from ltkit.files.atomic import check_output, write_text
from ltkit.records import SPLITS, Dataset, Ints
from ltkit.settings import LongTailSettings


def write_lists(
    dataset: Dataset, output: Path, settings: LongTailSettings, *, overwrite: bool = False
) -> list[Path]:
    """Write the lists of a long-tailed subset, ``path label`` lines, one list a split.

    A dataset's own val and test splits stay whole. Where it has none, images of each class are set
    aside first; of the others class 0 keeps most. Then images are drawn as `longtail.draw` does.

    Args:
        dataset: of image files, about as many of each class.
        output: the training list, whose name has the word ``train`` in it; the others lie beside
            it, with ``val`` and ``test`` instead, where ``--data`` finds them.
        settings: the imbalance, the profile, the seed, what is set aside.
        overwrite: whether existing lists may be replaced.

    Returns:
        The lists that were written.

    Raises:
        InputError: when a list cannot be written, the dataset has no image files, a class has too
            few, or a path cannot stand in a list.
    """
    ranges.check(settings)
    parts = _parts(dataset, settings)
    files = _files(output, parts)
    for file in files.values():
        check_output(file, overwrite=overwrite)
    for split, file in files.items():
        write_text(file, _text(dataset, *parts[split], file))
    return [*files.values()]


def _files(output: Path, parts: Mapping[str, object]) -> dict[str, Path]:
    """Return the list of each split.

    Raises:
        InputError: when the name of the training list does not say what it is.
    """
    files = {}
    for split in (split for split in SPLITS if split in parts):
        file = lists.renamed(output, split)
        if file is None or output.suffix != ".txt":
            raise InputError(
                f"{output}: expected the name of a training list, as pets_train.txt, beside which "
                "pets_val.txt and pets_test.txt go; name another with -o"
            )
        files[split] = file
    return files


def _parts(dataset: Dataset, settings: LongTailSettings) -> dict[str, tuple[str, Ints]]:
    """Return for each list the split that its images are of, and their rows there."""
    labels, num_classes = dataset.split("train").labels, len(dataset.classes)
    if num_classes < 2:
        raise InputError(f"{dataset.record['spec']}: found 1 class, expected 2 or more")
    aside = {"val": settings.val_images, "test": settings.test_images}
    aside = {split: n for split, n in aside.items() if n and split not in dataset.splits}
    taken, rest = _set_aside(dataset, aside, settings.seed)
    most = int(np.bincount(labels[rest]).min())
    if settings.imbalance > most:
        found = f"found {settings.imbalance:g}, expected at most {most}"
        raise SettingError("imbalance", f"{found}, the images that each class has for training")
    counts = longtail.profile_counts(settings.profile, num_classes, most, settings.imbalance)
    drawn = longtail.draw(labels[rest], counts, settings.seed, "none")
    own = {s: (s, np.arange(len(part))) for s, part in dataset.splits.items() if s != "train"}
    held = {split: ("train", rows) for split, rows in taken.items()}
    return {"train": ("train", rest[drawn.train])} | own | held


def _set_aside(
    dataset: Dataset, aside: Mapping[str, int], seed: int
) -> tuple[dict[str, Ints], Ints]:
    """Return the rows of training images that are set aside for other splits, and the rest.

    Raises:
        InputError: when a class has no more than those.
    """
    labels = dataset.split("train").labels
    rng = np.random.default_rng(seed)
    ends = np.cumsum([*aside.values()], dtype=int)
    parts: list[list[Ints]] = []
    for class_id in range(len(dataset.classes)):
        order = rng.permutation(np.flatnonzero(labels == class_id))
        if len(order) <= sum(aside.values()):
            raise InputError(
                f"{dataset.record['spec']}: class {dataset.classes.name(class_id)[:60]}: found "
                f"{len(order)} images, expected more than the {sum(aside.values())} set aside; set "
                "--val-images or --test-images lower"
            )
        parts.append(np.split(order, ends))
    *taken, rest = (np.sort(np.concatenate(rows)) for rows in zip(*parts, strict=True))
    return dict(zip(aside, taken, strict=True)), rest


def _text(dataset: Dataset, split: str, rows: Ints, file: Path) -> str:
    """Return the lines of a list.

    Raises:
        InputError: when the images are no files, or one's name cannot stand in a line.
    """
    part = dataset.split(split)
    if not isinstance(part.images, ImageFiles):
        raise InputError(
            f"{dataset.record['spec']}: its images are no files that a list could name; it is "
            "long-tailed by its own parameters ir and profile"
        )
    lines = []
    for row in rows.tolist():
        name = str(part.ids[row])
        plain = name == name.strip() and len(name.splitlines()) == 1
        if not plain or not part.images.paths[row].as_posix().endswith(name):  # no text: escaped
            raise InputError(
                f"{file}: {name[:100]!r} cannot stand in a list of lines, for the signs in its "
                "name; rename the image"
            )
        lines.append(f"{name} {part.labels[row]}\n")
    return "".join(lines)
