"""Corrections to evaluate, and the names of their settings."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.errors import SettingError
from ltkit.evaluation.choice import run_accuracies
from ltkit.records import Correction, FeatureSet
from ltkit.settings import Heads

TOLD = 8
"""Most values of a setting listed in a message."""

NAMING, LONGEST_WORD = 2, 20
"""Most settings in the name of a correction, and most characters of one's value there."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A correction to evaluate, with the name and file it is shown under.

    network: features of another model on the same samples, whose head it corrects
        (`ltkit.evaluation.networks`); None: the features that are evaluated.
    """

    name: str
    file: str
    correction: Correction
    network: FeatureSet | None = None


def entries_of(
    read: Sequence[tuple[Path, Correction]], taken: Sequence[str] = (), stem: str = ""
) -> list[Entry]:
    """Name corrections by their methods.

    Those of one method, or of a name that is taken, also by the settings that they differ in, by
    what their files' names say beyond the features', or by their files.

    Args:
        read: files, and the correction in each.
        taken: names of other rows.
        stem: of the features file's name.
    """
    names = [correction.method for _, correction in read]
    further = (
        [
            _by_settings(c, [other for _, other in read if other.method == c.method])
            for _, c in read
        ],
        [_by_file(c.method, file.stem.removeprefix(f"{stem}.")) for file, c in read],
        [file.stem for file, _ in read],
        [str(file) for file, _ in read],
    )
    for others in further:
        known = Counter([*taken, *names])
        names = [
            other if known[name] > 1 else name for name, other in zip(names, others, strict=True)
        ]
    return [Entry(name, str(file), c) for name, (file, c) in zip(names, read, strict=True)]


def _by_settings(correction: Correction, alike: Sequence[Correction]) -> str:
    """Return a method's name with the settings that others differ in; alone, if one has several."""
    every = [[settings for settings, _ in settings_of(other)] for other in alike]
    if any(len(settings) > 1 for settings in every):
        return correction.method
    ((own, _),) = settings_of(correction)
    differing = {
        knob: value
        for knob, value in own.items()
        if any(knob not in other or other[knob] != value for (other,) in every)
    }
    words = [f"{knob} {_text(value)}" for knob, value in differing.items()]
    return " ".join([correction.method, *words[:NAMING]])


def _by_file(method: str, said: str) -> str:
    """Return a method's name with what its file's name says beyond it."""
    return said if method in said else f"{method} {said}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:LONGEST_WORD]


def settings_of(correction: Correction) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield (settings without the seed, runs that have them), smallest settings first."""
    found: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for number, run in enumerate(correction.runs):
        settings = {k: v for k, v in sorted(run.items()) if k != "seed"}
        found.setdefault(repr(settings), (settings, []))[1].append(number)
    yield from sorted(found.values(), key=lambda item: [float(v) for _, v in shown(item[0])])


def mean_heads(correction: Correction) -> Correction:
    """Return each setting's mean over its seeds: one run, the mean of the heads.

    Logits are linear in the rows, so that its logits are the mean of the runs' logits.

    Example:
        >>> rows = np.float32([[[1]], [[3]]])
        >>> runs = ({"seed": 0}, {"seed": 1})
        >>> mean = mean_heads(Correction("m", np.array([0]), rows, rows[:, :, 0], runs))
        >>> mean.weight.tolist(), mean.runs
        ([[[2.0]]], ({'seeds': 2},))
    """
    every = list(settings_of(correction))
    weight, bias = (
        np.stack([values[runs].astype(np.float64).mean(axis=0) for _, runs in every])
        for values in (correction.weight, correction.bias)
    )
    settings = tuple({**settings, "seeds": len(runs)} for settings, runs in every)
    return Correction(
        correction.method, correction.class_id, weight.astype(np.float32),
        bias.astype(np.float32), settings, correction.normalize_features,
    )  # fmt: skip


def shown(settings: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the settings that distinguish rows of one method: its knobs."""
    return [(k, settings[k]) for k in ("k", "rho", "tau") if k in settings]


