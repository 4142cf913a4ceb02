"""Classifier files: the rows that a method changed, in one or more runs.

What such a file may hold is said once, in `problem`: nothing else is read, and nothing else is
written, so that a file which one command takes no other command stumbles over.
"""

from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.files import hdf5, strict_json
from ltkit.files.contents import Contents, encode
from ltkit.records import LEARNED, Correction, FeatureSet
from ltkit.settings import Activation, Metric, NetworkInput

MOST_RUNS, MOST_SETTINGS = 10_000, 100
"""Most runs of a file, and most settings of a run."""

LONGEST_NAME, LONGEST_TEXT = 200, 1 << 20
"""Most characters of a method's or a setting's name, and of a setting's text."""

SHOWN = 60
"""Most characters of a value in a message."""

Problem = tuple[str, object, str]
"""Where the problem is, what was found there, and what was expected."""


def write(
    path: Path,
    correction: Correction,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    command: str,
) -> str:
    """Write a classifier file; return its digest.

    Raises:
        InputError: for what `read` would refuse, such as rows that are not finite.
    """
    try:
        runs = [strict_json.dumps(dict(run)) for run in correction.runs]
        kept: dict[str, Any] = strict_json.loads(strict_json.dumps(dict(settings)))
        found = problem(_with_runs(correction, [strict_json.loads(text) for text in runs]))
    except ValueError as error:
        found = ("settings", error, "finite numbers")
    if found is not None:
        where, value, expected = found
        raise InputError(
            f"{path}: {where}: found {value}, expected {expected}; nothing was written; choose "
            "less extreme settings"
        )
    datasets: dict[str, NDArray[Any]] = {
        "class_id": correction.class_id,
        "weight": correction.weight.astype(np.float32),
        "bias": correction.bias.astype(np.float32),
        "runs": encode(tuple(runs)),
    }
    for name, values in correction.extra.items():
        datasets[f"extra/{name}"] = values
    root = {"method": correction.method, "normalize_features": int(correction.normalize_features)}
    return hdf5.write(
        path, hdf5.CLASSIFIER, datasets, {"/": root},
        settings=kept, inputs=inputs, command=command,
    )  # fmt: skip


def read(path: Path) -> tuple[Correction, dict[str, str]]:
    """Read a classifier file; return it and the digests of the files it was made from.

    Raises:
        FormatError: when it is not a sound classifier file.
        InputError: when there is no such file.
    """
    contents = hdf5.read(path, hdf5.CLASSIFIER)
    runs = _runs(contents)
    class_id = contents.class_ids("class_id")
    weight = contents.floats("weight", len(runs), len(class_id), None)
    bias = contents.floats("bias", len(runs), len(class_id))
    extra = {}
    for name, rows in contents.datasets.items():
        if name.startswith("extra/"):
            stored = contents.stored(name, "fiuS", len(runs), *rows.shape[1:])
            extra[name.removeprefix("extra/")] = stored[:]
    root = contents.attributes["/"]
    if root["normalize_features"] not in (0, 1):
        raise contents.wrong("normalize_features", root["normalize_features"], "0 or 1")
    for role, digest in contents.inputs.items():
        if not isinstance(digest, str):
            raise contents.wrong(f"inputs: {role[:LONGEST_NAME]}", _told(digest), "a digest")
    correction = Correction(
        root["method"], class_id, weight, bias, runs, bool(root["normalize_features"]), extra
    )
    found = problem(correction)
    if found is not None:
        raise contents.wrong(*found)
    return correction, contents.inputs


def settings_of(path: Path) -> dict[str, Any]:
    """Return what a classifier file says it was made with.

    Raises:
        FormatError: when it is not a sound file of that kind.
        InputError: when there is no such file.
    """
    return hdf5.read(path, hdf5.CLASSIFIER).settings


def read_for(path: Path, features: FeatureSet, *, whole: bool = False) -> Correction:
    """Read a classifier file that belongs to features.

    Args:
        path: the file.
        features: their head, or the base in its place, is what it corrects.
        whole: whether it does not matter what it corrects, if anything.

    Raises:
        FormatError: when it is not a sound classifier file, or does not fit the features that it
            says it was made from.
        InputError: when there is no such file, it was made from other features, or its rows correct
            another classifier.
    """
    correction, inputs = read(path)
    made_from = inputs.get("features", "none")
    if made_from != features.digest:
        raise InputError(
            f"{path}: fitted on features {made_from[:12]}, found {features.digest[:12]} in "
            f"{features.source}; fit it again on these, or name the features it was made from"
        )
    misfit = correction.misfit(len(features.classes), features.feature_size)
    if misfit is not None:
        raise FormatError(f"{path}: {misfit}; make the file again")
    if not (whole or correction.is_whole(len(features.classes))):
        _check_base(path, features, inputs.get("base", ""))
    return correction


