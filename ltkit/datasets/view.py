"""What a network sees of a picture, and who says so.

Each part comes from the first that knows it: the command line, the checkpoint, the architecture's
usual size, the library's usual view. Pictures that are stored at one size, as benchmarks' are, stay
at it, unless the command line or the checkpoint says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import own_code
from ltkit.datasets.images import ImageFiles, Rescaled, Transformed, is_wide, view_of
from ltkit.errors import InputError, SettingError
from ltkit.records import Dataset, ImageSplit, ImageView
from ltkit.settings import ViewSettings, as_json, check

SAMPLE = 64
"""Pictures, evenly spaced, whose values are looked at where they have more than eight bits."""

BITS = (8, 10, 12, 14, 16)
"""Of the values that cameras and scanners store in 16."""

SAID, FILE, USUAL, LIBRARY, PICTURES = (
    "command line", "checkpoint", "architecture", "library", "pictures",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What is known of a network's pictures.

    view: how they are brought to size; None: nothing is known.
    said: whether its file says so; else it is usual for the architecture.
    name: of the architecture, for notes.
    """

    view: ImageView | None
    said: bool = False
    name: str = "the network"


@dataclass(frozen=True)
class SeenAs:
    """A resolved view.

    view: None where pictures are taken as they are stored.
    origin: who said each part, by its name.
    notes: what the user should know.
    function, name: the user's own code, from a PIL image to the network's input, instead.
    """

    view: ImageView | None
    origin: Mapping[str, str]
    notes: tuple[str, ...] = ()
    function: Callable[..., object] | None = None
    name: str = ""

    def line(self) -> str:
        """Return the view in one line, with who said each part."""
        if self.function is not None:
            return f"view: as {self.name} gives it"
        if self.view is None:
            return "view: pictures as they are stored"
        parts = []
        for name, value in as_json(self.view).items():
            if value is not None:
                text = "-".join(f"{v:g}" for v in value) if name == "window" else str(value)
                parts.append(f"{name} {text} ({self.origin[name]})")
        return f"view: {', '.join(parts)}"

    def record(self) -> dict[str, Any] | None:
        """Return what files keep of it."""
        if self.function is not None:
            return {"transform": self.name}
        return None if self.view is None else as_json(self.view) | {"from": dict(self.origin)}

    def of(self, split: ImageSplit, workers: int | None = None) -> ImageSplit:
        """Return a split whose pictures are seen so."""
        images = split.images
        if self.function is not None:
            return replace(split, images=Transformed(images, self.function, self.name))
        if isinstance(images, ImageFiles):
            view, sampled = self.view or images.view, self.origin.get("window") != SAID
            files = replace(images, view=view, sampled=sampled, workers=workers or images.workers)
            return replace(split, images=files)
        return split if self.view is None else replace(split, images=Rescaled(images, self.view))


def resolve(dataset: Dataset, said: ViewSettings, known: Known) -> SeenAs:
    """Settle how a network sees a dataset's pictures.

    Args:
        dataset: whose parameters ``resize`` and ``crop`` are said on the command line, too.
        said: by the user.
        known: of the network.

    Raises:
        SettingError: for a size out of its range, a crop that is larger than the picture is made,
            a window that spans nothing, or parts that do not go together.
    """
    check(said)
    if said.window is not None and not said.window[0] < said.window[1]:
        low, high = said.window
        raise SettingError("window", f"found {low:g},{high:g}, expected the lower value first")
    said = _with_parameters(said, dataset.record)
    split = next((s for s in dataset.splits.values() if len(s)), None)
    if split is None:
        return SeenAs(None, {})
    files, notes = split.images if isinstance(split.images, ImageFiles) else None, []
    side = None if files is not None else split.images[0:1].shape[1]
    base, who = _base(side, known)
    origin = dict.fromkeys(("resize", "crop", "interpolation", "fit", "window"), who)
    view = _said(base, said, origin)
    if files is not None and view.window is None:
        view = replace(view, window=_window(files))
        origin["window"] = PICTURES
    if view.crop > view.resize and view.fit != "pad":
        raise SettingError("crop", f"found {view.crop}, expected at most resize, {view.resize}")
    usual = known.view
    if side is not None:
        if who == PICTURES and usual is not None and usual.crop != side and view.crop == side:
            notes.append(
                f"note: pictures of {side} pixels stay so; {known.name} usually sees {usual.crop}: "
                f"--image-size {usual.crop} scales them"
            )
        if (view.resize, view.crop) == (side, side):
            return SeenAs(None, {}, tuple(notes))
    elif usual is not None and known.said and usual.crop != view.crop:
        notes.append(
            f"note: the checkpoint says {usual.crop} pixels, {view.crop} are taken, as you said"
        )
    return SeenAs(view, origin, tuple(notes))


