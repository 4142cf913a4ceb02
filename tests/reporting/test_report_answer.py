"""What stands at the top of the page: the answer, its tables, and the command that ships it."""

import shlex
from dataclasses import replace

import numpy as np
import pytest
from reports import Page, collected, correction, embedded, printed, records, rendered, run, small
from sklearn.metrics import confusion_matrix

import ltkit
from ltkit.evaluation import Entry
from ltkit.files import features as features_file
from ltkit.records import Correction
from ltkit.reporting import advice, page, sections, source
from ltkit.reporting.advice import Advice

CHOSEN = {"label": "m tau 1", "keep": False, "reason": "its gain is beyond noise", "wins": 0.5}


def answer(features, *entries, **more):
    """The section at the top of the page."""
    return sections.make(collected(features, *entries, **more))[0]


def told(part):
    return dict(part.found["sentences"])


def table(part, key):
    (exhibit,) = (e for e in part.exhibits if e.key == key)
    return exhibit


def advised(entry=0, **more):
    return Advice(**{"entry": entry, **{**CHOSEN, **more}})


@pytest.fixture(scope="module")
def top(answered):
    text = answered.read_text(encoding="utf-8")
    return text, embedded(text)


def test_the_table_has_the_differences_of_evaluate(top, folder, answered):
    text, found = top
    rows = {(r["setting"], r["group"]): r for r in records(found["exhibits"]["answer"])}
    chosen = answered.parent / "feats.recommended.h5"
    said = printed("evaluate", folder / "feats.h5", "--classifier", chosen)["rows"]
    (first, second) = said
    label = Page(text).tables["table-answer"][2][0].split("\n")[0]
    assert second["name"].startswith("recommended (")
    for group in ("few", "medium", "many", "all"):
        assert rows["baseline", group]["accuracy"] == first["accuracy"][group]
        row, (low, high) = rows[label, group], second["difference_interval"][group]
        assert row["difference"] == second["difference"][group]
        assert (row["low"], row["high"]) == (low, high)
        assert row["verdict"] == ("gain" if low > 0 else "loss" if high < 0 else "noise")
    verdicts = {row["verdict"] for row in rows.values()}
    assert {"gain", "loss"} < verdicts


def test_marks_say_what_colours_say(top):
    text, found = top
    marks = {"gain": "▲", "loss": "▼", "noise": "≈"}
    rows = [r for r in records(found["exhibits"]["answer"]) if r["verdict"]]
    cells = [cell for line in Page(text).tables["table-answer"][2:] for cell in line[1:]]
    classes = [a.get("class") for a in Page(text).all("td")][4 : 4 + len(cells)]
    assert len(rows) == len(cells) == 12
    for row, cell, shown in zip(rows, cells, classes, strict=True):
        assert cell.startswith(f"{marks[row['verdict']]} {100 * row['difference']:+.1f}\n")
        assert shown == row["verdict"]


def test_the_recommended_one_comes_first_everywhere(top):
    text, found = top
    lead = found["labels"][1]
    assert lead.startswith("recommended (")
    assert "★ recommended" in Page(text).tables["table-answer"][2][0]
    assert found["exhibits"]["by-count"]["views"][0]["setting"] == 1
    assert text.split('data-views="by-count">')[1].split("</option>")[0].endswith(f">{lead}")
    first = text.split('data-views="flows">')[1].split("</option>")[0]
    assert first.endswith(lead)


def test_the_worst_rare_classes_are_those_of_scikit_learn(top, folder):
    text, found = top
    features = features_file.read(folder / "feats.h5")
    test, names = features.split("test"), list(features.classes.names)
    values = np.asarray(test.features[0 : len(test)], np.float32)
    own = features.classifier().logits(values).argmax(axis=1)
    counts = confusion_matrix(test.labels, own, labels=range(100))
    share = counts.diagonal() / counts.sum(axis=1)
    rare = [c for c in range(100) if features.classes.train_count[c] < 20]
    worst = sorted(rare, key=lambda c: (share[c], features.classes.train_count[c]))[:10]
    body = Page(text).tables["table-worst"][1:]
    assert [line[0] for line in body] == [names[c] for c in worst]
    for c, line in zip(worst, body, strict=True):
        others = np.where(np.arange(100) == c, -1, counts[c])
        top = np.argsort(-others, kind="stable")[:3]
        assert line[3] == "\n".join(f"{names[o]} {counts[c, o]}" for o in top if others[o] > 0)
        assert line[2] == f"{100 * share[c]:.1f} %"
    rows = records(found["exhibits"]["worst"])
    accuracy = found["classes"]["accuracy"]
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    for row in rows:
        at = settings.index(row["setting"])
        assert row["accuracy"] == accuracy[at][row["class"]]
        assert row["change"] == pytest.approx(row["accuracy"] - accuracy[0][row["class"]], abs=1e-6)