def knobs(settings: Mapping[str, Any], every: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return, as text, the settings that distinguish rows of one method, and those in `every`.

    Example:
        >>> knobs({"penalty": 0.1, "share": 0.5, "tau": 1.0}, [{"penalty": 10.0, "share": 0.5}])
        {'penalty': '0.1', 'tau': '1'}
    """
    usual, others = dict(shown(settings)), list(every)
    return {
        knob: f"{value:g}" if isinstance(value, int | float) else str(value)
        for knob, value in settings.items()
        if knob in usual or any(other.get(knob) != value for other in others)
    }


def label(name: str, settings: Mapping[str, Any], every: Iterable[Mapping[str, Any]]) -> str:
    """Return a name for a setting: its method and those of its `knobs` that are not in it.

    Example:
        >>> label("ridge", {"penalty": 0.1}, [{"penalty": 10.0}])
        'ridge penalty 0.1'
    """
    words = [f"{knob} {value}" for knob, value in knobs(settings, every).items()]
    return " ".join([name, *(word for word in words if f" {word} " not in f"{name} ")])


def siblings(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the settings of a document's rows that come from the same file as a row."""
    of = row["name"], row.get("file")
    return [other["settings"] for other in rows if (other["name"], other.get("file")) == of]


def pick(correction: Correction, wanted: Mapping[str, float]) -> int:
    """Return the run with the wanted settings.

    Args:
        correction: with one or more runs.
        wanted: for example ``{"rho": 1.0, "seed": 3}``; empty where there is one run.

    Raises:
        SettingError: when no run or more than one has them; it lists what distinguishes them.
    """
    fitting = _fitting(correction, wanted)
    if len(fitting) == 1:
        return fitting[0]
    first = correction.runs[0]
    knobs = sorted(k for k in first if len({repr(run.get(k)) for run in correction.runs}) > 1)
    ranges = "; ".join(f"{k}: {_range([run[k] for run in correction.runs])}" for k in knobs)
    raise SettingError(
        "run",
        f"found {len(fitting)} of {len(correction.runs)} runs, expected one; choose with "
        f"NAME=VALUE ({ranges or 'there is one run; leave it out'})",
    )


def one_run(
    correction: Correction, wanted: Mapping[str, float], how: Heads | None, features: FeatureSet
) -> Correction:
    """Return one run of those with the wanted settings.

    Args:
        correction: with one or more runs.
        wanted: as for `pick`.
        how: ``best``, of the balanced accuracy on the validation split; ``mean``, the mean of the
            heads of runs that differ in the seed only; None: there must be one.
        features: whose head is corrected.

    Raises:
        SettingError: as `pick`; for ``best`` without a validation split.
    """
    if how is None:
        return correction.only([pick(correction, wanted)])
    fitting = _fitting(correction, wanted)
    if not fitting:
        pick(correction, wanted)
    some = correction.only(fitting)
    if how == "mean":
        means = mean_heads(some)
        return means.only([pick(means, wanted)])
    val = features.splits.get("val")
    if val is None:
        raise SettingError("run", "best: found no validation split to choose on; name the run")
    every = run_accuracies(val, features.classifier(), some, features.groups())
    return some.only([int(np.argmax([found["balanced"] or 0.0 for found in every]))])


def of_seeds(entries: Sequence[Entry], how: Heads, features: FeatureSet) -> list[Entry]:
    """Return corrections with one head in the place of several seeds; others as they are.

    Args:
        entries: corrections.
        how: as for `one_run`; the mean is of each setting's seeds. The entry's name says it.
        features: whose head is corrected.

    Raises:
        SettingError: for ``best`` without a validation split.
    """
    found = []
    for entry in entries:
        one = entry.correction
        if any(len(runs) > 1 for _, runs in settings_of(one)):
            of = entry.network or features
            one = mean_heads(one) if how == "mean" else one_run(one, {}, how, of)
            entry = replace(entry, name=f"{entry.name} {how}", correction=one)
        found.append(entry)
    return found


def _fitting(correction: Correction, wanted: Mapping[str, float]) -> list[int]:
    """Return the runs that have the wanted settings."""
    return [
        number
        for number, run in enumerate(correction.runs)
        if all(run.get(name) == value for name, value in wanted.items())
    ]


def _range(values: Sequence[Any]) -> str:
    """Return the values that runs have, or the first few of many."""
    every = {f"{v:g}" if isinstance(v, int | float) else str(v)[:20]: None for v in values}
    texts = sorted(every)
    return ", ".join(texts[:TOLD]) + ", ..." * (len(texts) > TOLD)
