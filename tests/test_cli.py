import csv
import errno
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ltkit import __version__, cli
from ltkit.cli import _options, _output, _paths, app
from ltkit.errors import InputError, SettingError
from ltkit.files import classifiers

HEAVY = ("torch", "sklearn", "scipy", "pandas", "h5py", "numpy", "faiss", "PIL", "rich.table")


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def feats(tmp_path, monkeypatch):
    """A working folder with a made long-tailed feats.h5 of eight classes with CIFAR's wnids."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    rng = np.random.default_rng(0)
    counts = (300, 200, 150, 60, 40, 30, 10, 5)
    centres = rng.normal(size=(8, 12))
    arrays = {
        "weight": centres.astype(np.float32),
        "bias": np.log(counts).astype(np.float32),
        "class_names": np.array([f"class {i}" for i in range(8)]),
        "wnids": np.array(["n02084071"] * 2 + ["n02121620"] * 2 + ["n02958343"] * 4),
    }
    for split, numbers in (("train", counts), ("val", (15,) * 8), ("test", (25,) * 8)):
        labels = np.repeat(np.arange(8), numbers)
        arrays[f"{split}_labels"] = labels
        noise = rng.normal(size=(len(labels), 12))
        arrays[f"{split}_features"] = (centres[labels] + noise).astype(np.float32)
    np.savez("arrays.npz", **arrays)
    run("import", "arrays.npz", "-o", "feats.h5", "-q")
    return tmp_path


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['ltkit', '--help']\n" + (
        "from ltkit.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_message_stays_one_short_line(monkeypatch, capsys):
    def fail():
        raise InputError("m.pt: " + "é\n" * 9000 + "the end")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("ltkit: m.pt: é\\né")
    assert said.endswith("the end\n")
    assert said.count("\n") == 1
    assert len(said) <= _output.LONGEST + len("ltkit: \n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 7.28 TiB for an array"), "Unable to allocate 7.28 TiB"),
        (MemoryError(), "what was asked for is too large"),
        (RuntimeError("[...] can't allocate memory: you tried to allocate 99 bytes."), "99 bytes;"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"), "2.00 GiB;"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (SettingError("learning_rate", "found 0"), "--lr: found 0"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
    ],
)
def test_what_is_too_large_is_one_line(monkeypatch, capsys, error, said):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1)
    assert said in err


def test_other_errors_of_torch_are_bugs(monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_every_command_has_help_with_an_example():
    def commands(typer_app, prefix=()):
        for command in typer_app.registered_commands:
            yield (*prefix, command.name or command.callback.__name__)
        for group in typer_app.registered_groups:
            yield from commands(group.typer_instance, (*prefix, group.name))

    found = list(commands(app))
    assert ("alphanet", "fit") in found
    for words in found:
        assert "Example: ltkit" in run(*words, "--help").output, words


def test_version():
    assert run("--version").output == f"ltkit {__version__}\n"


def test_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "ltkit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ltkit ")


def test_which_features_file_is_read(feats, monkeypatch):
    assert _paths.features_path(None, True) == Path("feats.h5")
    assert _paths.features_path("other.h5", True) == Path("other.h5")
    Path("feats.h5").rename("only.h5")
    assert _paths.features_path(None, True) == Path("only.h5")
    monkeypatch.setenv("LTKIT_FEATURES", "named.h5")
    with pytest.raises(InputError, match="LTKIT_FEATURES names it"):
        _paths.features_path(None, True)
    Path("only.h5").rename("named.h5")
    assert _paths.features_path(None, True) == Path("named.h5")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped.h5\n")))
    assert _paths.features_path("-", True) == Path("piped.h5")


def test_a_classifier_stands_for_its_features(feats):
    run("posthoc", "ncm", "-q")
    assert _paths.features_path("feats.ncm.h5", True) == Path("feats.h5")
    Path("feats.h5").unlink()
    with pytest.raises(InputError, match="no such file beside it"):
        _paths.features_path("feats.ncm.h5", True)


def test_empty_stdin(feats):
    result = CliRunner().invoke(app, ["evaluate", "-"], input="")
    assert isinstance(result.exception, InputError)


def test_alphanet_fit_keeps_what_made_each_run(feats):
    run("alphanet", "fit", "--k", "3", "--rho", "0.5,2", "--seeds", "2", "--epochs", "6", "-q")
    correction, inputs = classifiers.read(Path("feats.alphanet.h5"))
    assert [(r["rho"], r["seed"]) for r in correction.runs] == [(2, 0), (2, 1), (0.5, 0), (0.5, 1)]
    assert correction.extra["alpha"].shape == (4, 2, 3)
    assert correction.extra["val_accuracy"].shape == (4, 6)
    assert correction.class_id.tolist() == [6, 7]
    assert set(inputs) == {"features"}


def test_variants_set_where_paper_and_code_differ(feats):
    common = ["alphanet", "fit", "--k", "3", "--epochs", "5", "-q"]
    run(*common, "--variant", "code", "-o", "code.h5")
    run(*common, "--variant", "code", "--few-biases", "learned", "-o", "mixed.h5")
    code, _ = classifiers.read(Path("code.h5"))
    mixed, _ = classifiers.read(Path("mixed.h5"))
    assert code.runs[0]["network_input"] == mixed.runs[0]["network_input"] == "own+neighbors"
    assert code.runs[0]["few_biases"] == "frozen"
    np.testing.assert_allclose(code.bias[0], np.log([10, 5]), rtol=1e-6)
    assert (mixed.bias != code.bias).all()


def test_the_random_control_draws_neighbours_for_each_seed(feats):
    common = ["alphanet", "fit", "--k", "2", "--epochs", "5", "--seeds", "4", "-q"]
    run(*common, "--metric", "random", "-o", "random.h5")
    run(*common, "-o", "nearest.h5")
    random, _ = classifiers.read(Path("random.h5"))
    nearest, _ = classifiers.read(Path("nearest.h5"))
    assert len({row.tobytes() for row in random.extra["neighbor"]}) > 1
    assert len({row.tobytes() for row in nearest.extra["neighbor"]}) == 1


def test_same_command_same_bytes(feats):
    for method in (["posthoc", "tau-norm"], ["alphanet", "fit", "--k", "3", "--epochs", "5"]):
        contents = []
        for _ in range(2):
            run(*method, "-o", "out.h5", "--overwrite", "-q")
            contents.append(Path("out.h5").read_bytes())
        assert contents[0] == contents[1]


def test_posthoc_says_what_it_tried_and_takes_what_is_set(feats):
    result = run("posthoc", "tau-norm", "--all", "-o", "a.h5")
    assert "tau 0.3: balanced accuracy" in result.stderr
    short = run("posthoc", "tau-norm", "-o", "a.h5", "--overwrite").stderr
    assert "tau 0.3:" not in short
    assert " (best of 21), " in short
    assert not set("▁▂▃▄▅▆▇█") & set(short)
    both = run("posthoc", "group-bias", "-o", "g.h5").stderr
    assert re.search(r"on val: [\d.]+ at few \S+, medium \S+ \(best of 91\)$", both, re.MULTILINE)
    run("posthoc", "tau-norm", "--set", "tau=0.25", "-o", "b.h5", "-q")
    correction, _ = classifiers.read(Path("b.h5"))
    assert correction.runs[0]["tau"] == 0.25


def test_lists_of_methods():
    assert "tau=1.0" in run("posthoc", "--list").output
    assert re.search(r"^ce +Cross-entropy", run("train", "--list").output, re.MULTILINE)
    assert "ltkit-demo" not in run("data", "list").output
    assert "digits_lt" in json.loads(run("data", "list", "--json").stdout)["datasets"]


def test_evaluate_table_and_json_say_the_same(feats):
    run("posthoc", "logit-adjust", "--set", "tau=1", "-q")
    table = run("evaluate", "--group", "wordnet", "-q").stdout
    document = json.loads(run("evaluate", "--group", "wordnet", "--json", "-q").stdout)
    for row in document["rows"]:
        assert f"{100 * row['accuracy']['few']:.1f}" in table
    assert document["rows"][1]["name"] == "logit-adjust"
    assert document["rows"][1]["settings"] == {"tau": 1.0, "target": "uniform"}
    grouped = document["rows"][0]["grouped"]
    assert (grouped["by"], grouped["rule"], grouped["level"]) == ("wordnet", "path", 4)
    assert f"chance {100 * grouped['chance']:.1f} %" in table


def test_an_absent_group_is_a_dash_and_null(feats):
    table = run("evaluate", "--bins", "2,100", "-q").stdout
    assert "–" in table
    document = json.loads(run("evaluate", "--bins", "2,100", "--json", "-q").stdout)
    assert document["rows"][0]["accuracy"]["few"] is None
    assert document["groups"]["few"] == 0


def test_per_class_csv(feats):
    run("posthoc", "ncm", "-q")
    run("evaluate", "--per-class", "p.csv", "-q")
    lines = Path("p.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "class,name,group,train_count,test_count,baseline,ncm"
    assert lines[7].startswith("6,class 6,few,10,25,")


def test_settings_of_one_sweep_have_names_and_columns_of_their_own(feats):
    run("posthoc", "ridge", "--sweep", "-q")
    run("evaluate", "--per-class", "p.csv", "-q")
    with Path("p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    grid = ("0.0001", "0.001", "0.01", "0.1", "1", "10")
    assert list(rows[0])[6:] == [f"ridge penalty={value}" for value in grid]
    document = json.loads(run("evaluate", "--json", "-q").stdout)
    for name, row in zip(list(rows[0])[5:], document["rows"], strict=True):
        mean = np.mean([float(each[name]) for each in rows])
        assert mean == pytest.approx(row["accuracy"]["balanced"], abs=1e-5)
    text = run("evaluate", "--all", "-q").stdout
    assert all(f" ridge penalty {value} " in text for value in grid)
    failed = CliRunner().invoke(app, ["evaluate", "--fail-under", "all=1", "--all", "-q"])
    assert "ridge penalty 0.0001: all" in failed.stderr


def test_a_sweep_is_one_row(feats):
    run("posthoc", "logit-adjust", "--sweep", "-q")
    run("posthoc", "ncm", "-q")
    found = json.loads(run("evaluate", "--json", "-q").stdout)["rows"]
    assert len(found) == 1 + 31 + 1
    own, *sweep, last = sorted(found, key=lambda row: row["name"] == "ncm")
    (chosen,) = [row for row in sweep if row["chosen"]]
    assert own["chosen"]
    assert last["chosen"]
    assert chosen["val"]["balanced"] == max(row["val"]["balanced"] for row in sweep)
    alone = json.loads(run("posthoc", "logit-adjust", "-q") and run("evaluate", "--json").stdout)
    (row,) = [r for r in alone["rows"] if r["file"] == "feats.logit-adjust.h5"]
    assert row["settings"] == chosen["settings"]
    text = run("evaluate", "feats.logit-adjust-sweep.h5", "-q").stdout
    assert f"{chosen['label']} *" in text
    assert "best of 31, tau 0 to 3" in text
    first, end = (100 * row["accuracy"]["few"] for row in (sweep[0], sweep[-1]))
    assert f"few {first:.0f} to {end:.0f} %" in text
    assert "30 other settings: --all" in text
    assert text.count("logit-adjust") == 1
    many = (chosen["accuracy"]["many"] + min(row["accuracy"]["many"] for row in sweep)) / 2
    words = ["evaluate", "feats.logit-adjust-sweep.h5", "--fail-under"]
    assert not CliRunner().invoke(app, [*words, f"many={many}"]).exit_code
    assert CliRunner().invoke(app, [*words, f"many={many}", "--all"]).exit_code == 1


def test_corrections_are_named_after_the_features(feats):
    run("posthoc", "ncm", "-q")
    run("posthoc", "logit-adjust", "--set", "tau=1", "-q")
    names = [
        [row["name"] for row in json.loads(run("evaluate", *words, "--json", "-q").stdout)["rows"]]
        for words in (
            ("feats.h5", "feats.ncm.h5"), ("feats.ncm.h5",),
            ("feats.h5", "--classifier", "feats.ncm.h5"),
            ("feats.logit-adjust.h5", "--classifier", "feats.ncm.h5"), ("feats.h5",),
        )
    ]  # fmt: skip
    one, both = ["baseline", "ncm"], ["baseline", "logit-adjust", "ncm"]
    assert names == [one, one, one, both, both]


def test_a_method_called_like_another_column_keeps_both(feats):
    run("posthoc", "ncm", "-q")
    correction, inputs = classifiers.read(Path("feats.ncm.h5"))
    named = replace(correction, method="baseline")
    Path("feats.ncm.h5").unlink()
    classifiers.write(Path("b.h5"), named, settings={}, inputs=inputs, command="")
    run("evaluate", "--per-class", "p.csv", "-q")
    heading = Path("p.csv").read_text(encoding="utf-8").splitlines()[0]
    assert heading.endswith(",baseline,baseline (1)")


def test_a_file_name_is_no_markup(feats):
    run("posthoc", "ncm", "-o", "a[red].h5", "-q")
    run("posthoc", "ncm", "-o", "b[bold].h5", "-q")
    text = run("evaluate", "-q").stdout
    assert " a[red] " in text
    assert " b[bold] " in text


def test_neighbors_on_screen_as_json_and_in_a_file(feats):
    lines = run("neighbors", "--k", "2", "-q").stdout.splitlines()
    assert lines[0].startswith("class 6 (10): ")
    rows = json.loads(run("neighbors", "--k", "2", "--json", "-q").stdout)["rows"]
    assert [row["class"] for row in rows] == [6, 7]
    run("neighbors", "--k", "2", "-o", "n.neighbors.h5", "-q")
    assert "ltkit-neighbors v1" in run("inspect", "n.neighbors.h5").stdout
    assert run("validate", "n.neighbors.h5").stdout == "n.neighbors.h5: sound\n"


def test_inspect_shows_each_kind(feats):
    run("posthoc", "logit-adjust", "--sweep", "-o", "s.h5", "-q")
    shown = run("inspect", "feats.h5").stdout
    for line in (
        "format:       ltkit-features v1, written by ltkit ",
        "made by:      ltkit", "splits:       train 795, val 120, test 200",
        "classes:      8, with 5 to 300 training images", "class names:  class 0, class 1, ",
        "shot groups:  few 2 (below 20), medium 3 (20 to 100), many 3 (above 100)",
        "head:         linear, 8 classes x 12 features",
    ):  # fmt: skip
        assert f"\n{line}" in shown
    document = json.loads(run("inspect", "feats.h5", "--json").stdout)
    assert document["shot_groups"] == {"few": 2, "medium": 3, "many": 3}
    assert document["train"] == "795 x 12 float32"
    assert "few 1 (below 6)" in run("inspect", "feats.h5", "--bins", "6,100").stdout
    shown = run("inspect", "s.h5").stdout
    for line in (
        "method:       logit-adjust", "corrects:     8 classes", "runs:         31, tau 0 0.1 0.2",
        f"features:     {document['digest'][:12]}, feats.h5",
    ):  # fmt: skip
        assert f"\n{line}" in shown
    found = json.loads(run("inspect", "s.h5", "--json").stdout)
    assert found["weight"] == "(31, 8, 12) float32"
    assert len(found["varied"]["tau"]) == found["run_count"] == 31
    Path("feats.h5").rename("f.txt")
    assert "not in this folder" in run("inspect", "s.h5").stdout


def test_validate_exit_1_names_the_block(feats):
    content = bytearray(Path("feats.h5").read_bytes())
    with np.load("arrays.npz") as arrays:
        at = content.find(arrays["train_features"].tobytes()[:64])
    content[at] ^= 4
    Path("feats.h5").write_bytes(content)
    result = run("validate", "feats.h5", code=1)
    assert "train/features: block 0" in result.stdout
    result = run("validate", "feats.h5", "--json", code=1)
    assert len(json.loads(result.stdout)["problems"]["feats.h5"]) == 1


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _options.device_of("auto") == "cpu"
    assert _options.device_of("cpu") == "cpu"
    for text, words in (("cuda", "no CUDA device"), ("cpu:1", "expected auto"), ("x", "found x")):
        with pytest.raises(InputError, match=words):
            _options.device_of(text)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert _options.device_of("cuda:0") == "cuda:0"
    with pytest.raises(InputError, match="found 1 CUDA devices"):
        _options.device_of("cuda:1")


def test_progress_gives_rate_and_time_left(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("ltkit.cli._output.time.monotonic", lambda: next(clock))
    progress = _output.Progress("images", quiet=False)
    for done in (0, 100, 400):
        progress("test", done, 400)
    assert capsys.readouterr().err.splitlines() == [
        "test 100/400, 10 images/s, 30 s left",
        "test 400/400, 20 images/s, 0 s left",
    ]


def test_progress_without_a_known_end(monkeypatch, capsys):
    clock = iter([0.0, 9.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr("ltkit.cli._output.time.monotonic", lambda: next(clock))
    progress = _output.Progress("steps", quiet=False, after=1.0)
    for done in (1, 3, 4, 24, 1):
        progress("pass over val", done, 0)
    assert capsys.readouterr().err.splitlines() == [
        "pass over val 4", "pass over val 24, 1/s", "pass over val 1",
    ]  # fmt: skip


def test_an_operating_system_error_is_one_line(monkeypatch, capsys):
    def fail():
        raise PermissionError(13, "Permission denied", "x.h5")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "ltkit: x.h5: Permission denied\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail():
        raise OSError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(OSError, match=r"^$"):
        cli.main()


def test_a_loss_with_a_scale_gets_a_cosine_head_and_one_with_a_seed_the_seed(feats):
    run(
        "train", "gcl", "--data", "digits_lt", "--arch", "digits_net", "--epochs", "1", "--seed",
        "3", "--scale", "20", "-o", "m.pt", "-q",
    )  # fmt: skip
    content = torch.load("m.pt", weights_only=True)
    assert (content["cosine"], content["scale"]) == (True, 20.0)
    assert content["recipe"]["parameters"] == {"scale": 20.0, "seed": 3}
    assert "head.bias" not in content["state_dict"]