def test_the_command_ships_the_recommended_file(top, answered):
    text, _ = top
    command = text.split('<code id="command">')[1].split("</code>")[0]
    wanted = ["ltkit", "export", str(answered.parent / "feats.recommended.h5")]
    assert shlex.split(command)[:3] == wanted
    assert command.endswith("--into CKPT -o fixed.pt")


def test_sentences_say_the_numbers(top):
    text, found = top
    rows = {(r["setting"], r["group"]): r for r in records(found["exhibits"]["answer"])}
    said = dict(part.split("</dt><dd>") for part in text.split("<dt>")[1:] if "</dd>" in part)
    label = next(setting for setting, _ in rows if setting != "baseline")
    few, many = rows[label, "few"], rows[label, "many"]
    assert said["Ship"].startswith(f"{label}: on test (10000 images) rare classes (few) gain ")
    assert f"gain {100 * few['difference']:.1f} points" in said["Ship"]
    assert f"lose {-100 * many['difference']:.1f} points" in said["Cost"]
    before, after = (np.array(found["classes"]["accuracy"][place]) for place in (0, 1))
    lost = int((after < before).sum())
    assert f"{lost} classes of 100 are right less often" in said["Cost"]
    most = int((after - before).argmin())
    assert f"most of all {found['classes']['name'][most]}: " in said["Cost"]
    rare = np.array([group == "few" for group in found["classes"]["group"]])
    failing = int((after[rare] < 0.2).sum())
    assert f"{failing} of 30 rare classes are right in less than 20 %" in said["How sure"]
    assert "wins in " in said["How sure"]


# Without a recommendation


def test_the_best_on_val_is_named_where_nothing_was_recommended():
    features = small()
    wrong = Correction.whole("wrong", replace(
        features.classifier(), bias=np.float32([9, 0, 0, 0, 0]))
    )  # fmt: skip
    entries = [Entry("wrong", "w.h5", wrong), correction(features)]
    part = answer(features, *entries)
    val = features.split("val")
    balanced = []
    for one in (Correction.baseline(features.classifier()), entries[1].correction):
        head = one.classifier(features.classifier(), 0)
        right = head.logits(val.features).argmax(axis=1) == val.labels
        balanced.append(np.mean([right[val.labels == c].mean() for c in range(5)]))
    assert part.found["on_val"][:2] == pytest.approx(balanced)
    assert balanced[1] > balanced[0]
    assert "fixed tau 1 is the best on val" in told(part)["Ship"]
    assert f"{100 * balanced[1]:.1f} % balanced accuracy there" in told(part)["Ship"]
    assert part.found["command"].startswith("ltkit recommend ")
    lines = table(part, "answer").cells
    assert lines[2][0].text == "fixed tau 1\n★ best on val"
    assert lines[3][0].text == "wrong"
    part = answer(features, entries[0])
    assert "None of the corrections shown beats the model on val" in told(part)["Ship"]
    assert table(part, "answer").cells[1][0].text == "baseline\n★ keep"


def test_what_was_chosen_on_the_images_shown_looks_too_good():
    features = small()
    found = source.collect(features, "val", [correction(features)], replicates=100)
    assert "too good" in told(sections.make(found)[0])["Ship"]


def test_without_val_nothing_is_chosen():
    features = small(splits=("train", "test"))
    part = answer(features, correction(features, runs=({"tau": 0.5}, {"tau": 1.0})))
    assert part.found["lead"] is None
    assert "Nothing was chosen" in told(part)["Ship"]
    assert "in the table" in told(part)["Cost"]
    assert not [line for line in table(part, "answer").cells if "★" in str(line[0])]


def test_without_corrections_the_model_stands_alone():
    part = answer(small())
    assert told(part)["Ship"].startswith("No correction was made yet")
    assert "rare classes" in told(part)["How sure"]
    assert len(table(part, "worst").cells) == 3  # its two rare classes


def test_without_rare_classes_the_rarest_group_is_shown():
    part = answer(small(counts=(200, 150, 130, 120, 110)))
    assert "Classes of the group many" in table(part, "worst").caption


# With a recommendation


def test_a_choice_that_keeps_the_model():
    features = small()
    entries = [correction(features)]
    part = answer(features, *entries, advice=advised(1, keep=True, reason="all is within noise"))
    assert told(part)["Ship"] == "Keep the model as it is: all is within noise."
    assert told(part)["Cost"] == "Nothing is changed, so nothing is lost."
    assert table(part, "answer").cells[1][0].text == "baseline\n★ keep"
    assert part.found["command"] == ""


def test_a_choice_without_folds_says_that_nothing_was_estimated():
    features = small(splits=("train", "test"))
    part = answer(features, correction(features), advice=advised(wins=None, reason="no val"))
    assert "The gain was not estimated before: no val." in told(part)["How sure"]


def test_a_gain_that_costs_nothing():
    features = small()
    same = Correction.whole("same", features.classifier())
    part = answer(features, Entry("same", "s.h5", same), advice=advised())
    assert told(part)["Cost"] == "No group loses beyond noise."


