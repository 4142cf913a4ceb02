"""What `benchmarks/bench_scale.py` measured: a part of docs/performance.md, and of docs/scaling.md.

Times, memory and limits are in the first, exponents between two marks of the second.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_scale import GROWTH, SIZES, counts_of

MARKS = ("<!-- measured: python benchmarks/write_docs.py -->\n", "<!-- /measured -->\n")
FEW = 20
"""Training images below which a class is rare."""

BUSY = 2.6
"""Load of a machine of two cores above which other work ran beside a command."""

HEAD = """\
## At scale

Made by `python benchmarks/bench_scale.py`, on {machine}: seconds and the most memory of a command,
from its start to its end, on made files of the size of ImageNet-LT and iNaturalist and with 20,000
classes{limit}. Under them, the least time of a read of the file, and of the product of the
validation features and the head. Where it says busy, other work ran on the machine; where it says
one thread, the command had no more. Of a command's runs the fastest stands here, but for what the
second table bounds, which was measured in one run.
"""
LIMITED = """\
| command | measured | limit |
|---|---|---|
"""
EXPONENTS = """\
Exponents, from `python benchmarks/bench_scale.py --growth`; what doubles with its cause has 1.
{classes} classes on {rows} rows, {rows_of} rows on {classes_of} classes; of the first, {rare} are
rare, which `neighbors` and `report` look at most. A start of a second makes exponents smaller.

| command | time, classes | time, rows | memory, classes | memory, rows |
|---|---|---|---|---|
"""

Line = dict[str, Any]


def document(page: Path, results: Path) -> str:
    """Return the page with the exponents that are measured; as it is where nothing is.

    Args:
        page: with the two marks.
        results: lines of the benchmark.
    """
    text = page.read_text(encoding="utf-8")
    found = list(exponents(read(results)))
    if not found:
        return text
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return "".join([before, MARKS[0], *found, MARKS[1], after])


def read(results: Path) -> list[Line]:
    """Return the lines of the benchmark; none where it has not been run."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def section(results: Path) -> list[str]:
    """Return the lines of the part of docs/performance.md."""
    lines = read(results)
    return "".join([*table(lines), *limits(lines)]).splitlines()


def limits(lines: Sequence[Line]) -> Iterator[str]:
    """Give the lines of the table of what is bounded, beside its bound."""
    own = {(line["command"], line["size"]): line for line in lines}
    rows = []
    for command, size, key, bound, said in LIMITS:
        line = own.get((command, size))
        if line is None:
            continue
        most = bound(line) if callable(bound) else bound
        met = "met" if line[key] <= most else "**not met**"
        met = _cell(line) if line["code"] else met
        rows.append(
            f"| `{command}`, {_title(size)} | {line[key]:.3g} {UNITS[key]} | "
            f"{said} {most:.3g} {UNITS[key]}: {met} |\n"
        )
    if rows:
        yield LIMITED
        yield from rows
        yield "\n"


def _products_of_crt(line: Line) -> float:
    """Return three times the seconds of crt's products, at the speed of those of val.

    Ten epochs of as many samples as train has, with the head and with the gradient.
    """
    size = SIZES[line["size"]]
    return 3 * 2 * 10 * size.train / size.val * float(line["val_product_s"])


def _first_layers(line: Line) -> float:
    """Return 1.3 times the seconds of the first layers' products of thirty fits."""
    return 1.3 * float(line["first_layers_s"])


LARGE, MANY = "inaturalist", "20,000 classes"
WHOLE = 4 * SIZES[MANY].test * SIZES[MANY].classes / 2**30
"""Gibibytes of a float32 number for each test sample and class."""

LIMITS: Sequence[tuple[str, str, str, float | Callable[[Line], float], str]] = (
    ("posthoc logit-adjust", LARGE, "seconds", 5, "about"),
    ("posthoc tau-norm", LARGE, "seconds", 5, "about"),
    ("posthoc crt", LARGE, "seconds", _products_of_crt, "three times its products,"),
    ("alphanet fit", "inaturalist, 1.3 M", "peak_gb", 4, "at most"),
    ("alphanet fit, 30 fits", "imagenet-lt", "seconds", _first_layers,
     "1.3 times the products of the first layers by PyTorch,"),
    ("alphanet fit, 30 fits, bf16", "imagenet-lt", "seconds", _first_layers,
     "1.3 times the same products in float32,"),
    ("report", LARGE, "seconds", 20, "at most"),
    ("report", LARGE, "page_mb", 8, "at most"),
    ("report", MANY, "page_mb", 8, "at most"),
    *((command, MANY, "peak_gb", WHOLE, "less than all logits,")
      for command in ("evaluate", "compare", "report")),
)  # fmt: skip
"""What is bounded: a command at a size, a figure of its line, the bound, and what that is."""

UNITS = {"seconds": "s", "peak_gb": "GB", "page_mb": "MB"}


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
    for name, key in (("read", "read_s"), ("product", "val_product_s")):
        least = [min(line[key] for (_, of), line in own.items() if of == size) for size in sizes]
        yield f"| {name} | {' | '.join(f'{seconds:.3g} s' for seconds in least)} |\n"
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
    if line["code"] == -9:
        return f"not done in {_seconds(line)}, {line['peak_gb']:.2g} GB"
    if line["code"]:
        return f"exit code {line['code']}"
    marks = ["busy"] * (float(line["machine"].rpartition("load ")[2]) > BUSY)
    marks += ["one thread"] * (line.get("threads", 2) == 1)
    told = f" ({', '.join(marks)})" if marks else ""
    return f"{_seconds(line)}{told}, {line['peak_gb']:.2g} GB"


def _seconds(line: Line) -> str:
    """Return a duration with three digits, or all of its whole seconds."""
    return f"{line['seconds']:,.0f} s" if line["seconds"] >= 100 else f"{line['seconds']:.3g} s"


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
        rare=", ".join(f"{(counts_of(GROWTH[name]) < FEW).sum():,}" for name in series["classes"]),
    )  # fmt: skip
    for command in dict.fromkeys(command for command, _ in own):
        cells = [
            _exponent({x: own[command, n][key] for n, x in sizes.items() if (command, n) in own})
            for key in ("processor_s", "peak_gb")
            for sizes in series.values()
        ]
        yield f"| `{command}` | {' | '.join(cells)} |\n"
    yield "\n"


def _exponent(found: Mapping[int, float]) -> str:
    """Return the slope of logarithms, by least squares; a dash where fewer than two are there."""
    if len(found) < 2:
        return "–"
    return f"{np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0]:.2f}"
