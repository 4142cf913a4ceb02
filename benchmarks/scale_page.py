"""The table of `benchmarks/bench_scale.py` in docs/scaling.md, between two marks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_scale import GROWTH, SIZES

MARKS = ("<!-- measured: python benchmarks/write_docs.py -->\n", "<!-- /measured -->\n")
HEAD = """\
Made by `python benchmarks/bench_scale.py`, on {machine}: seconds and the most memory of a command,
from its start to its end, on made files of the size of ImageNet-LT and iNaturalist and with 20,000
classes{limit}. Under them, the time of a read of the file, and of the product of the validation
features and the head.
"""
EXPONENTS = """\
Exponents, from `--growth`: time and memory that double with what doubles have 1. Classes grow from
{classes} on {rows} training rows, then rows from {rows_of} on {classes_of} classes; `val` and
`test` grow with the rows. A start of a second or more makes exponents smaller.

| command | time, classes | time, rows | memory, classes | memory, rows |
|---|---|---|---|---|
"""

Line = dict[str, Any]


def document(page: Path, results: Path) -> str:
    """Return the page with what is measured; as it is where nothing is.

    Args:
        page: with the two marks.
        results: lines of the benchmark.
    """
    text = page.read_text(encoding="utf-8")
    if not results.is_file():
        return text
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return "".join([before, MARKS[0], *table(lines), *exponents(lines), MARKS[1], after])


def table(lines: Sequence[Line]) -> Iterator[str]:
    """Give the lines of the table of commands and sizes."""
    own = {(line["command"], line["size"]): line for line in lines if line["size"] in SIZES}
    if not own:
        return
    limits = {line["limit_gb"] for line in own.values()} - {None}
    limit = f", under `ulimit -v` of {max(limits):g} GB" if limits else ""
    machine = " and ".join(dict.fromkeys(_processor(line) for line in own.values()))
    sizes = [size for size in SIZES if any(size == of for _, of in own)]
    yield HEAD.format(machine=machine, limit=limit) + "\n"
    yield f"| command | {' | '.join(map(_title, sizes))} |\n{'|---' * (len(sizes) + 1)}|\n"
    for command in dict.fromkeys(command for command, _ in own):
        cells = [_cell(own.get((command, size))) for size in sizes]
        yield f"| `{command}` | {' | '.join(cells)} |\n"
    last = {size: line for (_, size), line in own.items()}
    for name, key in (("read", "read_s"), ("product", "val_product_s")):
        yield f"| {name} | {' | '.join(f'{last[size][key]:.3g} s' for size in sizes)} |\n"
    yield "\n"


def _processor(line: Line) -> str:
    """Return the machine of a line without its load at that moment."""
    return str(line["machine"]).rpartition(", load")[0]


def _title(name: str) -> str:
    size = SIZES[name]
    return f"{name}: {size.train:,} × {size.width}, {size.classes:,} classes"


def _cell(line: Line | None) -> str:
    if line is None:
        return "–"
    if line["code"]:
        return f"exit code {line['code']}"
    return f"{line['seconds']:.3g} s, {line['peak_gb']:.2g} GB"


def exponents(lines: Sequence[Line]) -> Iterator[str]:
    """Give the lines of the table of exponents."""
    own = {(n["command"], n["size"]): n for n in lines if n["size"] in GROWTH and not n["code"]}
    if not own:
        return
    most = {of: max(getattr(size, of) for size in GROWTH.values()) for of in ("classes", "train")}
    series = {
        "classes": {n: s.classes for n, s in GROWTH.items() if s.train == most["train"]},
        "train": {n: s.train for n, s in GROWTH.items() if s.classes == most["classes"]},
    }
    spans = {of: f"{min(x.values()):,} to {max(x.values()):,}" for of, x in series.items()}
    yield EXPONENTS.format(
        classes=spans["classes"], rows=f"{most['train']:,}",
        rows_of=spans["train"], classes_of=f"{most['classes']:,}",
    )  # fmt: skip
    for command in dict.fromkeys(command for command, _ in own):
        cells = [
            _exponent({x: own[command, n][key] for n, x in sizes.items() if (command, n) in own})
            for key in ("seconds", "peak_gb")
            for sizes in series.values()
        ]
        yield f"| `{command}` | {' | '.join(cells)} |\n"
    yield "\n"


def _exponent(found: Mapping[int, float]) -> str:
    """Return the slope of logarithms, by least squares; a dash where fewer than two are there."""
    if len(found) < 2:
        return "–"
    return f"{np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]:.2f}"
