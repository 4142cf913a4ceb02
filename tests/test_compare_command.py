import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ltkit
import ltkit as library
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.files import classifiers, hdf5
from ltkit.posthoc import group_bias, logit_adjust

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
EARLIER = ("feats.logit-adjust-sweep.h5", "feats.tau-norm.h5")


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def document(*words):
    return json.loads(run("compare", *words, "--json", "--replicates", "200", "-q").stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the bundled features and two corrections of them."""
    folder = tmp_path_factory.mktemp("compare")
    feats = shutil.copy(DEMO, folder / "feats.h5")
    run("posthoc", "logit-adjust", feats, "--sweep", "-q")
    run("posthoc", "tau-norm", feats, "--set", "tau=1", "-q")
    return folder


@pytest.fixture
def feats(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    for name in ("feats.h5", *EARLIER):
        Path(name).symlink_to(made / name)
    return tmp_path


def arrays(val=True):
    """A small features file with other contents."""
    rng = np.random.default_rng(0)
    found = {"weight": rng.normal(size=(3, 4)), "bias": np.zeros(3), "train_counts": [200, 50, 5]}
    for split in ("train", "val", "test")[:: 1 if val else 2]:
        found[f"{split}_features"] = rng.normal(size=(30, 4)).astype(np.float32)
        found[f"{split}_labels"] = np.arange(30) % 3
    np.savez("arrays.npz", **found)
    run("import", "arrays.npz", "-o", "small.h5", "-q", "--overwrite")


# The sweep


def test_a_sweep_has_the_whole_grid_each_as_if_set_alone(feats):
    correction, inputs = classifiers.read(Path("feats.logit-adjust-sweep.h5"))
    assert [r["tau"] for r in correction.runs] == list(logit_adjust.GRID["tau"])
    assert correction.method == "logit-adjust"
    assert inputs == {"features": hdf5.header(Path("feats.h5"))["digest"]}
    run("posthoc", "logit-adjust", "--set", "tau=1.3", "-o", "one.h5", "-q")
    one, _ = classifiers.read(Path("one.h5"))
    (place,) = [n for n, r in enumerate(correction.runs) if r["tau"] == 1.3]
    assert correction.runs[place] == one.runs[0]
    np.testing.assert_array_equal(correction.weight[place], one.weight[0])
    np.testing.assert_array_equal(correction.bias[place], one.bias[0])


def test_a_sweep_of_what_is_not_set_with_seeds(feats):
    run("posthoc", "group-bias", "--sweep", "--set", "medium=1", "-o", "g.h5", "-q")
    correction, _ = classifiers.read(Path("g.h5"))
    assert {r["medium"] for r in correction.runs} == {1.0}
    assert [r["few"] for r in correction.runs] == list(group_bias.GRID["few"])
    run("posthoc", "lws", "--sweep", "--seeds", "2", "--set", "epochs=1", "-o", "l.h5", "-q")
    correction, _ = classifiers.read(Path("l.h5"))
    rates = [r["learning_rate"] for r in correction.runs]
    assert [r["seed"] for r in correction.runs] == [0, 1] * (len(rates) // 2)
    assert rates[::2] == rates[1::2] == list(dict.fromkeys(rates))
    assert len(rates) > 2


def test_a_sweep_needs_no_validation_split_and_a_choice_takes_the_default(feats, ltkit):
    arrays(val=False)
    assert run("posthoc", "tau-norm", "small.h5", "--sweep").stdout == "small.tau-norm-sweep.h5\n"
    code, _, said = ltkit("posthoc", "tau-norm", "small.h5")
    assert code == 0
    assert "note: no val split to choose tau on: tau 1 is taken, the default of tau-norm" in said
    with pytest.raises(InputError, match="no validation split to choose tau on; set tau, or keep"):
        library.posthoc.tau_norm(library.read("small.h5"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (
            ("ncm",),
            "no parameter of ncm to try, beyond those set; its grid has none",
        ),
        (("tau-norm", "--set", "tau=1"), "its grid has tau; leave it out"),
    ],
)
def test_a_sweep_of_nothing(feats, ltkit, words, found):
    code, _, said = ltkit("posthoc", words[0], "--sweep", *words[1:])
    assert code == 2
    assert found in said
    assert said.count("\n") == 1


def test_a_sweep_on_a_corrected_file_keeps_where_it_is_from(feats):
    run("posthoc", "logit-adjust", "--from", "feats.tau-norm.h5", "--sweep", "-q")
    correction, _ = classifiers.read(Path("feats.tau-norm.logit-adjust-sweep.h5"))
    assert correction.method == "tau-norm+logit-adjust"
    names = [m["name"] for m in document("feats.h5")["methods"]]
    assert names == ["baseline", "logit-adjust", "tau-norm", "tau-norm+logit-adjust"]


# The command


def test_compare_agrees_with_evaluate(feats):
    compared = document()
    evaluated = json.loads(run("evaluate", "--json", "-q").stdout)
    accuracies = {
        (row["name"], row["settings"].get("tau")): row["accuracy"] for row in evaluated["rows"]
    }
    assert compared["schema"] == "ltkit.compare/2"
    assert (compared["features"], compared["split"], compared["n"]) == (
        "feats.h5", "test", evaluated["n"]
    )  # fmt: skip
    points = [(m["name"], p) for m in compared["methods"] for p in m["points"]]
    assert len(points) == len(accuracies) == 2 + len(logit_adjust.GRID["tau"])
    for name, point in points:
        assert point["accuracy"] == accuracies[name, point["settings"].get("tau")]
        low, high = point["interval"]["all"]
        assert low < point["accuracy"]["all"] < high


def test_the_chosen_setting_is_that_of_posthoc(feats):
    run("posthoc", "logit-adjust", "-o", "chosen.h5", "-q")
    (chosen,) = classifiers.read(Path("chosen.h5"))[0].runs
    points = document("feats.h5", EARLIER[0])["methods"][1]["points"]
    (point,) = [p for p in points if p["in_pairs"]]
    assert point["settings"]["tau"] == chosen["tau"]
    assert point["val"]["balanced"] == max(p["val"]["balanced"] for p in points)


def test_the_table_says_what_json_says(feats):
    table = run("compare", "--against", "baseline", "--replicates", "200", "-q").stdout
    found = document("--against", "baseline")
    assert {p["second"] for p in found["pairs"]} == {"baseline"}
    for pair in found["pairs"]:
        assert f"{100 * pair['difference']['few']:+.1f}" in table
        assert f"{pair['mcnemar']['only_first']} : {pair['mcnemar']['only_second']}" in table
        assert (f"{pair['p']['all']:.2g}" if pair["p"]["all"] >= 1e-4 else "<0.0001") in table
        wins, losses = (len(pair["classes"][part]) for part in ("wins", "losses"))
        assert f"{wins}, {losses}, {pair['classes']['ties']}" in table
    frontier = found["frontier"]
    for gap in frontier["gaps"]:
        if gap["gap"] is not None:
            assert f"{100 * gap['gap']:+.1f}" in table
    hidden = sum(not p["in_pairs"] for m in found["methods"] for p in m["points"])
    assert f"{hidden} other settings: --all" in table
    assert "* best on val by balanced accuracy" in table
    last = frontier["best"][-1]
    assert f"to {100 * last['to']:.1f} % {last['method']}" in table


def test_without_a_rival_the_table_has_the_leader_and_its_gap(feats):
    table = run("compare", "--at", "20,99", "-q").stdout
    found = document("--at", "20,99")["frontier"]
    assert found["overall"] == [0.2, 0.99]
    few = {name: values[0] for name, values in found["few"].items()}
    first, second, _ = sorted(few, key=few.get, reverse=True)
    (gap,) = [g for g in found["gaps"] if (g["first"], g["second"], g["overall"]) ==
              (first, second, 0.2)]  # fmt: skip
    head, lead = (table.split("the best's gap to the next")[n].split("\n") for n in (0, 1))
    assert lead[0].split() == [first]
    assert lead[1].split() == [f"{100 * gap['gap']:+.1f}"]
    assert head[-2].split() == ["tau-norm", f"{100 * few['tau-norm']:.1f}", "–"]
    assert all(values[1] is None for values in found["few"].values())


def test_a_gap_that_not_every_replicate_has_is_open(feats):
    """Just below where a curve ends, it falls short in some replicates."""
    ends = {m["name"]: max(p["accuracy"]["all"] for p in m["points"] if p["on_curve"])
            for m in document()["methods"]}  # fmt: skip
    assert ends["baseline"] < ends["tau-norm"] < ends["logit-adjust"]
    words = ("--at", f"{100 * ends['tau-norm'] - 0.01:.2f}", "--against")
    (_, gap) = document(*words, "logit-adjust")["frontier"]["gaps"]
    assert gap["first"] == "tau-norm"
    assert gap["interval"][0] is None
    shown = f"-∞ to {100 * gap['interval'][1]:+.1f} "
    assert shown in run("compare", *words, "logit-adjust", "--replicates", "200", "-q").stdout
    (_, turned) = document(*words, "tau-norm")["frontier"]["gaps"]
    assert turned["interval"] == [-gap["interval"][1], None]
    shown = f"{-100 * gap['interval'][1]:+.1f} to ∞ "
    assert shown in run("compare", *words, "tau-norm", "--replicates", "200", "-q").stdout


def test_csv_has_every_setting(feats):
    run("compare", "--csv", "all.csv", "--replicates", "200", "-q")
    rows = list(csv.DictReader(io.StringIO(Path("all.csv").read_text(encoding="utf-8"))))
    points = [p for m in document()["methods"] for p in m["points"]]
    assert len(rows) == 5 * len(points)
    for point, row in zip(points, rows[::5], strict=True):
        assert (row["setting"], row["group"], row["seeds"]) == (point["label"], "few", "1")
        assert float(row["accuracy"]) == pytest.approx(point["accuracy"]["few"], abs=1e-6)
        assert float(row["low"]) == pytest.approx(point["interval"]["few"][0], abs=1e-6)
        assert row["std"] == ""


def test_alphanets_rhos_make_a_curve_with_seeds(feats, one_thread):
    run(
        "alphanet", "fit", "--rho", "0.25,2", "--seeds", "2", "--epochs", "6", "-o", "a.h5", "-q"
    )  # fmt: skip
    found = document("feats.h5", "a.h5", "feats.tau-norm.h5")
    assert [m["name"] for m in found["methods"]] == ["baseline", "alphanet", "tau-norm"]
    points = found["methods"][1]["points"]
    assert [p["settings"]["rho"] for p in points] == [0.25, 2]
    assert [p["runs"] for p in points] == [2, 2]
    assert points[0]["std"]["few"] is not None
    assert sum(p["in_pairs"] for p in points) == 1
    table = run("compare", "feats.h5", "a.h5", "--every-setting", "-q").stdout
    assert "± std over 2 seeds" in table
    assert "best on val" not in table
    assert "other settings" not in table
    assert found["methods"][1]["knob"] == "rho"


def test_which_files_are_read(feats, ltkit, monkeypatch):
    names = [["baseline", "logit-adjust", "tau-norm"], ["baseline", "tau-norm"]]
    assert [m["name"] for m in document("feats.h5")["methods"]] == names[0]
    assert [m["name"] for m in document("feats.h5", EARLIER[1])["methods"]] == names[1]
    assert [m["name"] for m in document(EARLIER[1])["methods"]] == names[1]
    assert document(EARLIER[1])["features"] == "feats.h5"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{EARLIER[1]}\n".encode())))
    assert ltkit("compare", "-", "--replicates", "100")[0] == 0


def test_the_same_command_prints_the_same(feats):
    assert run("compare").stdout == run("compare").stdout


def test_another_split_and_other_bins(feats):
    found = document("--split", "val")
    assert found["split"] == "val"
    (point, *_) = [p for p in found["methods"][1]["points"] if p["in_pairs"]]
    assert point["accuracy"] == point["val"]
    table = run("compare", "--bins", "1,5", "-q").stdout
    assert "no few-shot class in this split: no curves" in table
    assert "under" not in table
    assert "beaten in" in table
    assert document("--bins", "1,5")["frontier"] is None


def test_classes_that_no_sample_tests(feats):
    arrays()
    with np.load("arrays.npz") as file:
        content = dict(file)
    content["test_labels"] = content["test_labels"] // 2  # none of class 2 ...
    content["train_counts"] = [5, 5, 200]  # ... which is the frequent one
    np.savez("arrays.npz", **content)
    run("import", "arrays.npz", "-o", "small.h5", "-q", "--overwrite")
    run("posthoc", "tau-norm", "small.h5", "--set", "tau=1", "-q")
    table = run("compare", "small.h5", "-q").stdout
    assert "1 classes have no sample in this split: left out" in table
    assert "–" in table


def test_figures_of_one_sample_have_no_interval(feats):
    arrays()
    with np.load("arrays.npz") as file:
        content = {n: v[:3] if n.startswith("test") else v for n, v in file.items()}
    np.savez("arrays.npz", **content)
    run("import", "arrays.npz", "-o", "small.h5", "-q", "--overwrite")
    run("posthoc", "tau-norm", "small.h5", "--set", "tau=0", "-q")  # the head without its bias: 0
    lines = run("compare", "small.h5", "--against", "baseline", "--at", "0", "-q").stdout
    assert "+0.0\n" in lines.replace(" ", "")
    assert lines.count("no interval") > 8


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("feats.h5", "small.h5"), "small.h5: "),
        (("feats.h5", "small.tau-norm-sweep.h5"), "small.tau-norm-sweep.h5: fitted on features"),
        (("small.h5", "feats.tau-norm.h5"), "feats.tau-norm.h5: fitted on features"),
        (("small.h5",), "test: found no sample"),
        (("small.h5", "--split", "val"), "no split val; there are: train, test"),
        (("small.h5", "--split", "train"), "no validation split to choose a setting of tau-norm"),
        (("absent.h5",), "absent.h5"),
        (("feats.h5", "absent.h5"), "absent.h5"),
        (("feats.h5", "--split", "dev"), "no split dev; there are: train, val, test"),
        (("feats.h5", "--against", "tau-nrom"), "did you mean tau-norm tau 1"),
        (("feats.h5", "--against", "logit-adjust", "--every-setting"), "--against: found"),
        (("feats.h5", "--at", "40,x"), "--at: found '40,x', expected numbers"),
        (("feats.h5", "--at", "140"), "--at: found 140, expected a number from 0 to 100"),
        (("feats.h5", "--bins", "5"), "--bins: found 5"),
        (("feats.h5", "--csv", "feats.tau-norm.h5", "--overwrite"), "feats.tau-norm.h5"),
        (("feats.h5", "--csv", "here.csv"), "here.csv"),
    ],
)
def test_wrong_words_are_one_line_and_exit_2(feats, ltkit, words, found):
    arrays(val=False)
    with np.load("arrays.npz") as file:
        content = dict(file)
    content |= {"test_features": np.empty((0, 4), np.float32), "test_labels": np.arange(0)}
    np.savez("arrays.npz", **content)
    run("import", "arrays.npz", "-o", "small.h5", "-q", "--overwrite")
    run("posthoc", "tau-norm", "small.h5", "--sweep", "-q")
    Path("here.csv").write_text("kept", encoding="utf-8")
    code, out, said = ltkit("compare", *words, "-q")
    assert code == 2
    assert found in said
    assert (out, said.count("\n")) == ("", 1)
    assert Path("here.csv").read_text(encoding="utf-8") == "kept"


def test_a_file_alone_has_nothing_to_be_compared_with(feats, ltkit):
    for name in EARLIER:
        Path(name).unlink()
    code, _, said = ltkit("compare", "feats.h5", "-q")
    assert code == 2
    assert "feats.h5: found no correction of it, expected one or more" in said
