"""What tests of the report share: small features and corrections, and readers of the page."""

import base64
import functools
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

import ltkit
from ltkit.cli import app
from ltkit.evaluation import Entry
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Head
from ltkit.reporting import page, sections, source

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
FITS = ("feats.alphanet.h5", "feats.random.h5")
EVERY = (*FITS, "feats.logit-adjust-sweep.h5", "feats.tau-norm.h5")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "x" * 300,
    "حيوان أليف",
    "a\x1b[31m\u202eb\x00\nc",
    "=cmd|' /C calc'!A0",
    '"quoted", & <b>bold</b>',
    "${plotly} &lt;i&gt;",
)


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def printed(*words):
    return json.loads(run(*words, "--json", "-q").stdout)


def embedded(text):
    """The page's data."""
    pattern = r'<script type="application/(json|gzip)" id="data">(.*?)</script>'
    ((kind, found),) = re.findall(pattern, text, re.S)
    return json.loads(gzip.decompress(base64.b64decode(found)) if kind == "gzip" else found)


def columns(exhibit):
    """An exhibit's columns by name."""
    unpacked = [
        v if isinstance(v, list) else [v["of"][i] for i in v["at"]] for v in exhibit["values"]
    ]
    return dict(zip(exhibit["columns"], unpacked, strict=True))


def records(exhibit):
    found = columns(exhibit)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


class Page(HTMLParser):
    """Elements of a page, and the texts of its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.cell, self.body = [], {}, None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.rows = self.tables[dict(attributes).get("id")] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = []
        elif tag == "br" and self.cell is not None:
            self.cell.append("\n")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, text):
        if self.cell is not None:
            self.cell.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def small(names=None, counts=(200, 50, 40, 5, 3), splits=("train", "val", "test"), **more):
    """Features of five classes, of which the last two are rare."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(len(counts), 6))
    labels = np.arange(20 * len(counts)) % len(counts)

    def split():
        noise = rng.normal(size=(len(labels), 6))
        return FeatureSplit((centre[labels] + noise).astype(np.float32), labels)

    head = Head(centre.astype(np.float32), np.log(np.maximum(counts, 1)).astype(np.float32))
    classes = ClassTable(np.array(counts), names, **more)
    return FeatureSet({name: split() for name in splits}, classes, head)


def correction(features, name="fixed", runs=({"tau": 1.0},), **more):
    """A correction that takes the logits' bias away, more with each run."""
    base, count = features.classifier(), len(features.classes)
    weight = np.repeat(base.weight[None], len(runs), axis=0)
    bias = base.bias * np.linspace(0.5, 0, len(runs))[:, None].astype(np.float32)
    made = Correction(name, np.arange(count), weight, bias, tuple(runs), **more)
    return Entry(name, f"{name}.h5", made)


def collected(features, *entries, **more):
    more = {"replicates": 100, **more}
    return source.collect(features, "test", entries, **more)


def sectioned(features, *entries, **more):
    """The sections of a report by their keys."""
    return {part.key: part for part in sections.make(collected(features, *entries, **more))}


def rendered(features, *entries, **more):
    collection = collected(features, *entries)
    return page.render(collection, sections.make(collection), **more)


@functools.cache
def large(settings=2, each=50):
    """The page of 1000 classes and so many test samples of each."""
    rng = np.random.default_rng(0)
    count, size = 1000, 8
    counts = np.round(1280 * (5 / 1280) ** (np.arange(count) / (count - 1))).astype(int)
    centre = 3 * rng.normal(size=(count, size))

    def split(each):
        labels = np.repeat(np.arange(count), each)
        values = centre[labels] + rng.normal(size=(len(labels), size))
        return FeatureSplit(values.astype(np.float32), labels)

    parts = {"train": split(3), "test": split(each)}
    head = Head(2 * centre.astype(np.float32), -(centre**2).sum(axis=1).astype(np.float32))
    names = tuple(f"class number {c}" for c in range(count))
    features = FeatureSet(parts, ClassTable(counts, names), head)
    return rendered(features, *(correction(features, f"method {n}") for n in range(settings)))
