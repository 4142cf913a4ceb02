"""The report of several networks on one test set."""

from dataclasses import replace

import numpy as np
import pytest
from browsing import draw_all, opened
from reports import collected, columns, correction, embedded, rendered, sectioned, small

from ltkit.evaluation import networks
from ltkit.records import ClassTable, Head


def both(**more):
    """Two networks, the second with three mixed features of the first, and shorter rows."""
    first, rng = small(**more), np.random.default_rng(3)
    axes = rng.normal(size=(6, 3)).astype(np.float32)
    splits = {
        name: replace(split, features=split.features @ axes) for name, split in first.splits.items()
    }
    head = Head(first.head.weight @ axes / 2, first.head.bias)
    second = replace(first, splits=splits, head=head, source="swrm.h5")
    first, second = networks.named([replace(first, source="ce.h5"), second])
    return first, second, networks.own_head(first, second)


def test_the_second_network_is_shown_as_it_is_alone():
    a, b, entry = both()
    parts, alone = sectioned(a, entry), sectioned(b)
    assert collected(a, entry).settings == ["ce", "swrm"]
    for key, column in (("calibration", "rows"), ("confusion", "count"), ("norms", "norm")):
        assert parts[key].found[column][1] == alone[key].found[column][0]
    assert parts["confusion"].found["by_group"][1] == alone["confusion"].found["by_group"][0]
    mine = parts["norms"].found["groups"][1]
    lengths = np.linalg.norm(b.head.weight.astype(np.float64), axis=1)
    assert mine["deviation"]["all"] == pytest.approx(lengths.std())
    assert mine["mean"]["few"] == pytest.approx(lengths[3:].mean())
    line = parts["norms"].exhibits[1].cells[2]
    assert line[0] == "swrm"
    assert line[-1] == f"{100 * lengths.std():.1f}"


def test_flows_go_from_one_network_to_the_other():
    a, _, entry = both()
    rows = sectioned(a, entry)["flows"].found["rows"]
    every = next(row for row in rows if row["samples"] == "all")
    labels = a.split("test").labels
    right = [
        of.classifier().logits(of.split("test").features).argmax(axis=1) == labels
        for of in (a, entry.network)
    ]
    assert every["count"][0][0] == (right[0] & right[1]).sum()
    assert every["label"] == "swrm"


def test_the_best_on_val_is_named_where_both_have_its_images():
    a, b, entry = both()
    answer = sectioned(a, entry)["answer"].found
    assert answer["on_val"] is not None
    val = a.split("val").labels
    own = b.classifier().logits(b.split("val").features).argmax(axis=1) == val
    assert answer["on_val"][1] == pytest.approx(np.mean([own[val == c].mean() for c in range(5)]))
    told = dict(answer["sentences"])
    assert "of the networks shown" in told["Ship"] or "None of the networks" in told["Ship"]
    assert "not for networks trained anew" in told["How sure"]
    other = replace(b, splits={**b.splits, "val": b.split("val").at(np.arange(7))})
    without = sectioned(a, networks.own_head(a, other))["answer"].found
    assert without["on_val"] is None
    assert "share no validation images" in dict(without["sentences"])["Ship"]
    assert dict(without["sentences"])["Cost"].startswith("What each network takes from whom")


def test_a_correction_of_the_second_network_is_measured_on_its_own_head():
    a, b, entry = both()
    fixed = networks.of_network(correction(b), b, a)
    parts, alone = sectioned(a, entry, fixed), sectioned(b, correction(b))
    place = collected(a, entry, fixed).settings.index("swrm fixed tau 1")
    assert parts["calibration"].found["rows"][place] == alone["calibration"].found["rows"][1]
    assert parts["norms"].found["norm"][place] == alone["norms"].found["norm"][1]
    assert parts["deltas"].absent


def test_loss_weights_have_a_view_for_each_network_that_differs():
    a, b, entry = both()
    found = sectioned(a, entry)["weights"]
    assert [view.name for view in found.exhibits[0].views] == ["ce", "swrm"]  # other means
    assert found.exhibits[0].columns[4].startswith("ce: class-balanced")
    same = sectioned(a, networks.own_head(a, replace(a, source="x.h5", called="x")))["weights"]
    assert [view.name for view in same.exhibits[0].views] == [""]
    untrained = {name: split for name, split in b.splits.items() if name != "train"}
    counts = ClassTable(np.array([100, 50, 40, 5, 3]))
    for other in (replace(b, splits=untrained), replace(b, classes=counts)):
        part = sectioned(a, replace(entry, network=other))["weights"]
        assert part.absent == ""
    none = replace(b, classes=ClassTable(np.array([100, 50, 40, 5, 0])))
    part = sectioned(a, replace(entry, network=none))["weights"]
    assert [view.name for view in part.exhibits[0].views] == [""]


def test_the_page_names_both_networks(tmp_path, browser):
    a, b, entry = both(names=("cat", "<b>dog</b>", "cow", "4", "=rare"))
    fixed = networks.of_network(correction(b), b, a)
    text = rendered(a, entry, fixed)
    data = embedded(text)
    assert sorted(data["labels"]) == ["ce", "swrm", "swrm fixed tau 1"]
    assert {"ce", "swrm"} <= set(columns(data["exhibits"]["norms"]))
    assert "<title>Report of ce.h5, swrm.h5</title>" in text
    assert "the baseline" not in data["exhibits"]["flows"]["title"]
    target = tmp_path / "page.html"
    target.write_text(text, encoding="utf-8")
    with opened(browser, target) as page:
        draw_all(page)
        assert page.locator("#table-norms-groups tbody tr").count() == 3
        assert (
            page.locator("#figure-flows figcaption")
            .inner_text()
            .startswith("Left: predictions of ce, right: of the other network or correction")
        )
        page.locator("select[data-views=by-count]").select_option("1")
        page.wait_for_selector("#plot-by-count[data-drawn='1']")
        legend = page.locator("#plot-by-count .legendtext").all_text_contents()
        assert legend[0] == "ce"