def _check_base(path: Path, features: FeatureSet, corrects: str) -> None:
    """Refuse rows that correct another classifier than the features have."""
    own = features.inputs.get("base", "")
    if own != corrects:
        raise InputError(
            f"{path}: corrects {_classifier(corrects)}, found {_classifier(own)} of "
            f"{features.source}; {'name its file as base' if corrects else 'leave base out'}"
        )


def _classifier(digest: str) -> str:
    return f"the classifier {digest[:12]}" if digest else "the own head"


def _runs(contents: Contents) -> tuple[dict[str, Any], ...]:
    """Return the settings of each run, as JSON objects."""
    runs = []
    for row, text in enumerate(contents.strings("runs", None).tolist()):
        try:
            found = strict_json.loads(text)
        except ValueError as error:
            raise contents.wrong(
                "runs", f"{_told(text)} in row {row} ({_told(error)})", "JSON objects"
            ) from error
        if not isinstance(found, dict):
            raise contents.wrong("runs", f"{_told(text)} in row {row}", "JSON objects")
        runs.append(found)
    return tuple(runs)


def _with_runs(correction: Correction, runs: list[dict[str, Any]]) -> Correction:
    """Return a correction whose runs are as they come back from a file."""
    return Correction(
        correction.method, correction.class_id, correction.weight, correction.bias, tuple(runs),
        correction.normalize_features, correction.extra,
    )  # fmt: skip


def problem(correction: Correction) -> Problem | None:
    """Return the first problem of a classifier file; None for a sound one.

    Example:
        >>> rows = np.full((1, 1, 2), np.nan, np.float32)
        >>> problem(Correction("m", np.array([0]), rows, np.zeros((1, 1)), ({"seed": 0},)))
        ('weight', 'NaN or infinity in run 0', 'finite numbers')
    """
    return next(_problems(correction), None)


def _problems(correction: Correction) -> Iterator[Problem]:
    method, runs = correction.method, correction.runs
    if not isinstance(method, str) or not 0 < len(method) <= LONGEST_NAME or _halved(method):
        yield "method", _told(method), f"a name of at most {LONGEST_NAME} characters"
    if not 0 < len(runs) <= MOST_RUNS:
        yield "runs", f"{len(runs)} runs", f"1 to {MOST_RUNS}"
    if correction.weight.shape[2] < 1:
        yield "weight", correction.weight.shape, "rows of at least one number"
    for name in ("weight", "bias"):
        with np.errstate(over="ignore"):
            values = getattr(correction, name).astype(np.float32, copy=False)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            yield name, f"NaN or infinity in run {int(finite.argmin())}", "finite numbers"
    for row, run in enumerate(runs):
        for where, found, expected in _run_problems(run, runs[0]):
            yield f"runs: {where}", f"{_told(found)} in row {row}", expected
    yield from _extra_problems(correction)


def _halved(text: str) -> bool:
    """Return whether a text contains stray bytes or half characters."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _finite(values: NDArray[Any]) -> bool:
    """Return whether values are finite in float32."""
    if values.dtype.kind != "f":
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32, copy=False)).all())


def _number(value: object, least: float = -inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and _number(value, least)


def _plain(value: object) -> bool:
    """Return whether a value can be shown on one line: a number, a word, or a list of these."""
    if isinstance(value, list):
        return all(not isinstance(part, list) and _plain(part) for part in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float)


KNOWN: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "rho": ("a number from 0", lambda value: _number(value, 0)),
    "tau": ("a number", _number),
    "k": ("a whole number from 1", lambda value: _whole(value, 1)),
    "seed": ("a whole number from 0", lambda value: _whole(value, 0)),
    "metric": ("text", lambda value: isinstance(value, str)),
}
"""Settings that commands rely on, whatever the method, each with its kind and a check."""

OF_NETWORKS = {
    "metric": get_args(Metric), "activation": get_args(Activation),
    "network_input": get_args(NetworkInput),
}  # fmt: skip
"""Settings that must be one of these words for AlphaNet's networks."""


def _run_problems(run: Mapping[str, Any], first: Mapping[str, Any]) -> Iterator[Problem]:
    if len(run) > MOST_SETTINGS:
        yield "settings", len(run), f"at most {MOST_SETTINGS}"
    if run.keys() != first.keys():
        yield "settings", ", ".join(run) or "none", "those of the first run"
    for name, value in run.items():
        if not 0 < len(name) <= LONGEST_NAME:
            yield "settings", name, f"names of at most {LONGEST_NAME} characters"
        expected, right = KNOWN.get(name, ("a number, a word or a list of them", _plain))
        if not right(value):
            yield name, value, expected


