"""The files a command works on when none, or only one, is named."""

import os
from pathlib import Path

from ltkit.cli import _streams
from ltkit.cli._output import say
from ltkit.errors import InputError
from ltkit.numerals import shown
from ltkit.settings import RECOMMENDED_FILE

VARIABLE = "LTKIT_FEATURES"
DEFAULT = "feats.h5"


def features_path(given: str | None, quiet: bool) -> Path:
    """Return the features file to read; report it when it was not named.

    Order: the argument (``-``: a path read from stdin), $LTKIT_FEATURES, ``feats.h5`` here, the
    only features file here. A classifier file stands for the features file beside it that it was
    made from, so that ``ltkit alphanet fit ... | ltkit evaluate -`` works.

    Raises:
        InputError: when there is none, or more than one.
    """
    if given == "-":
        given = _piped()
    if given is None:
        chosen = _default()
        say(f"using {chosen}", quiet)
        return chosen
    return _features_of(Path(given), quiet)


def _piped() -> str:
    """Return the path printed by `ltkit.cli._output.wrote`: stdin without its line end.

    Raises:
        InputError: when there is none.
    """
    read = _streams.read_stdin()
    path = os.fsdecode(read.removesuffix(b"\n"))
    if not path:
        raise InputError("-: stdin was empty, expected the path of a features file")
    if len(read) == _streams.MOST_TEXT or "\0" in path:
        raise InputError(
            f"-: found {shown(path)} on stdin, expected the path of a features file, as ltkit "
            "extract prints it"
        )
    lines = path.count("\n") + 1
    if lines > 1 and not Path(path).exists():  # a name may have line breaks
        raise InputError(f"-: found {lines} lines on stdin, expected the path of one features file")
    return path


def _features_of(path: Path, quiet: bool) -> Path:
    from ltkit.files import hdf5

    header = hdf5.header(path) if path.is_file() else {}
    if header.get("format") in (None, hdf5.FEATURES.name):
        return path
    beside = made_from(path)
    if beside is not None:
        say(f"using {beside}, which {path} was made from", quiet)
        return beside
    digest = str(header["inputs"].get("features"))[:12]
    raise InputError(
        f"{path}: made from the features {digest}, found no such file beside it; name the features "
        "file"
    )


def made_from(path: Path) -> Path | None:
    """Return the features file beside a file that was made from it; None without one."""
    from ltkit.files import hdf5

    wanted = hdf5.header(path)["inputs"].get("features")
    files = sorted(path.parent.glob("*.h5"))
    return next((file for file in files if hdf5.header(file).get("digest") == wanted), None)


def _default() -> Path:
    if os.environ.get(VARIABLE):
        named = Path(os.environ[VARIABLE])
        if not named.is_file():
            found = "is not a file" if named.exists() else "not found"
            raise InputError(f"{named}: {found}; {VARIABLE} names it, set it again or unset it")
        return named
    if Path(DEFAULT).is_file():
        return Path(DEFAULT)
    from ltkit.files import hdf5

    candidates = [
        path
        for path in sorted(Path().glob("*.h5"))
        if hdf5.header(path).get("format") == hdf5.FEATURES.name
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = ", ".join(map(str, candidates[:8]))
        raise InputError(f"FEATS: found {len(candidates)} features files here; name one: {listed}")
    raise InputError(
        f"FEATS: found no features file here, expected one to be named, ${VARIABLE} or {DEFAULT}; "
        "make one with ltkit extract or ltkit import"
    )


def recommended(quiet: bool) -> Path:
    """Return the recommendation for the features that are used when none are named.

    Raises:
        InputError: when there is none.
    """
    path = output_path(None, features_path(None, quiet), RECOMMENDED_FILE)
    if not path.is_file():
        raise InputError(
            f"CLASSIFIER: absent, and found no {path}; name a classifier file, or make it with "
            "ltkit recommend"
        )
    say(f"using {path}", quiet)
    return path


def output_path(given: Path | None, features: Path, method: str) -> Path:
    """Return a method's default output: ``<stem>.<method>.h5`` next to the features."""
    return given if given is not None else features.with_name(f"{features.stem}.{method}.h5")