def transformed(function: str | Callable[..., object], said: ViewSettings) -> SeenAs:
    """Return the view that the user's own function makes.

    Args:
        function: from a PIL image to the network's input, or its name.
        said: what else is said of the view.

    Raises:
        SettingError: when it is none, or something else is said of the view, too.
    """
    others = [name for name, value in as_json(said).items() if value is not None]
    if others:
        raise SettingError("transform", f"found {others[0]}, too, expected one of them")
    name = function if isinstance(function, str) else getattr(function, "__name__", "transform")
    found = own_code.imported(function, "transform") if isinstance(function, str) else function
    if isinstance(found, type):
        found = own_code.called(name, (), "transform")
    if not callable(found):
        raise SettingError(f"transform {name}", "is no function of an image")
    return SeenAs(None, {}, (), found, name)


def _base(side: int | None, known: Known) -> tuple[ImageView, str]:
    """Return the view where the command line says nothing, and whose it is.

    Args:
        side: of pictures that are stored at one size; None for files.
        known: of the network.
    """
    if known.view is not None and (known.said or side is None):
        return known.view, FILE if known.said else USUAL
    if side is not None:
        return ImageView(side, side), PICTURES
    return view_of(None, None), LIBRARY


def _with_parameters(said: ViewSettings, record: Mapping[str, Any]) -> ViewSettings:
    """Return what is said, with the dataset's own parameters.

    Raises:
        SettingError: when the two disagree.
    """
    for name in ("resize", "crop"):
        there, value = record.get(name), getattr(said, name)
        if there is not None and value not in (None, there):
            raise SettingError(name, f"found {value}, and {name}={there} with the dataset")
        said = replace(said, **{name: value if there is None else there})
    return said


def _said(base: ImageView, said: ViewSettings, origin: dict[str, str]) -> ImageView:
    """Return the view with what the user says; note whose each part is."""
    sizes = {"resize": said.resize, "crop": said.crop}
    if said.image_size is not None:
        sizes = {name: size or said.image_size for name, size in sizes.items()}
    elif any(sizes.values()):
        whole = view_of(said.resize, said.crop)
        sizes = {"resize": whole.resize, "crop": whole.crop}
    changes: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    changes |= {
        n: v for n in ("fit", "window", "interpolation") if (v := getattr(said, n)) is not None
    }
    origin |= dict.fromkeys(changes, SAID)
    return replace(base, **changes)


def _window(files: ImageFiles) -> tuple[float, float] | None:
    """Return the values that a sample of pictures spans, where they have more than eight bits.

    Raises:
        SettingError: where the values are fractions, or below 0: only the user knows their span.
    """
    most = -1.0
    for index in np.unique(np.linspace(0, len(files) - 1, SAMPLE).astype(int)).tolist():
        values = _wide_values(files, index)
        if values is None:
            continue
        low, high = float(values.min()), float(values.max())
        if values.dtype.kind == "f" or low < 0 or high >= 1 << BITS[-1]:
            raise SettingError(
                "window",
                f"absent, and {files.paths[index].name} has values from {low:g} to {high:g}; say "
                "LOW,HIGH, the values that become black and white",
            )
        most = max(most, high)
    if most < 0:
        return None
    return 0.0, float(next((1 << bits) - 1 for bits in BITS if most < 1 << bits))


def _wide_values(files: ImageFiles, index: int) -> NDArray[Any] | None:
    """Return the values of a picture with more than eight bits; None for one that is damaged."""
    try:
        with files.opened(index) as image:
            return np.asarray(image) if is_wide(image) else None
    except InputError:  # it is met, and named, when its turn comes
        return None
