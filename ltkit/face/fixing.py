"""A corrected checkpoint in one call: extract, recommend, export, report."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ltkit.errors import InputError
from ltkit.exports import checkpoint as exported
from ltkit.files import classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.files.atomic import check_output
from ltkit.recommendation import Recommendation, Wanted, recommend, summary
from ltkit.records import SPLITS, Correction, FeatureSet
from ltkit.settings import (
    RECOMMENDED_FILE,
    ExtractSettings,
    LoadSettings,
    ViewSettings,
    as_json,
    flag,
)

FEATURES, PAGE = "feats.h5", "report.html"

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Model:
    """A checkpoint and its images, as ``ltkit extract`` takes them.

    data: the dataset; root: where its images are; the others are as in `ltkit.extract`.
    """

    checkpoint: Path
    data: str
    root: Path | None = None
    load: LoadSettings = field(default_factory=LoadSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    settings: ExtractSettings = field(default_factory=ExtractSettings)
    transform: str | None = None
    classes: Path | None = None
    follow_links: bool = False
    columns: Mapping[str, str] | None = None
    device: str = "cpu"

    def command(self, output: Path) -> str:
        """Return the command that extracts its features."""
        said = {k: v for k, v in asdict(self.load).items() if k != "class_names"}
        said |= asdict(self.view)
        usual = ExtractSettings()
        said |= {k: v for k, v in asdict(self.settings).items() if v != getattr(usual, k)}
        columns = tuple(f"{name}={column}" for name, column in (self.columns or {}).items())
        more = {
            "root": self.root, "transform": self.transform, "classes": self.classes,
            "follow_links": self.follow_links, "columns": columns,
        }  # fmt: skip
        return command_of("extract", self.checkpoint, data=self.data, **more, **said, output=output)


@dataclass(frozen=True, eq=False)
class Fixed:
    """What `fix` wrote.

    output: the corrected checkpoint, or its head alone; features, classifier, page: beside it.
    recommendation: why.
    """

    output: Path
    features: Path
    classifier: Path
    page: Path
    recommendation: Recommendation


def fix(
    source: Model | Path | str,
    output: str | Path,
    *,
    wanted: Wanted = Wanted(),  # noqa: B008 - it is frozen
    features_only: bool = False,
    overwrite: bool = False,
    say: Say = lambda line: None,
    report: Report = lambda what, done, total: None,
) -> Fixed:
    """Correct a checkpoint: extract its features, choose a correction, write it back, report.

    Beside the output lie feats.h5, feats.recommended.h5 and report.html. A call that was stopped
    can be made again: finished blocks of features are kept, and so are features of the same model
    and images.

    Args:
        source: a model and its images, or a features file, whose head alone is written.
        output: the corrected checkpoint; of a head alone, npz, safetensors, csv or onnx.
        wanted: what the correction must gain, and must not cost.
        features_only: whether the head alone is written, not a checkpoint.
        overwrite: whether the outputs may be replaced.
        say: called with the command of each step, and with notes.
        report: called with what is done, how much of it, and of how much.

    Raises:
        InputError: as the commands, for an output that exists, or features of something else.
        FormatError: when a file is damaged or unsafe.
    """
    target = Path(output)
    alone = features_only or not isinstance(source, Model)
    form = target.suffix.removeprefix(".")
    if alone and form not in exported.FORMS:
        raise InputError(
            f"{target}: found {form or 'no'} as the ending, expected one of "
            f"{', '.join(exported.FORMS)} for a head alone"
        )
    page = target.with_name(PAGE)
    path = target.with_name(FEATURES) if isinstance(source, Model) else Path(source)
    choice = path.with_name(f"{path.stem}.{RECOMMENDED_FILE}.h5")
    for file in (target, page):
        check_output(file, overwrite=overwrite, inputs=(path, choice))
    if isinstance(source, Model):
        _extract(source, path, overwrite, say, report)
    features = features_file.read(path)
    _check_choice(choice, features, overwrite)
    command = command_of("recommend", path, **_said(wanted), overwrite=choice.exists())
    say(f"$ {command}")
    found = recommend(features, wanted, report=report)
    classifiers.write(
        choice, found.correction, settings=as_json(wanted) | summary(found.document),
        inputs=features.inputs, command=command,
    )  # fmt: skip
    shipped = _export(source, alone, features, found.correction, choice, target, say)
    _page(features, found, (path, choice), page, shipped, say)
    return Fixed(target, path, choice, page, found)


def _extract(source: Model, path: Path, overwrite: bool, say: Say, report: Report) -> None:
    """Extract the features, or keep those that there are of the same model and images."""
    from ltkit.sources import extraction
    from ltkit.sources.preparation import prepare

    command = source.command(path)
    say(f"$ {command}")
    made = prepare(
        source.checkpoint, source.data, source.root, wanted=source.load, view=source.view,
        transform=source.transform, classes=source.classes, no_head=source.settings.no_head,
        follow_links=source.follow_links, columns=source.columns,
    )  # fmt: skip
    for line in (*(f"note: {n}" for n in made.model.notes), *made.notes):
        say(line)
    splits = [name for name in SPLITS if name in made.dataset.splits]
    try:
        extraction.extract(
            made.model, made.dataset, splits, path, source.settings, seen=made.seen,
            device=source.device, command=command, resume=True, report=report, note=say,
        )  # fmt: skip
    except InputError as error:
        if not overwrite or not path.is_file():
            raise
        say(f"note: extracted anew: {error}")
        extraction.extract(
            made.model, made.dataset, splits, path, source.settings, seen=made.seen,
            device=source.device, command=command, report=report, note=say,
        )  # fmt: skip


def _check_choice(choice: Path, features: FeatureSet, overwrite: bool) -> None:
    """Refuse to replace a file that is no earlier recommendation for these features.

    Raises:
        InputError: when it is something else.
    """
    if overwrite or not choice.exists():
        return
    header = hdf5.header(choice) if choice.is_file() else {}
    same = header.get("inputs", {}).get("features") == features.digest
    if not (same and header.get("format") == hdf5.CLASSIFIER.name):
        raise InputError(
            f"{choice}: exists, and is no recommendation for {features.source}; pass --overwrite "
            "to replace it, or move it"
        )


def _export(
    source: Model | Path | str,
    alone: bool,
    features: FeatureSet,
    correction: Correction,
    choice: Path,
    target: Path,
    say: Say,
) -> str:
    """Write the corrected head into its checkpoint, or alone; return the command that does."""
    if alone or not isinstance(source, Model):
        form = target.suffix.removeprefix(".")
        command = command_of("export", choice, to=form, output=target)
        say(f"$ {command}")
        exported.export_head(features.corrected(correction), form, target)
        return command
    load = source.load
    said = {"model": load.model, "model_args": load.model_args, "trust_code": load.trust_code,
            "base_model": load.base_model}  # fmt: skip
    command = command_of("export", choice, into=source.checkpoint, **said, output=target)
    say(f"$ {command}")
    again = LoadSettings.from_json(
        features.settings.get("load", {}), trust_code=load.trust_code, model=load.model,
        model_args=load.model_args, base_model=load.base_model,
    )  # fmt: skip
    exported.export_into(
        source.checkpoint, correction, 0, target,
        made_from=features_file.checkpoint_of(features), wanted=again,
    )  # fmt: skip
    return command


def _page(
    features: FeatureSet,
    found: Recommendation,
    read: tuple[Path, Path],
    page: Path,
    shipped: str,
    say: Say,
) -> None:
    """Write the report, on test where there is one."""
    from ltkit.evaluation import Entry
    from ltkit.reporting import advice, making

    path, choice = read
    split = next(name for name in ("test", "val", "train") if name in features.splits)
    command = command_of("report", path, classifier=choice, split=split, output=page)
    say(f"$ {command}")
    entries = [Entry(found.correction.method, str(choice), found.correction)]
    told = advice.of_document(found.document, 0, shipped)
    making.make(
        features, split, entries, read=read, command=command, advice=told
    ).write(page)  # fmt: skip


def _said(wanted: Wanted) -> dict[str, Any]:
    """Return what of a wish differs from the usual one, as the command takes it."""
    usual = asdict(Wanted())
    said = {k: v for k, v in asdict(wanted).items() if v != usual[k]}
    said |= {name: tuple(said[name]) for name in ("methods", "bins") if name in said}
    if "keep" in said:
        said["keep"] = [f"{k}={v:g}" for k, v in (wanted.keep or {}).items()] or "none"
    return said


def command_of(name: str, *inputs: Path, **options: Any) -> str:
    """Return a command as it is typed.

    Args:
        name: of the command.
        inputs: its arguments.
        options: by parameter name; None, False and nothing are left out; a list is said item by
            item, a tuple of numbers with commas.

    Example:
        >>> command_of("extract", Path("m.pt"), mean=(0.5, 0.4), output=Path("f.h5"), linear=True)
        'ltkit extract m.pt --mean 0.5,0.4 --linear -o f.h5'
    """
    words = ["ltkit", name, *map(str, inputs)]
    last: list[str] = []
    for option, value in options.items():
        if value is None or value is False or value == () or value == []:
            continue
        called = "--model-arg" if option == "model_args" else flag(option)
        if value is True:
            words.append(called)
        elif option == "output":
            last = ["-o", str(value)]
        elif isinstance(value, list) or option == "model_args":
            words += [word for item in value for word in (called, str(item))]
        else:
            texts = value if isinstance(value, tuple) else (value,)
            words += [called, ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in texts)]
    return shlex.join([*words, *last])
