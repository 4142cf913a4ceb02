"""The names of a checkpoint's classes in the order of its head, where the file says them.

Looked for, in this order: ltkit's ``classes.names``, ``class_to_idx``, ``idx_to_class``,
``id2label``, ``classes``, ``class_names``, ``label_names``; outermost, in the script's arguments or
settings, in OpenMMLab's ``meta`` and timm's ``pretrained_cfg``. What is there comes from strangers:
anything but C different texts is no statement, and is said.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ltkit.checkpoints.containers.inert import Arguments
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.numbers import shown

INDEX_OF = ("class_to_idx", "label2id", "label_to_idx")
"""Names to numbers."""

NAME_OF = ("idx_to_class", "id2label", "idx_to_label")
"""Numbers to names."""

LISTS = ("classes", "class_names", "label_names", "CLASSES", "classnames")

INNER = ("args", "hparams", "hyper_parameters", "config", "meta", "dataset_meta", "pretrained_cfg",
         "model_args", "data", "dataset")  # fmt: skip
"""Where scripts keep what they know of their data."""

DEPTH = 2
"""How deep: OpenMMLab has ``meta.dataset_meta.classes``."""

PLACEHOLDER = re.compile(r"LABEL_\d+")
"""What transformers calls the classes of a model that was given no names."""

LONGEST, MOST = 1000, 1_000_000
"""Characters of a name, and of the JSON text that a safetensors file may have for a list."""


def stated(content: Content, num_classes: int) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of the classes that a file states, and a note where it states them wrongly.

    Args:
        content: of the file.
        num_classes: C, of its head.

    Example:
        >>> from pathlib import Path
        >>> top = {"class_to_idx": {"dog": 1, "cat": 0}}
        >>> stated(Content(Path("m.pt"), "torch", top, {}, ""), 2)
        (('cat', 'dog'), '')
        >>> top = {"meta": {"CLASSES": ["cat", "cat"]}}
        >>> stated(Content(Path("m.pt"), "torch", top, {}, ""), 2)
        (None, 'meta.CLASSES: holds a name twice (cat); the names of classes are not taken from it')
    """
    note = ""
    for where, key, value in _statements(content.top, "", DEPTH):
        names, fault = _read(key, value, num_classes)
        if names is not None:
            if not all(PLACEHOLDER.fullmatch(name) for name in names):
                return names, note
        elif fault and not note:
            note = f"{where}{key}: {fault}; the names of classes are not taken from it"
    return None, note


def _statements(top: Mapping[Any, Any], where: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """Yield where something is stated, under which key, and what."""
    for key in (*INDEX_OF, *NAME_OF, *LISTS):
        value = _parsed(top.get(key))
        if key == "classes" and isinstance(value, Mapping):  # ltkit's own
            value = value.get("names")
        if value is not None:
            yield where, key, value
    for key in INNER if depth else ():
        inner = top.get(key)
        inner = inner.values if isinstance(inner, Arguments) else _parsed(inner)
        if isinstance(inner, Mapping):
            yield from _statements(inner, f"{where}{key}.", depth - 1)


def _parsed(value: Any) -> Any:
    """Return the list or mapping that a text of JSON is; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{") and len(value) <= MOST:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _read(key: str, value: Any, count: int) -> tuple[tuple[str, ...] | None, str]:
    """Return C names, or what is wrong with them; nothing of either where it is no statement."""
    if key in INDEX_OF or key in NAME_OF:
        if not isinstance(value, Mapping) or not value:
            return None, ""
        pairs = [(i, n) if key in NAME_OF else (n, i) for i, n in value.items()]
        numbers = [_number(number) for number, _ in pairs]
        if sorted(n for n in numbers if n is not None) != list(range(count)):
            return None, f"found {len(value)} numbers, expected each of 0 to {count - 1} once"
        listed = [name for _, (_, name) in sorted(zip(numbers, pairs, strict=True),
                                                  key=lambda one: one[0] or 0)]  # fmt: skip
    elif isinstance(value, list | tuple):
        listed = list(value)
    else:
        return None, ""
    return _checked(listed, count)


def _checked(listed: list[Any], count: int) -> tuple[tuple[str, ...] | None, str]:
    if not listed:
        return None, ""
    if len(listed) != count:
        return None, f"found {len(listed)} names, expected {count} as the head has classes"
    odd = [n for n in listed if not isinstance(n, str) or not n.strip() or len(n) > LONGEST]
    if odd:
        return None, f"found {shown(odd[0])}, expected a text a class"
    name, times = Counter(listed).most_common(1)[0]
    if times > 1:
        return None, f"holds a name twice ({name[:40]})"
    return tuple(listed), ""


def _number(value: Any) -> int | None:
    """Return a whole number, also one written as text, as JSON's keys are."""
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
