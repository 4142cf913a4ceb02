"""A checkpoint and images brought together: the same images, classes and view as in training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ltkit import checkpoints, datasets
from ltkit.checkpoints import Recognised
from ltkit.datasets.order import in_order, read_names
from ltkit.datasets.view import USUAL, Known, SeenAs, resolve, transformed
from ltkit.records import Dataset
from ltkit.settings import LoadSettings, ViewSettings

OWN = "own-network"
"""The family of networks of the user's own code, of whose pictures nothing is known."""


@dataclass(frozen=True)
class Prepared:
    """What `ltkit.sources.extraction.extract` takes.

    notes: what the user should know, in the order to be said.
    """

    model: Recognised
    dataset: Dataset
    seen: SeenAs
    notes: tuple[str, ...]


def prepare(
    checkpoint: Path,
    spec: str,
    root: Path | None = None,
    *,
    wanted: LoadSettings | None = None,
    view: ViewSettings | None = None,
    transform: str | Callable[..., object] | None = None,
    classes: Path | None = None,
    no_head: bool = False,
    follow_links: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Prepared:
    """Load a checkpoint and a dataset; settle the order of the classes and the view of the images.

    Args:
        checkpoint: the file.
        spec: the dataset; see `ltkit.datasets.load`.
        root: where its images are.
        wanted: what the user says of the checkpoint.
        view: what the user says of the size of the images.
        transform: the user's own function from a PIL image to the network's input, or its name, as
            ``package.module:function``.
        classes: a file of the classes' names in the order of the head.
        no_head: whether the model's last layer is left out, and with it the order of its classes.
        follow_links: whether links may lead out of the folder of images.
        columns: what the columns of a CSV are called.

    Raises:
        InputError: when the checkpoint, the dataset or what is said of them does not fit.
        FormatError: when the checkpoint is damaged or unsafe.
    """
    stated = None if classes is None else read_names(classes)
    given = {"follow_links": follow_links, "columns": columns, "classes": stated or ()}
    dataset = datasets.load(spec, root, **given)  # type: ignore[arg-type]
    asked = replace(wanted or LoadSettings(), class_names=stated or dataset.classes.names or ())
    model = checkpoints.load(checkpoint, asked)
    if model.trained_on.get("val") == "holdout":
        same = datasets.load(spec, root, like=model.trained_on, **given)  # type: ignore[arg-type]
        if same.record["index_digest"] == model.trained_on.get("index_digest"):
            dataset = same
    if transform is not None:  # it takes care of them
        told = tuple(note for note in model.notes if not note.startswith("mean and std"))
        model = replace(model, notes=told)
    notes = [f"note: {line}" for line in dataset.notes]
    trained = model.trained_on
    if trained and trained.get("index_digest") != dataset.record["index_digest"]:
        notes.append(
            f"note: the checkpoint was trained on other images ({trained.get('spec')}); "
            "validation images may be among them"
        )
    own = None if no_head or model.head is None else model.class_names
    names, source = stated or own, str(classes or checkpoint)
    if names is not None:
        dataset, said = in_order(dataset, names, source)
        if said:
            notes.append(f"note: {said}")
    if transform is not None:
        seen = transformed(transform, view or ViewSettings())
    else:
        known = Known(model.view, model.view_said, model.arch)
        seen = resolve(dataset, view or ViewSettings(), known)
        if model.family == OWN and seen.origin.get("crop") == USUAL and seen.view is not None:
            notes.append(
                f"note: nothing says which size {model.arch} was trained with; {seen.view.crop} "
                "pixels are the first that it takes: --image-size says others"
            )
    return Prepared(model, dataset, seen, (*notes, seen.line(), *seen.notes))
