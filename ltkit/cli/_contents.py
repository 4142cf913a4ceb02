"""What ``ltkit inspect`` shows people of its document; everything is in the document."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DIGITS = 12
"""Characters shown of a digest."""

NAMED = 10
"""Most class names that are shown."""

Lines = Iterator[tuple[str, str]]


def lines_of(document: Mapping[str, Any], features: str = "") -> Lines:
    """Yield a heading and a text for each thing worth knowing of a file.

    Args:
        document: of ``inspect --json``.
        features: the file that a file of corrections or neighbours was made from, where it is near.
    """
    kind = document["format"]
    yield "file", document["file"]
    if kind.startswith("checkpoint"):
        yield from _of_checkpoint(document)
        return
    yield "format", f"{kind}, written by {document['written_by']}"
    if document["command"]:
        yield "made by", document["command"]
    if "shot_groups" in document:
        yield from _of_features(document)
    else:
        if "method" in document:
            yield from _of_classifier(document)
        digest = str(document["inputs"].get("features", ""))[:DIGITS]
        yield "features", f"{digest}, {features}" if features else f"{digest}, not in this folder"
        if "onto" in document["inputs"]:
            yield "onto", str(document["inputs"]["onto"])[:DIGITS]
        yield "settings", _listed(document["settings"])
    yield "digest", document["digest"][:DIGITS]


def _of_features(document: Mapping[str, Any]) -> Lines:
    settings, inputs = document["settings"], document["inputs"]
    if "checkpoint" in inputs:
        parts = [inputs["checkpoint"][:DIGITS], settings.get("family"), settings.get("arch")]
        yield "checkpoint", ", ".join(str(part) for part in parts if part)
    if spec := (settings.get("dataset") or {}).get("spec"):
        yield "dataset", spec
    if settings.get("view"):
        yield "view", _listed(settings["view"])
    yield "splits", ", ".join(f"{name} {count}" for name, count in document["samples"].items())
    yield "features", f"{document['feature_size']} a sample, {document['dtype']}"
    least, most = document["train_count"]
    yield "classes", f"{document['classes']}, with {least} to {most} training images"
    if document["class_names"]:
        yield "class names", _some(document["class_names"], document["classes"])
    low, high = document["bins"]
    spans = {"few": f"below {low}", "medium": f"{low} to {high}", "many": f"above {high}"}
    groups = document["shot_groups"].items()
    yield "shot groups", ", ".join(f"{name} {count} ({spans[name]})" for name, count in groups)
    yield "head", _of_head(document.get("head"))


def _of_classifier(document: Mapping[str, Any]) -> Lines:
    yield "method", document["method"]
    yield "corrects", f"{document['corrected']} classes"
    runs = {name: _in_order(values) for name, values in document["varied"].items()}
    several = f", {_listed(runs)}" if runs else ""
    yield "runs", f"{document['run_count']}{several}"


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Return numbers from the smallest up; others as they are."""
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else list(values)


def _of_checkpoint(document: Mapping[str, Any]) -> Lines:
    yield "format", document["format"]
    yield "arch", str(document["arch"])
    yield "head", _of_head(document["head"])
    if document["head_tensors"]:
        yield "head tensors", ", ".join(document["head_tensors"].values())
    names = document["class_names"]
    yield "class names", names if isinstance(names, str) else _some(names, len(names))
    if document["view"].keys() - {"from"}:
        yield "view", _listed(document["view"])
    if document["mean"]:
        mean, std = (" ".join(f"{v:g}" for v in document[name]) for name in ("mean", "std"))
        size = document["image_size"]
        square = f"{size} x {size}, " if size else ""
        yield "pixels", f"{square}mean {mean}, std {std}"
    yield "trained on", document["trained_on"]
    if document["prototypes"]:
        yield "prototypes", f"{document['prototypes']} of local vectors; extract --local auto"
    for name in ("notes", "skipped"):
        if document[name]:
            yield name, ", ".join(map(str, document[name]))
    yield "digest", document["digest"][:DIGITS]


def _of_head(head: Mapping[str, Any] | None) -> str:
    if not head:
        return "none"
    kind = "linear" if head["normalize"] == "none" else f"cosine ({head['normalize']} normalised)"
    scale = f", scale {head['scale']:g}" if head["scale"] != 1 else ""
    experts = f", {head['experts']} experts" if head["experts"] > 1 else ""
    return f"{kind}, {head['classes']} classes x {head['features']} features{scale}{experts}"


def _some(names: Sequence[str], count: int) -> str:
    more = count - min(len(names), NAMED)
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more else "")


def _listed(settings: Mapping[str, Any]) -> str:
    """Return settings as text, without those that are not set."""
    told = {name: value for name, value in settings.items() if value not in (None, {}, [])}
    return ", ".join(f"{name} {_text(value)}" for name, value in told.items()) or "none"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value[:NAMED])) + " ..." * (len(value) > NAMED)
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
