"""The settings that a command line gives for a checkpoint and for what its network sees."""

from pathlib import Path

from ltkit import numerals
from ltkit.errors import InputError
from ltkit.numerals import Range
from ltkit.settings import Fit, Interpolation, LoadSettings, ViewSettings, Weights

POSITIVE = Range(0, above=True)


def load_settings(
    arch: str | None,
    head: str | None,
    weights: Weights | None,
    scale: float | None,
    linear: bool,
    mean: str | None,
    std: str | None,
    trust_code: bool,
    base_model: Path | None = None,
    model: str | None = None,
    model_args: list[str] | None = None,
) -> LoadSettings:
    """Return the user's settings for loading a checkpoint.

    Raises:
        InputError: for an invalid mean or standard deviation.
    """
    triples = {}
    for option, text, within in (("mean", mean, numerals.ANY), ("std", std, POSITIVE)):
        if text is not None:
            found = numerals.numbers(text, f"--{option}", within, once=False)
            triples[option] = tuple(found)
    return LoadSettings(
        arch, head, weights, scale, linear, triples.get("mean"), triples.get("std"), trust_code,
        model=model, model_args=tuple(model_args or ()),
        base_model=None if base_model is None else str(base_model),
    )  # fmt: skip


def view_settings(
    image_size: int | None,
    resize: int | None,
    crop: int | None,
    fit: Fit | None,
    window: str | None,
    interpolation: Interpolation | None,
) -> ViewSettings:
    """Return what the user says of how pictures are brought to size.

    Raises:
        InputError: for a window that is not two numbers.
    """
    ends = None
    if window is not None:
        found = numerals.numbers(window, "--window", numerals.ANY, once=False, example="0,4095")
        if len(found) != 2:
            raise InputError(f"--window: found {len(found)} numbers, expected LOW,HIGH, as 0,4095")
        ends = found[0], found[1]
    return ViewSettings(image_size, resize, crop, fit, ends, interpolation)
