"""What ``ltkit posthoc adapt`` does once its features are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output
from ltkit.errors import InputError, SettingError
from ltkit.settings import AdaptSettings, Counts

if TYPE_CHECKING:
    from ltkit.records import Correction, FeatureSet

METHOD = "adapt"

To = Annotated[
    str | None,
    typer.Option(
        metavar="FEATS[:SPLIT]",
        help="Of adapt: features from the field, of the same model, whose labels are not looked "
        "at; default split: test, or the only one.",
        show_default=False,
    ),
]
Anyway = Annotated[
    bool,
    typer.Option(
        "--anyway", help="Of adapt: adapt where more than the classes' frequencies has changed."
    ),
]


def check(
    method: str, to: str | None, *, seeds: int, sweep: bool, counts: Counts, shared: bool
) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: for features to adapt to of another method, or adapt without any.
        SettingError: for an option of other methods.
    """
    if method != METHOD:
        raise InputError(f"--to and --anyway: are of {METHOD}, found {method}; leave them out")
    if to is None:
        raise SettingError("to", f"absent; {METHOD} needs features from the field, as prod.h5:test")
    more = {"seeds": seeds > 1, "sweep": sweep, "counts": counts != "file", "shard": shared}
    for name, said in more.items():
        if said:
            raise SettingError(name, f"{METHOD} has none; leave it out")


def named(to: str) -> tuple[Path, str | None]:
    """Return the file of ``--to`` and its split, None where none is named.

    What follows a colon is a split if it is the name of one, or if there is no file but before it.
    """
    from ltkit.records import SPLITS

    name, _, split = to.rpartition(":")
    meant = split in SPLITS or (not Path(to).exists() and Path(name).is_file())
    return (Path(name), split) if name and meant else (Path(to), None)


def described() -> str:
    """Return the line of ``--list``."""
    from dataclasses import asdict

    parameters = ", ".join(f"{k}={v}" for k, v in asdict(AdaptSettings()).items())
    return (
        f"{METHOD:<22}The prior of samples without labels, named with --to. [{parameters}] "
        "Saerens et al., Neural Computation 14, 2002; Alexandari et al., ICML 2020."
    )


def settings(set_: list[str] | None) -> AdaptSettings:
    """Return the settings that ``--set`` gives."""
    from ltkit.registry import parameters_of

    return AdaptSettings(**parameters_of(AdaptSettings, _options.parameters(set_), METHOD))


def adapt(
    features: "FeatureSet", other: Path, split: str | None, wanted: AdaptSettings,
    start: "tuple[Correction, int] | None", bins: Sequence[int] | None, target: Path,
    said: Mapping[str, Any], inputs: Mapping[str, str], *, anyway: bool, every: bool, quiet: bool,
) -> None:  # fmt: skip
    """Adapt a classifier to other features, write it, and say what was found.

    Args:
        features: with the classifier.
        other: the features file to adapt to.
        split: of it.
        wanted: estimator, draws, level.
        start: what to adapt in the place of the head, and which of its runs.
        bins: of the shot groups.
        target: the classifier file to write.
        said: what is recorded of the start.
        inputs: digests of what was read.
        anyway: whether to adapt to another shift, too.
        every: whether each class has a line.
        quiet: whether nothing is said.
    """
    from ltkit import adaptation
    from ltkit.files import classifiers
    from ltkit.files import features as features_file

    field = features_file.read(other)
    found = adaptation.adapt(
        features, field, split, start=start, bins=bins, settings=wanted, anyway=anyway,
        report=_output.Progress("parts", quiet, after=2),
    )  # fmt: skip
    for line in found.document["notes"]:
        _output.say(f"note: {line}", quiet)
    classifiers.write(
        target, found.correction, settings={**said, **adaptation.summary(found.document)},
        inputs={**inputs, "target": field.digest}, command=_output.command_line(),
    )  # fmt: skip
    for line in str(found).splitlines():
        _output.answer(line)
    for row in found.document["classes"] if every else ():
        low, high = (f"{100 * end:.2f}" for end in row["interval"])
        share = f"{100 * row['share']:6.2f} [{low}, {high}]"
        _output.answer(f"  {share:<24} {row['name']} ({row['train_count']})")
    _output.wrote(target, quiet)
