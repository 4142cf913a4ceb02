"""The page: one self-contained HTML file that makes no network requests."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from string import Template
from typing import Any

from ltkit.reporting.drawing import script
from ltkit.reporting.exhibits import Cell, Exhibit, Section, visible
from ltkit.reporting.numbers import counted
from ltkit.reporting.source import LONGEST, Source

Traces = Sequence[Mapping[str, Any]]


def render(
    source: Source,
    parts: Sequence[Section],
    *,
    provenance: Sequence[Mapping[str, Any]] = (),
    command: str = "",
    thumbnails: Mapping[int, Sequence[str]] | None = None,
) -> str:
    """Return the page.

    Args:
        source: from `ltkit.reporting.source.collect`.
        parts: from `ltkit.reporting.sections.make`.
        provenance: from `ltkit.reporting.source.provenance`.
        command: the command that makes this page again.
        thumbnails: pictures of classes, as data URLs.
    """
    document, found = source.scores, {part.key: part.found for part in parts}
    exhibits = [exhibit for part in parts for exhibit in part.exhibits]
    data = {
        "schema": "ltkit.report/1",
        "evaluate": _cut(document),
        "classes": found["classes"]["columns"],
        "labels": source.settings,
        "neighbors": found["classes"]["neighbors"],
        "alpha": found["alpha"].get("rows", []),
        "cells": found["confusion"]["cells"],
        "thumbnails": thumbnails or {},
        "exhibits": {exhibit.key: _as_json(exhibit) for exhibit in exhibits},
    }
    sizes = ", ".join(f"{count} {name}" for name, count in document["groups"].items() if count)
    return _assembled(
        f"Report of {', '.join(document['networks'])}",
        f"{document['split']} split, {counted(document['n'], 'sample')} of "
        f"{counted(sum(document['groups'].values()), 'class', 'classes')}: {sizes}",
        parts,
        data,
        notes=_notes(source),
        provenance=_provenance(provenance, command),
    )


def render_alone(title: str, subtitle: str, parts: Sequence[Section], command: str) -> str:
    """Return a page of sections that are of no features file.

    Args:
        title: its heading.
        subtitle: the line below.
        parts: with a question each; one with the key ``answer`` has sentences, and no command.
        command: the command that makes this page again.
    """
    data = {
        "schema": "ltkit.study-page/1", "classes": {"name": []}, "labels": [], "neighbors": {},
        "alpha": [], "cells": [], "thumbnails": {},
        "exhibits": {e.key: _as_json(e) for part in parts for e in part.exhibits},
    }  # fmt: skip
    return _assembled(title, subtitle, parts, data, provenance=_provenance((), command))


def _assembled(
    title: str,
    subtitle: str,
    parts: Sequence[Section],
    data: Mapping[str, Any],
    *,
    notes: str = "",
    provenance: str,
) -> str:
    """Return the page of these sections, with the data that its script draws."""
    scripts = [script(), _file("page.js")]
    kind, packed = _stored(_json(_sharing(data)))
    questions = _questions(parts)
    return Template(_file("page.html")).substitute(
        policy=escape(_policy(scripts)),
        title=_text(title),
        subtitle=_text(subtitle),
        style=_file("page.css"),
        contents="".join(
            f'<a href="#{key}">{_text(question)}</a>' for key, question, _ in questions
        ),
        main="".join(_question(*each) for each in questions),
        notes=notes,
        provenance=provenance,
        type=kind,
        data=packed,
        plotly=scripts[0],
        script=scripts[1],
    )


LARGE = 1 << 20
"""Letters of the page's data from which on it is compressed, to a quarter or less."""

LONG = 1000
"""Entries of a list that is stored once where the page has it more often."""


def _cut(value: Any) -> Any:
    """Return plain data whose texts are no longer than names on the page.

    Example:
        >>> len(_cut({"name": ["x" * 1000]})["name"][0])
        301
    """
    if isinstance(value, Mapping):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cut(each) for each in value]
    long = isinstance(value, str) and len(value) > LONGEST
    return f"{value[:LONGEST]}…" if long else value


