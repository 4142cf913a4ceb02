"""The page: what it holds, names from outside, and what is left out."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from reports import (
    EVERY,
    HOSTILE,
    Page,
    collected,
    columns,
    correction,
    embedded,
    large,
    rendered,
    run,
    sectioned,
    small,
)

from ltkit.alphanet import compose
from ltkit.errors import InputError
from ltkit.evaluation import Entry
from ltkit.records import Correction, FeatureSplit
from ltkit.reporting import drawing, page, sections, source
from ltkit.reporting.exhibits import Exhibit


def test_the_page_asks_nothing_of_the_network(text):
    read = Page(text)
    assert not [a for _, a in read.elements if "src" in a]
    assert all(a["href"].startswith(("#", "data:")) for _, a in read.elements if "href" in a)
    (policy,) = (a["content"] for a in read.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', text, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert text.count(drawing.script()[:2000]) == 1
    assert "${" not in text.split("<script", 1)[0]


def test_every_exhibit_is_named_captioned_and_has_its_data(text, found):
    read = Page(text)
    plots = {a["data-key"]: a for a in read.all("div") if "data-key" in a}
    buttons = {a["data-csv"]: a for a in read.all("button") if "data-csv" in a}
    assert set(buttons) == set(found["exhibits"])
    assert set(plots) == {key for key, e in found["exhibits"].items() if e["views"]}
    assert len(plots) == 18
    for key, plot in plots.items():
        assert plot["role"] == "img"
        assert plot["aria-label"].startswith(found["exhibits"][key]["title"])
        assert buttons[key]["aria-label"] == f"{found['exhibits'][key]['title']} as CSV"
    assert text.count("<figcaption>") == len(found["exhibits"])
    for exhibit in found["exhibits"].values():
        lengths = {len(values) for values in columns(exhibit).values()}
        assert len(lengths) == 1
        assert lengths != {0}


def test_every_figure_is_one_of_plotly(found):
    for key, exhibit in found["exhibits"].items():
        for view in exhibit["views"]:
            first = exhibit["views"][0]["data"]
            for trace in view["data"]:
                like = first[trace["like"]] if "like" in trace else {}
                whole = {k: v for k, v in {**like, **trace}.items() if k != "like"}
                go.Figure({"data": [whole], "layout": view["layout"]})
                if whole["type"] == "scatter":
                    assert len(whole["x"]) == len(whole["y"]) > 0, key


def test_a_view_that_differs_little_is_kept_short(found):
    views = found["exhibits"]["by-count"]["views"]
    assert len(views) == 4
    assert views[1]["data"][0] == {"like": 0}  # the baseline
    assert set(views[1]["data"][1]) == {"like", "y"}
    y = views[1]["data"][1]["y"]
    few = [c for c, group in enumerate(found["classes"]["group"]) if group == "few"]
    setting = views[1]["setting"]
    assert y == [round(100 * found["classes"]["accuracy"][setting][c], 4) for c in few]


def test_provenance_replays_the_run(here, text):
    made = source.provenance([Path(name) for name in ("feats.h5", *EVERY)])
    assert all(file["digest"] in text for file in made)
    assert made[1]["inputs"] == {"features": made[0]["digest"]}
    commands = text.split("Commands that make it again")[1].split("</pre>")[0]
    wanted = [html.escape(file["command"]) for file in made]
    assert wanted[0].startswith("ltkit extract resnet32.safetensors")
    assert commands.split("<pre>")[1].split("<br>")[:-1] == wanted
    assert "features feats.h5" in text  # not its digest
    assert "euclidean" in text.split('id="provenance"')[1]


def test_the_page_is_the_same_again(here, tmp_path, text, monkeypatch):
    run("report", "feats.h5", "--replicates", "200", "-q", "--overwrite")
    assert (here / "report.html").read_text(encoding="utf-8") == text


# Names


def test_hostile_names_are_shown_as_text():
    features = small(HOSTILE[:5])
    for names in (HOSTILE[:5], HOSTILE[3:]):
        features = small(names)
        entry = correction(features, "</script><svg onload=alert(3)>")
        text = rendered(features, entry, command="ltkit report '</pre><script>'")
        read = Page(text)
        assert len(read.all("script")) == 3
        assert not read.all("img")
        assert not read.all("svg")
        assert not [a for _, a in read.elements if "onerror" in a or "onload" in a]
        assert embedded(text)["classes"]["name"] == list(names)
        assert "\x1b" not in text
        assert "\u202e" not in text
        pairs = read.tables["table-pairs"]
        shown = {cell for row in pairs[1:] for cell in (row[0], row[2])}
        assert shown <= {name_shown(name) for name in names}
        assert len(shown) > 2
        found = embedded(text)["exhibits"]
        for exhibit in found.values():
            for view in exhibit["views"]:
                for trace in view["data"]:
                    texts = [trace.get("name", ""), *trace.get("text", ())]
                    texts += [*trace.get("labels", ()), *view["layout"].get("yaxis", {})]
                    assert not [t for t in texts if "<" in t.replace("<br>", "")]


def name_shown(name):
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return escaped if len(escaped) <= 60 else f"{escaped[:60]}…"


def test_a_very_long_name_is_cut():
    features = small(("n" * 1_000_000, "b", "c", "d", "e"))
    text = rendered(features)
    assert embedded(text)["classes"]["name"][0] == "n" * 300 + "…"
    assert len(text) < len(rendered(small(tuple("abcde")))) + 10_000


# What is left out


@pytest.mark.parametrize(
    ("features", "with_correction", "absent"),
    [
        (
            small(),
            False,
            {
                "deltas": "no fit with several rho",
                "frontier": "no correction to draw",
                "flows": "no correction",
                "alpha": "no AlphaNet fit",
                "tree": "neither WordNet ids nor superclasses",
            },
        ),
        (
            small(splits=("test",)),
            True,
            {"flows": "no classes with", "map": "no split train", "weights": "no split train"},
        ),
        (small(counts=(200, 150, 130, 120, 110)), True, {"frontier": "no few-shot class"}),
        (small(counts=(200, 150, 130, 120, 0)), True, {"weights": None}),
        (small(counts=(200, 5)), True, {"map": "too few for a map", "weights": None}),
        (small(counts=(200,)), True, {"weights": "a single class"}),
        (small(counts=(3, 2, 2, 1, 1)), True, {"map": None, "weights": None}),
    ],
    ids=["bare", "test-only", "no-few", "zero-count", "two", "one", "all-few"],
)
def test_a_section_without_data_says_why(features, with_correction, absent):
    entries = [correction(features)] if with_correction else []
    collection = collected(features, *entries)
    parts = {part.key: part for part in sections.make(collection)}
    for key, why in absent.items():
        if why is None:
            assert parts[key].exhibits, key
        else:
            assert not parts[key].exhibits, key
            assert why in parts[key].absent
            assert "\n" not in parts[key].absent
    text = page.render(collection, list(parts.values()))
    assert text.count('<p class="absent">Left out: ') == sum(bool(p.absent) for p in parts.values())
    assert {"headline", "classes", "confusion", "calibration"} <= {
        key for key, part in parts.items() if part.exhibits
    }
    embedded(text)


def test_a_section_is_one_module(monkeypatch):
    features = small()
    exhibit = Exhibit(
        "samples", "Samples", "How many.", ("class",), [[0]], cells=[["class"], ["0"]]
    )
    shown = SimpleNamespace(
        KEY="new", TITLE="A new one",
        gather=lambda source: {"samples": source.samples}, draw=lambda found, source: [exhibit],
    )  # fmt: skip

    def nothing(source):
        raise InputError("nothing to show")

    absent = SimpleNamespace(KEY="none", TITLE="Another", gather=nothing, draw=None)
    more = {"One more?": (shown, absent)}
    monkeypatch.setattr(sections, "QUESTIONS", {**sections.QUESTIONS, **more})
    collection = collected(features)
    *_, new, none = parts = sections.make(collection)
    assert (new.key, new.found, new.exhibits) == ("new", {"samples": [20] * 5}, [exhibit])
    assert (none.absent, none.found, none.exhibits) == ("nothing to show", {}, ())
    text = page.render(collection, parts)
    assert [a["href"] for a in Page(text).all("a")][-2:] == ["#question-7", "#question-8"]
    assert '<h2 id="question-8">One more?</h2><section id="new"' in text
    assert embedded(text)["exhibits"]["samples"]["values"] == [[0]]
    assert "Left out: Another: nothing to show." in text


def test_without_training_features_nothing_is_said_of_distance():
    parts = sectioned(small(splits=("test",)))
    keys = [e.key for part in parts.values() for e in part.exhibits]
    assert "by-count" in keys
    assert "by-distance" not in keys


def test_of_a_composition_the_coefficients_that_act_are_drawn():
    features = small()
    base = features.classifier()
    fit = Correction(
        "alphanet", np.array([4]), base.weight[None, 4:5], base.bias[None, 4:5], ({"seed": 0},),
        extra={"alpha": np.array([[[0.75, -0.25]]]), "neighbor": np.array([[[0, 1]]])},
    )  # fmt: skip
    found = compose(fit, features, scale=0.5, prior_offset=1)
    part = sectioned(features, Entry("alphanet", "a.h5", found))["alpha"]
    (row,) = part.found["rows"]
    assert (row["class"], row["alpha"]) == ([4], [[0.375, -0.125]])
    assert len(part.exhibits[0].rows) == 2


def test_only_random_fits_have_no_heat_map():
    features = small()
    extra = {
        "alpha": np.array([[[0.5, 0.5]], [[1.0, 0.0]]]),
        "neighbor": np.array([[[0, 1]], [[1, 2]]]),
    }
    base = features.classifier()
    fit = Correction(
        "alphanet", np.array([4]), np.repeat(base.weight[None, 4:], 2, axis=0),
        np.zeros((2, 1), np.float32), ({"seed": 0}, {"seed": 1}), extra=extra,
    )  # fmt: skip
    part = sectioned(features, Entry("alphanet", "a.h5", fit))["alpha"]
    (row,) = part.found["rows"]
    assert row["neighbor"] == [[0, 1, 2]]
    assert row["alpha"] == [[0.5, 0.75, 0.0]]  # class 1 is a neighbour in both runs
    assert "random neighbours" in part.absent


def test_more_settings_than_a_page_holds():
    features = small()
    entries = [correction(features, f"m{n}") for n in range(source.DETAILED + 3)]
    collection = collected(features, *entries)
    assert collection.settings == ["baseline", *(f"m{n} tau 1" for n in range(source.DETAILED))]
    text = page.render(collection, sections.make(collection))
    assert "3 more settings are in the tables " in text
    tables = Page(text).tables
    assert len(tables["table-headline"]) == 2 + source.DETAILED
    assert len(tables["table-settings"]) == 1 + 3


def test_without_validation_every_setting_is_shown():
    features = small(splits=("train", "test"))
    entry = correction(features, runs=({"tau": 0.5}, {"tau": 1.0}))
    assert collected(features, entry).settings == ["baseline", "fixed tau 0.5", "fixed tau 1"]


def test_untested_classes_are_said_and_left_out():
    features = small()
    keep = features.split("test").labels != 2
    split = features.split("test")
    kept = FeatureSplit(split.features[keep], split.labels[keep])
    features = replace(features, splits={**features.splits, "test": kept})
    text = rendered(features)
    assert "1 class has no sample" in text
    found = embedded(text)
    assert found["classes"]["accuracy"][0][2] is None
    assert 2 not in columns(found["exhibits"]["by-count"])["class"]


@pytest.mark.more
def test_a_thousand_classes_fit():
    text = large()
    assert len(text.encode()) < 8_000_000
    found = embedded(text)
    assert found["evaluate"]["n"] == 50_000
    assert len(found["exhibits"]["confusion"]["views"][0]["data"][0]["z"]) == 100


@pytest.mark.slow
def test_a_thousand_classes_with_many_settings_fit():
    assert len(large(source.DETAILED).encode()) < 8_000_000


def test_long_lists_that_are_there_twice_are_stored_once():
    long, other = list(range(1000)), [str(n) for n in range(1000)]
    data = {
        "a": long, "b": {"c": list(long), "d": [{"x": other}, {"x": other}]}, "once": long[::-1],
        "short": [[1], [1]], "empty": [],
    }  # fmt: skip
    found = page._sharing(data)
    assert found["shared"] == [long, other]
    assert found["a"] == found["b"]["c"] == {"$shared": 0}
    assert found["b"]["d"] == [{"x": {"$shared": 1}}] * 2
    assert {name: found[name] for name in ("once", "short", "empty")} == {
        name: data[name] for name in ("once", "short", "empty")
    }
