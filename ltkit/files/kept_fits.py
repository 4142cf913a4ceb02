"""Fits of a long run, each kept in a file as soon as it is done."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ltkit.errors import InputError
from ltkit.files import classifiers, hdf5
from ltkit.files.scratch import Parts
from ltkit.records import Correction


def kept_or_made(
    parts: Parts, name: str, made: Callable[[], Correction], inputs: Mapping[str, str]
) -> tuple[Path, Correction, bool]:
    """Return a fit's file, the fit, and whether it was there; one that was not is made and kept.

    Args:
        parts: of the run.
        name: of the fit in it.
        made: makes the fit.
        inputs: digests of what it is made from.

    Raises:
        InputError: when the file is of a run with other settings.
    """
    file = parts.path(name)
    if parts.has(file):
        if hdf5.read(file, hdf5.CLASSIFIER).settings != parts.run:
            raise InputError(
                f"{file}: belongs to a sweep with other settings; resume with the settings of the "
                "first run, or start again without resuming"
            )
        return file, classifiers.read(file)[0], True
    correction = made()
    parts.begin()
    classifiers.write(file, correction, settings=parts.run, command="", inputs=inputs)
    return file, correction, False