def _sharing(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return data in which a long list of numbers or texts that is there twice is stored once.

    Its places have its number among ``shared``. At thousands of classes it is a third of a page.

    Example:
        >>> _sharing({"a": [1, 2], "b": {"c": [1, 2]}})["shared"]  # they are not long
        []
    """
    seen, shared = dict[str, int](), list[list[Any]]()

    def text(value: list[Any]) -> str | None:
        plain = len(value) >= LONG and not isinstance(value[0], dict | list)
        return json.dumps(value) if plain else None

    def count(value: Any) -> None:
        if isinstance(value, Mapping):
            for each in value.values():
                count(each)
        elif isinstance(value, list):
            if (key := text(value)) is not None:
                seen[key] = seen.get(key, 0) + 1
            else:
                for each in value:
                    count(each)

    numbers = dict[str, int]()

    def replaced(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: replaced(each) for name, each in value.items()}
        if not isinstance(value, list):
            return value
        key = text(value)
        if key is None:
            return [replaced(each) for each in value]
        if seen[key] < 2:
            return value
        if key not in numbers:
            numbers[key] = len(shared)
            shared.append(value)
        return {"$shared": numbers[key]}

    count(data)
    return {**replaced(data), "shared": shared}


def _file(name: str) -> str:
    return resources.files("ltkit.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy: only these scripts run, and nothing is fetched."""
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    run = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {run}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _json(data: Any) -> str:
    r"""Return JSON whose text cannot break out of the script element.

    Example:
        >>> _json("</script>")
        '"\\u003c/script>"'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _stored(text: str) -> tuple[str, str]:
    """Return the type of the element that data is in, and its content: JSON, or base64 of gzip.

    Example:
        >>> _stored("{}")
        ('application/json', '{}')
    """
    if len(text) < LARGE:
        return "application/json", text
    packed = gzip.compress(text.encode(), mtime=0)
    return "application/gzip", base64.b64encode(packed).decode()


def _text(text: str) -> str:
    """Return text for HTML, with control characters as escapes and lines kept."""
    return "<br>".join(escape(visible(line)) for line in text.split("\n"))


def _as_json(exhibit: Exhibit) -> dict[str, Any]:
    columns = list(zip(*exhibit.rows, strict=True)) or [()] * len(exhibit.columns)
    first = exhibit.views[0].traces if exhibit.views else ()
    return {
        "title": exhibit.title,
        "views": [
            {"data": _beyond(first, v.traces) if place else v.traces, "layout": v.layout,
             "setting": v.setting}
            for place, v in enumerate(exhibit.views)
        ],
        "columns": list(exhibit.columns),
        "values": [_packed(column) for column in columns],
    }  # fmt: skip


def _beyond(first: Traces, traces: Traces) -> list[Mapping[str, Any]]:
    """Return, for each trace, its differences from the first view's, with "like" its number.

    A trace that has no match with the same keys stays whole.

    Example:
        >>> _beyond([{"x": [1, 2], "y": [3]}], [{"x": [1, 2], "y": [4]}])
        [{'like': 0, 'y': [4]}]
    """
    found: list[Mapping[str, Any]] = []
    for place, trace in enumerate(traces):
        if place < len(first) and first[place].keys() == trace.keys():
            like = first[place]
            found.append({"like": place, **{k: v for k, v in trace.items() if v != like[k]}})
        else:
            found.append(trace)
    return found


def _packed(column: Sequence[Any]) -> Any:
    """Return a column; repeated texts are stored once, and referred to by number.

    Example:
        >>> _packed([1, 2]), _packed(["a", "b", "a"])
        ([1, 2], {'of': ['a', 'b'], 'at': [0, 1, 0]})
    """
    if not column or not all(isinstance(value, str) for value in column):
        return list(column)
    numbers = {value: place for place, value in enumerate(dict.fromkeys(column))}
    return {"of": list(numbers), "at": [numbers[value] for value in column]}


def _questions(parts: Sequence[Section]) -> list[tuple[str, str, list[Section]]]:
    """Return the page's questions, each with the name of its element and its sections."""
    every = groupby(parts, key=lambda part: part.question)
    return [
        (f"question-{number}", question, list(inside))
        for number, (question, inside) in enumerate(every, start=1)
    ]


def _question(key: str, question: str, parts: Sequence[Section]) -> str:
    return f'<h2 id="{key}">{_text(question)}</h2>' + "".join(map(_section, parts))


def _section(part: Section) -> str:
    inside = "".join(_figure(e) if e.views else _table(e) for e in part.exhibits)
    if part.absent:
        inside = f'<p class="absent">Left out: {_text(part.title)}: {_text(part.absent)}.</p>'
    if part.key == "answer":
        inside = _answer(part.found) + inside
    if part.key == "classes":
        inside += _file("card.html")
    return f'<section id="{part.key}" aria-label="{escape(visible(part.title))}">{inside}</section>'


def _answer(found: Mapping[str, Any]) -> str:
    """Return the sentences at the top of the page, and the command that ships what they say."""
    told = "".join(
        f"<dt>{_text(heading)}</dt><dd>{_text(sentence.strip())}</dd>"
        for heading, sentence in found["sentences"]
        if sentence.strip()
    )
    told = f'<dl class="answer">{told}</dl>'
    if not found["command"]:
        return told
    return (
        f'{told}<div class="ship"><code id="command">{_text(found["command"])}</code>'
        '<button id="copy" aria-describedby="command">Copy</button></div>'
    )


def _figure(exhibit: Exhibit) -> str:
    key, choice = exhibit.key, ""
    if len(exhibit.views) > 1:
        options = "".join(
            f'<option value="{place}">{escape(visible(view.name))}</option>'
            for place, view in enumerate(exhibit.views)
        )
        choice = f'<label>Show <select data-views="{key}">{options}</select></label>'
    spoken = f"{exhibit.title}. {exhibit.caption} The numbers are in the CSV."
    return (
        f'<figure id="figure-{key}" aria-labelledby="title-{key}">'
        f'<div class="bar"><h3 id="title-{key}">{_text(exhibit.title)}</h3>{choice}{_csv(exhibit)}'
        f'</div><div class="plot" id="plot-{key}" data-key="{key}" role="img" '
        f'aria-label="{escape(spoken)}" style="height:{exhibit.height}px"></div>'
        f"<figcaption>{_text(exhibit.caption)}</figcaption></figure>"
    )


def _csv(exhibit: Exhibit) -> str:
    name = escape(exhibit.title)
    return f'<button data-csv="{exhibit.key}" aria-label="{name} as CSV">CSV</button>'


def _table(exhibit: Exhibit) -> str:
    key = exhibit.key
    names, *body = exhibit.cells
    heads = "".join(f'<th scope="col">{_content(cell)}</th>' for cell in names)
    lines = "".join(_line(line, names) for line in body)
    folded = len(exhibit.cells) > 12 and key == "settings"
    start, end = ("<details><summary>Show</summary>", "</details>") if folded else ("", "")
    return (
        f'<figure id="figure-{key}" aria-labelledby="title-{key}">'
        f'<div class="bar"><h3 id="title-{key}">{_text(exhibit.title)}</h3>{_csv(exhibit)}</div>'
        f'{start}<div class="scroll" tabindex="0" role="region" aria-labelledby="title-{key}">'
        f'<table id="table-{key}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>{end}"
        f"<figcaption>{_text(exhibit.caption)}</figcaption></figure>"
    )


def _line(line: Sequence[str | Cell], names: Sequence[str | Cell]) -> str:
    """Return a row of a table; on narrow screens each cell says what column it is of."""
    first, *others = line
    lead = ' class="lead"' if isinstance(first, Cell) and first.mark == "lead" else ""
    cells = "".join(
        f'<td data-label="{escape(_plain(name))}"{_marked(cell)}>{_content(cell)}</td>'
        for name, cell in zip(names[1:], others, strict=True)
    )
    return f'<tr{lead}><th scope="row">{_content(first)}</th>{cells}</tr>'


def _marked(cell: str | Cell) -> str:
    return f' class="{cell.mark}"' if isinstance(cell, Cell) and cell.mark else ""


def _content(cell: str | Cell) -> str:
    if not isinstance(cell, Cell):
        return _text(cell)
    picture = f'<img src="{escape(cell.picture)}" alt="">' if cell.picture else ""
    return picture + _text(cell.text)


def _plain(cell: str | Cell) -> str:
    """Return a cell's first line."""
    text = cell.text if isinstance(cell, Cell) else cell
    return visible(text.split("\n")[0])


def _notes(source: Source) -> str:
    """Return what the reader should know before the first number."""
    notes = []
    if untested := source.scores["untested_classes"]:
        notes.append(
            f"{counted(untested, 'class has', 'classes have')} no sample in this split: left out."
        )
    if source.left_out:
        notes.append(
            f"{counted(source.left_out, 'more setting is', 'more settings are')} in the tables "
            "only; narrow them with --classifier to see them class by class."
        )
    return "".join(f"<p>{_text(note)}</p>" for note in notes)


def _provenance(files: Sequence[Mapping[str, Any]], command: str) -> str:
    """Return what each file is and was made from; the rest of what it records is folded."""
    commands = [file["command"] for file in files if file["command"]] + [command] * bool(command)
    names = {file["digest"]: file["file"] for file in files}
    names_of = ", ".join(dict.fromkeys(file["written_by"] for file in files))
    cells = [["file", "kind", "made from"]]
    cells += [
        [
            file["file"], file["format"].removeprefix("ltkit-"),
            "\n".join(f"{role} {names.get(str(digest), str(digest)[:12])}"
                      for role, digest in file["inputs"].items()) or "–",
        ]
        for file in files
    ]  # fmt: skip
    lines = "".join(_line(line, cells[0]) for line in cells[1:])
    heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in cells[0])
    full = "".join(
        f"<p>{_text(file['file'])}: digest <code>{_text(file['digest'])}</code>, settings "
        f"<code>{_text(json.dumps(file['settings'], ensure_ascii=False))}</code></p>"
        for file in files
    )
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Files"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        f"<details><summary>Digests and settings in full; written by {_text(names_of)}</summary>"
        f"{full}</details>"
    )
    return (
        table if files else ""
    ) + f"<h3>Commands that make it again</h3><pre>{_text(chr(10).join(commands))}</pre>"