def _extra_problems(correction: Correction) -> Iterator[Problem]:
    """Check the extra arrays that AlphaNet keeps; those of other methods are unknown."""
    if correction.composed:
        found = next(_composed_problems(correction), None)
        if found is not None:
            yield found
            return
    extra, at = correction.learned, f"extra/{LEARNED * correction.composed}"
    shape = (len(correction.runs), len(correction.learned_class))
    for name in ("alpha", "neighbor"):
        values = extra.get(name)
        if values is None:
            continue
        if values.ndim != 3 or values.shape[:2] != shape or values.shape[2] < 1:
            yield f"{at}{name}", values.shape, f"{shape} and the neighbours"
        if name == "alpha" and not _finite(values):
            yield f"{at}alpha", "NaN, infinity or no floats", "finite floats"
        if name == "neighbor" and (values.dtype.kind not in "iu" or values.min(initial=0) < 0):
            yield f"{at}neighbor", "numbers below 0 or no integers", "class ids"
    if {"alpha", "neighbor"} <= extra.keys() and extra["alpha"].shape != extra["neighbor"].shape:
        yield f"{at}neighbor", extra["neighbor"].shape, f"{extra['alpha'].shape}, as alpha"
    if any(name.partition(".")[0].partition("/")[0] == "network" for name in extra):
        yield from _network_problems(correction)


def _composed_problems(correction: Correction) -> Iterator[Problem]:
    """Check what a composition of AlphaNet with a head keeps, but for the learned arrays."""
    ids, learned = correction.learned["class_id"], correction.learned
    for name in ("alpha", "neighbor"):
        if name not in learned:
            yield f"extra/{LEARNED}{name}", "nothing", "what was learned of the composed classes"
    known = ids.ndim == 2 and ids.dtype.kind in "iu" and ids.shape[1] > 0
    if not known or not np.isin(ids, correction.class_id).all():
        yield f"extra/{LEARNED}class_id", ids.shape, "ids of corrected classes, for each run"
    elif (ids != ids[0]).any() or (np.diff(ids[0].astype(np.int64)) <= 0).any():
        yield f"extra/{LEARNED}class_id", "other ids or no order", "the same in all runs, ascending"
    for row, run in enumerate(correction.runs):
        for name in ("scale", "prior_offset"):
            if not _number(run.get(name)):
                yield f"runs: {name}", f"{_told(run.get(name))} in row {row}", "a number"
        onto = run.get("onto")
        if not isinstance(onto, str | None) or onto != correction.runs[0].get("onto"):
            yield "runs: onto", f"{_told(onto)} in row {row}", "a digest, that of the first run"


def _network_problems(correction: Correction) -> Iterator[Problem]:
    """Check a fit's networks, and the settings needed to apply them."""
    extra, first = correction.learned, correction.runs[0]
    at = f"extra/{LEARNED * correction.composed}"
    names = [f"network.{i}" for i in range(sum(n.startswith("network") for n in extra))]
    if len(names) % 2 or not extra.keys() >= {*names}:
        yield f"{at}network", len(names), "weights and biases of each layer, numbered from 0"
        return
    if "alpha" not in extra:
        yield f"{at}alpha", "nothing", "coefficients beside the networks that gave them"
        return
    near = extra["alpha"].shape[2]
    for row, run in enumerate(correction.runs):
        for name in ("k", "seed", *OF_NETWORKS):
            found, words = run.get(name), OF_NETWORKS.get(name)
            if (found is None) if words is None else (found not in words):
                expected = "a whole number" if words is None else " or ".join(words)
                yield f"runs: {name}", f"{_told(found)} in row {row}", expected
            if name != "seed" and found != first.get(name):
                yield f"runs: {name}", f"{_told(found)} in row {row}", "that of the first run"
    if first.get("k") != near:
        yield "runs: k", first.get("k"), f"{near}, the neighbours of {at}alpha"
    rows = near + (first.get("network_input") == "own+neighbors")
    size = rows * correction.weight.shape[2]
    for layer in range(0, len(names), 2):
        weight, bias = extra[names[layer]], extra[names[layer + 1]]
        for name, values in zip(names[layer : layer + 2], (weight, bias), strict=True):
            if not _finite(values):
                yield f"{at}{name}", "NaN, infinity or no floats", "finite floats"
        last = layer == len(names) - 2
        outputs = near if last else weight.shape[1] if weight.ndim > 1 else 0
        if outputs < 1 or weight.shape[1:] != (outputs, size) or bias.shape[1:] != (outputs,):
            found = f"{weight.shape} and {bias.shape}"
            expected = f"weights of {size} inputs{f' and {near} outputs' * last}, and their biases"
            yield f"{at}{names[layer]}", found, expected
            return
        size = outputs


def _told(value: object) -> str:
    """Return a value as text for a message, shortened if it is long."""
    text = str(value)
    cut = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return repr(cut) if isinstance(value, str) else cut