@pytest.mark.parametrize(
    "choice",
    [
        None, [], {}, {**CHOSEN, "keep": 1}, {**CHOSEN, "wins": 2}, {**CHOSEN, "wins": "all"},
        {**CHOSEN, "label": None}, {**CHOSEN, "reason": {}}, {**CHOSEN, "wins": float("nan")},
    ],
)  # fmt: skip
def test_what_is_no_choice_is_no_recommendation(choice):
    features = small()
    files = [{"file": "fixed.h5", "settings": {"choice": choice}}]
    entries = [correction(features)]
    assert advice.stored(files, entries, features) is None
    files[0]["settings"]["choice"] = CHOSEN
    found = advice.stored(files, entries, features)
    assert (found.label, found.command) == (
        "m tau 1", "ltkit export fixed.h5 --to npz -o head.npz"
    )  # fmt: skip


ESTIMATE = {
    "n": 200, "objective": "few", "limits": [{"group": "all", "least": -0.005}],
    "folds": {"folds": 5, "repeats": 10}, "objective_gain": 0.1, "objective_interval": [0.05, 0.15],
    "runner_up": {"label": "bias", "behind": 0.02, "interval": [0.01, 0.03], "within_noise": False},
}  # fmt: skip


def test_a_file_tells_the_rule_the_gain_and_the_next_best():
    features = small()
    files = [{"file": "fixed.h5", "settings": {"choice": CHOSEN, "estimate": ESTIMATE}}]
    entries = [correction(features)]
    part = answer(features, *entries, advice=advice.stored(files, entries, features))
    assert told(part)["How sure"].startswith(
        "Chosen for few accuracy, with all at -0.5 or more, by cross-validation inside val"
    )
    assert "of 50 folds of its 200 images" in told(part)["How sure"]
    assert "gained +10.0 points of few accuracy (+5.0 to +15.0)" in told(part)["How sure"]
    assert "next is bias: 2.0 points behind, beyond noise" in told(part)["How sure"]


@pytest.mark.parametrize(
    "change",
    [
        {"n": "many"}, {"objective": None}, {"limits": 3}, {"limits": [{"group": 1, "least": 0}]},
        {"folds": None}, {"folds": {"folds": float("inf"), "repeats": 1}},
        {"objective_gain": float("nan")}, {"objective_interval": [1]}, {"runner_up": {"label": 0}},
        {"runner_up": {**ESTIMATE["runner_up"], "label": None}},
    ],
)  # fmt: skip
def test_an_estimate_that_is_none_is_not_told(change):
    features = small()
    files = [{"file": "fixed.h5", "settings": {"choice": CHOSEN, "estimate": ESTIMATE | change}}]
    assert advice.stored(files, [correction(features)], features).document is None


def test_hostile_choices_are_text():
    features = small()
    hostile = "</dd><script>alert(1)</script>"
    told = advised(label=hostile, reason=hostile, command=f"ltkit {hostile}")
    collection = collected(features, correction(features), advice=told)
    read = Page(page.render(collection, sections.make(collection)))
    assert len(read.all("script")) == 3
    assert hostile in read.tables["table-answer"][2][0]


def test_a_call_shows_what_was_tried(tmp_path):
    features = small()
    found = ltkit.recommend(features, methods=["logit-adjust", "bias"], repeats=2)
    path = ltkit.report(features, recommended=found, output=tmp_path / "r.html")
    text = path.read_text(encoding="utf-8")
    read, next_one = embedded(text)["exhibits"], found.document["runner_up"]
    assert f"next is {next_one['label']}: {100 * abs(next_one['behind']):.1f} points" in text
    assert f"({100 * found.document['objective_interval'][0]:+.1f} to " in text
    assert {row["setting"].split(" ")[0] for row in records(read["tried"])} == {
        "logit-adjust", "bias"
    }  # fmt: skip
    gains = {(r["setting"], r["group"]): r["gain"] for r in records(read["tried"])}
    for row in found.document["rows"]:
        assert gains[row["label"], "few"] == row["gain"]["few"]


def test_a_file_that_keeps_the_model_is_no_correction(tmp_path, folder):
    chosen = tmp_path / "feats.recommended.h5"
    quick = ("--methods", "logit-adjust", "--repeats", "2", "--keep", "all=90", "-q")
    run("recommend", folder / "feats.h5", *quick, "-o", chosen)
    run("report", folder / "feats.h5", "--classifier", chosen, "-o", tmp_path / "r.html",
        "--replicates", "100", "-q")  # fmt: skip
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert embedded(text)["labels"] == ["baseline"]
    assert "Keep the model as it is: no correction is ahead" in text


def test_single_things_are_one():
    features = small(counts=(200, 50, 40, 30, 3))
    read = Page(rendered(features, correction(features)))
    heads = [head.split("\n")[-1] for head in read.tables["table-answer"][0][1:4]]
    assert heads == ["1 class", "3 classes", "1 class"]
    assert "The worst rare class, and where its images go" in rendered(features)
