"""Rule files: a small JSON document that says how a classifier's answers are used.

``schema`` is ``ltkit.KIND/1``. What the ``content`` of a kind may be, its own room checks; here is
what all of them have: whose classes and whose classifier they are for, and a digest, so that a
document that was edited or cut is not read as another rule.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ltkit.errors import FormatError, InputError
from ltkit.files import strict_json
from ltkit.files.atomic import write_text
from ltkit.records.rules import Rule
from ltkit.untrusted.budget import read_bytes
from ltkit.version import __version__

MOST_BYTES = 64 << 20
"""Most bytes of a rule file, a hundred times what 20,000 classes need."""

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "classifier": str,
    "num_classes": int,
    "class_names": (list, type(None)),
    "content": dict,
    "settings": dict,
    "inputs": dict,
}


def write(path: Path, rule: Rule, *, command: str) -> str:
    """Write a rule file; return its digest.

    Raises:
        InputError: for a content that is not plain data of finite numbers.
    """
    document = {
        "schema": f"ltkit.{rule.kind}/1",
        "written_by": f"ltkit {__version__}",
        "command": command,
        "classifier": rule.classifier,
        "num_classes": rule.num_classes,
        "class_names": None if rule.class_names is None else list(rule.class_names),
        "content": dict(rule.content),
        "settings": dict(rule.settings),
        "inputs": dict(rule.inputs),
    }
    try:
        digest = _digest(document)
        text = strict_json.dumps(document | {"digest": digest}) + "\n"
    except ValueError as error:
        raise InputError(
            f"{path}: content: found {error}, expected finite numbers; nothing was written; choose "
            "less extreme settings"
        ) from error
    write_text(path, text)
    return digest


def read(path: Path, *kinds: str) -> Rule:
    """Read a rule file.

    Args:
        path: the file.
        kinds: of which one it must be.

    Raises:
        FormatError: when it is no sound rule file.
        InputError: when there is no such file, or it is of another kind.
    """
    document = _document(path)
    kind = _kind(document, path)
    if kind not in kinds:
        raise InputError(f"{path}: is a file of {kind}, expected {' or '.join(kinds)}; check it")
    for name, types in FIELDS.items():
        if not isinstance(document.get(name), types) or isinstance(document[name], bool):
            raise FormatError(
                f"{path}: {name}: found {str(document.get(name))[:60]}, expected "
                f"{_told(types)}; make the file again"
            )
    if document.pop("digest", None) != _digest(document):
        raise FormatError(f"{path}: digest: found other content than was written; make it again")
    names = document["class_names"]
    if names is not None and (
        len(names) != document["num_classes"] or not all(isinstance(name, str) for name in names)
    ):
        raise FormatError(
            f"{path}: class_names: found {len(names)} entries, expected a text for each of "
            f"{document['num_classes']} classes; make the file again"
        )
    return Rule(
        kind, document["content"], document["classifier"], document["num_classes"],
        None if names is None else tuple(names), document["settings"], document["inputs"],
        str(path),
    )  # fmt: skip


def _document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        FormatError: when there is none.
    """
    content = read_bytes(path, "a rule file", MOST_BYTES)
    try:
        found = strict_json.loads(content.decode())
    except ValueError as error:
        raise FormatError(f"{path}: is not JSON ({str(error)[:80]}); make it again") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: found no JSON object, expected a rule file; check the path")
    return found


def _kind(document: Mapping[str, Any], path: Path) -> str:
    """Return the kind that a document's schema names.

    Raises:
        FormatError: when it names none, or a newer version of one.
    """
    schema = document.get("schema")
    name, _, version = str(schema).removeprefix("ltkit.").partition("/")
    if not str(schema).startswith("ltkit.") or version != "1":
        raise FormatError(
            f"{path}: schema: found {str(schema)[:60]}, expected ltkit.KIND/1; upgrade ltkit, or "
            "check the path"
        )
    return name


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(strict_json.dumps(dict(document)).encode()).hexdigest()


def _told(types: type | Collection[type]) -> str:
    words = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
    several = (types,) if isinstance(types, type) else types
    return " or ".join(words.get(kind, "null") for kind in several)
