"""What a wrong input gets: one line that says what to do, exit code 2, nothing half-written."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COUNTS = (300, 150, 60, 30, 10, 5)


def arrays(**changes):
    """Well-formed arrays of a small long-tailed problem; None takes one away."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    content = {"weight": centres.astype(np.float32), "bias": np.zeros(6, np.float32)}
    for split, counts in (("train", COUNTS), ("val", (10,) * 6), ("test", (20,) * 6)):
        labels = np.repeat(np.arange(6), counts)
        features = centres[labels] + rng.normal(size=(len(labels), 8))
        content |= {f"{split}_features": features.astype(np.float32), f"{split}_labels": labels}
    content |= changes
    return {name: value for name, value in content.items() if value is not None}


@pytest.fixture
def folder(tmp_path, monkeypatch, ltkit):
    """A fresh working folder with feats.h5."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    monkeypatch.delenv("LTKIT_DATA", raising=False)
    np.savez("arrays.npz", **arrays())
    assert ltkit("import", "arrays.npz", "-o", "feats.h5")[0] == 0
    Path("arrays.npz").unlink()
    return tmp_path


def put(name, **changes):
    """Write arrays and import them, as another features file."""

    def make(ltkit):
        np.savez("made.npz", **arrays(**changes))
        code, _, err = ltkit("import", "made.npz", "-o", name)
        assert code == 0, err

    return make


def file(name, content=b""):
    return lambda ltkit: Path(name).write_bytes(content)


def changed(change):
    """Change the bytes of feats.h5."""

    def make(ltkit):
        content = bytearray(Path("feats.h5").read_bytes())
        Path("feats.h5").write_bytes(change(content))

    return make


def flip_in_features(content):
    at = content.find(arrays()["test_features"].tobytes()[:64])
    content[at + 400] ^= 1
    return content


def npz(**changes):
    return lambda ltkit: np.savez("bad.npz", **arrays(**changes))


def pictures(broken=None, missing=False):
    def make(ltkit):
        for name in ("ant", "bee"):
            Path("pics", name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (32, 32), (i, 0, 0)).save(f"pics/{name}/{i}.png")
        if broken:
            Path("pics/bee/2.png").write_bytes(broken)
        if missing:
            lines = ["ant/0.png 0", "bee/9.png 1"]
            Path("pics/list.txt").write_text("\n".join(lines), encoding="utf-8")

    return make


def nothing(ltkit):
    pass


RGB = ["train", "ce", "--epochs", "1", "--arch", "resnet20", "--device", "cpu", "--data"]

CASES = [
    # any input file
    ("missing path", nothing, ["evaluate", "none.h5"], ["none.h5", "not found", "feats.h5"]),
    ("a folder", lambda r: Path("d.h5").mkdir(), ["evaluate", "d.h5"], ["is a folder"]),
    ("empty file", file("x.h5"), ["evaluate", "x.h5"], ["x.h5", "is empty"]),
    ("not HDF5", file("x.h5", b"hello" * 99), ["evaluate", "x.h5"], ["not an HDF5 file"]),
    ("web page", file("x.h5", b"<!DOCTYPE html>"), ["evaluate", "x.h5"], ["web page"]),
    ("LFS", file("x.h5", b"version https://git-lfs.x"), ["evaluate", "x.h5"], ["git lfs pull"]),
    ("zip", file("x.h5", b"PK\x03\x04aaaa"), ["evaluate", "x.h5"], ["zip archive"]),
    ("truncated", changed(lambda c: c[: len(c) // 2]), ["evaluate"], ["feats.h5", "truncated"]),
    ("cut short", changed(lambda c: c[:-100]), ["evaluate"], ["feats.h5", "truncated"]),
    ("bit flip", changed(flip_in_features), ["evaluate"], ["test/features", "block 0", "rows 0"]),
    ("two features files", put("b.h5"), ["neighbors", "b.h5", "--k", "9"], ["--k", "1..4"]),
    ("no such split", put("b.h5", test_features=None, test_labels=None),
     ["evaluate", "b.h5"], ["no split test", "train, val"]),
    ("no head", put("b.h5", weight=None), ["evaluate", "b.h5"], ["head: absent"]),
    ("no train split", put("b.h5", train_features=None, train_labels=None,
                           train_counts=np.array(COUNTS)),
     ["neighbors", "b.h5"], ["no split train"]),
    # outputs
    ("existing output", nothing, ["alphanet", "fit", "-o", "feats.h5"], ["an input too"]),
    ("existing file", file("o.h5", b"x"), ["posthoc", "ncm", "-o", "o.h5"], ["--overwrite"]),
    ("no folder", nothing, ["posthoc", "ncm", "-o", "no/o.h5"], ["no such folder"]),
    ("output is a folder", lambda r: Path("d").mkdir(), ["posthoc", "ncm", "-o", "d"],
     ["is a folder"]),
    # names
    ("unknown method", nothing, ["posthoc", "tau-nrm"], ["tau-nrm", "did you mean tau-norm"]),
    ("unknown loss", nothing, ["train", "cee", "--data", "digits_lt"], ["cee", "ce"]),
    ("unknown dataset", nothing, ["train", "ce", "--data", "digit_lt"], ["digits_lt"]),
    ("unknown parameter", nothing, ["data", "info", "digits_lt:imb=3"], ["imb", "ir"]),
    ("bad parameter", nothing, ["data", "info", "digits_lt:ir=x"], ["ir: found 'x'", "a number"]),
    ("imbalance below 1", nothing, ["data", "info", "digits_lt:ir=0.5"], ["ir: found 0.5"]),
    ("unknown architecture", nothing,
     ["train", "ce", "--data", "digits_lt", "--arch", "digit_net"], ["digits_net"]),
    ("unknown --set", nothing, ["posthoc", "tau-norm", "--set", "tua=1"], ["tua", "tau"]),
    ("--set without a number", nothing, ["posthoc", "tau-norm", "--set", "tau=x"], ["'x'"]),
    ("no root", nothing, ["data", "info", "cifar100_lt"], ["--root", "LTKIT_DATA", "archive"]),
    ("no archive", nothing, ["data", "info", "cifar100_lt", "--root", "."],
     ["cifar-100-binary", "cifar-100-python"]),
    ("no list", nothing, ["data", "info", "imagenet_lt", "--root", "."],
     ["ImageNet_LT_train.txt", "ILSVRC 2012"]),
    ("no CUDA", nothing, ["alphanet", "fit", "--device", "cuda:99"], ["--device", "cuda:99"]),
    ("no device", nothing, ["alphanet", "fit", "--device", "tpu"], ["auto, cpu or cuda"]),
    ("no method", nothing, ["posthoc", "-o", "x.h5"], ["METHOD: absent", "--list"]),
    ("no loss", nothing, ["train", "--data", "digits_lt"], ["METHOD: absent", "--list"]),
    ("scale 0", nothing, ["train", "ce", "--data", "digits_lt", "--cosine", "--scale", "0"],
     ["--scale: found 0"]),
    ("a device as output", nothing, ["posthoc", "ncm", "-o", "/dev/null", "--overwrite"],
     ["is a device"]),
    ("a device as input", nothing, ["evaluate", "/dev/null"], ["is a device or pipe"]),
    ("a device as checkpoint", nothing,
     ["extract", "/dev/null", "--data", "digits_lt", "-o", "o.h5"], ["is a device or pipe"]),
    ("tau without bound", nothing, ["posthoc", "logit-adjust", "--set", "tau=1e300"],
     ["logit-adjust: gives numbers that are not finite"]),
    ("rho without bound", nothing, ["alphanet", "fit", "--k", "2", "--rho", "1e30"],
     ["--rho: found 1e+30"]),
    ("topk 0", nothing, ["evaluate", "--topk", "0"], ["--topk: found 0", "1 to 6"]),
    ("topk above C", nothing, ["evaluate", "--topk", "1,7"], ["--topk: found 1,7"]),
    ("no base classes", nothing, ["neighbors", "--bins", "900,1000"], ["--among base"]),
    # alphanet and neighbours
    ("no few classes", nothing, ["alphanet", "fit", "--bins", "2,100"], ["no few-shot class"]),
    ("all few", nothing, ["alphanet", "fit", "--bins", "900,1000"], ["no base class"]),
    ("reversed bins", nothing, ["alphanet", "fit", "--bins", "100,20"], ["--bins"]),
    ("bins are no numbers", nothing, ["evaluate", "--bins", "a,b"], ["--bins: found 'a,b'"]),
    ("rho 0", nothing, ["alphanet", "fit", "--k", "2", "--rho", "0"], ["--rho: found 0"]),
    ("rho negative", nothing, ["alphanet", "fit", "--k", "2", "--rho", "1,-1"],
     ["--rho: found -1"]),
    ("rho is no number", nothing, ["alphanet", "fit", "--rho", "a"], ["--rho: found 'a'"]),
    ("rho too small", nothing, ["alphanet", "fit", "--k", "2", "--rho", "0.001"],
     ["no base sample"]),
    ("k above base", nothing, ["alphanet", "fit", "--k", "5"], ["--k: found 5", "1..4"]),
    ("k 0", nothing, ["neighbors", "--k", "0"], ["--k: found 0"]),
    ("unknown group of classes", nothing, ["neighbors", "--of", "tail"], ["--of: found tail"]),
    ("class without samples",
     put("b.h5", train_counts=np.array([*COUNTS, 3]), weight=np.ones((7, 8), np.float32),
         bias=np.zeros(7, np.float32)),
     ["alphanet", "fit", "b.h5", "--k", "2"], ["class 6", "no training sample"]),
    ("tau without validation", put("b.h5", val_features=None, val_labels=None),
     ["posthoc", "tau-norm", "b.h5"], ["no validation split", "--set tau"]),
    # evaluate
    ("fail-under malformed", nothing, ["evaluate", "--fail-under", "few:0.3"], ["few=0.35"]),
    ("fail-under too large", nothing, ["evaluate", "--fail-under", "few=35"], ["from 0 to 1"]),
    ("fail-under absent group", nothing,
     ["evaluate", "--bins", "2,100", "--fail-under", "few=0.1"], ["no few class"]),
    ("no WordNet ids", nothing, ["evaluate", "--group", "wordnet"], ["classes/wnid"]),
    ("no superclasses", nothing, ["evaluate", "--group", "coarse"], ["classes/coarse"]),
    ("unknown group", nothing, ["evaluate", "--group", "genus"], ["--group: found genus"]),
    ("group file", file("g.tsv", b"0\ta\n1\ta\n"), ["evaluate", "--group", "g.tsv"], ["g.tsv"]),
    # import
    ("unequal lengths", npz(test_labels=np.zeros(3, int)), ["import", "bad.npz"],
     ["test_labels", "3 labels"]),
    ("transposed weight", npz(weight=np.zeros((8, 6), np.float32)), ["import", "bad.npz"],
     ["weight.T"]),
    ("width of the head", npz(weight=np.zeros((6, 9), np.float32)), ["import", "bad.npz"],
     ["found (6, 9)", "expected (6, 8)"]),
    ("classes of the head", npz(weight=np.zeros((5, 8), np.float32), bias=np.zeros(5)),
     ["import", "bad.npz"], ["found (5, 8)", "expected (6, 8)"]),
    ("NaN features", npz(train_features=np.full((555, 8), np.nan, np.float32)),
     ["import", "bad.npz"], ["train: row 0", "not finite"]),
    ("infinite weight", npz(weight=np.full((6, 8), np.inf, np.float32)),
     ["import", "bad.npz"], ["NaN or infinity"]),
    ("negative label", npz(test_labels=np.full(120, -100)), ["import", "bad.npz"], ["-100"]),
    ("fractional label", npz(test_labels=np.full(120, 0.5)), ["import", "bad.npz"], ["0.5"]),
    ("one-hot labels", npz(test_labels=np.eye(120)), ["import", "bad.npz"], ["argmax"]),
    ("pickled arrays", npz(class_names=np.array(["a"] * 6, object)), ["import", "bad.npz"],
     ["Python objects"]),
    ("unknown array", npz(test_feature=np.zeros(3)), ["import", "bad.npz"], ["test_features"]),
    ("not an archive", file("bad.npz", b"PK\x03\x04"), ["import", "bad.npz"], ["not an .npz"]),
    ("duplicate names", npz(class_names=np.array(["a"] * 6)), ["import", "bad.npz"], ["twice"]),
    # extract and train
    ("no checkpoint", nothing, ["extract", "no.pt", "--data", "digits_lt", "-o", "o.h5"],
     ["no.pt", "not found"]),
    ("empty checkpoint", file("m.pt"), ["extract", "m.pt", "--data", "digits_lt", "-o", "o.h5"],
     ["is empty"]),
    ("text as checkpoint", file("m.pt", b"hello world"),
     ["extract", "m.pt", "--data", "digits_lt", "-o", "o.h5"], ["m.pt"]),
    ("learning rate", nothing,
     ["train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--lr", "0"],
     ["learning_rate: found 0"]),
    ("batch of one", nothing,
     ["train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--batch-size", "1"],
     ["batch_size: found 1"]),
    ("grey images", nothing, ["train", "ce", "--data", "digits_lt", "--arch", "resnet20"],
     ["3 channels", "digits_net"]),
    ("nothing to resume", nothing,
     ["train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--resume"],
     ["nothing to resume"]),
    ("no data", nothing, ["train", "ce"], ["--data: absent"]),
    ("corrupt image", pictures(broken=b"\x89PNG\r\n\x1a\nxxxx"),
     [*RGB, "pics:resize=32,crop=32"], ["2.png", "cannot be decoded"]),
    ("missing image", pictures(missing=True),
     [*RGB, "pics/list.txt:resize=32,crop=32,val=none"], ["9.png", "not found"]),
    ("label is no number", file("l.txt", b"a.png zero\n"), [*RGB, "l.txt"], ["line 1"]),
    ("empty list", file("l.txt"), [*RGB, "l.txt"], ["l.txt", "no line"]),
    ("path leaves the folder", file("l.txt", b"../a.png 0\n"), [*RGB, "l.txt"], ["'../a.png'"]),
    ("gap in labels", file("l.txt", b"a.png 0\nb.png 2\n"), [*RGB, "l.txt"], ["no training image"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_one_line_exit_2_nothing_written(folder, ltkit, make, words, said):
    make(ltkit)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    code, out, err = ltkit(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2, err
    assert last.startswith("ltkit: ")
    assert "Traceback" not in err
    for word in said:
        assert word in last, last
    assert out == ""
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before, "something was written"


def test_several_features_files_are_listed(folder, ltkit):
    Path("feats.h5").rename("a.h5")
    Path("b.h5").write_bytes(Path("a.h5").read_bytes())
    code, _, err = ltkit("evaluate")
    assert code == 2
    assert "a.h5, b.h5" in err


def test_a_classifier_of_other_features_is_refused(folder, ltkit):
    put("b.h5", bias=np.ones(6, np.float32))(ltkit)
    assert ltkit("posthoc", "ncm", "b.h5")[0] == 0
    code, _, err = ltkit("evaluate", "feats.h5", "--classifier", "b.ncm.h5")
    assert code == 2
    assert "b.ncm.h5: fitted on features" in err


def test_unwritable_folder(folder, ltkit, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    code, _, err = ltkit("posthoc", "ncm")
    assert code == 2
    assert "cannot write there" in err


def test_fail_under_is_exit_1_and_names_the_row(folder, ltkit):
    code, out, err = ltkit("evaluate", "--fail-under", "few=1")
    assert code == 1
    assert "baseline: few" in err
    assert "accuracy" in out
    assert ltkit("evaluate", "--fail-under", "few=0.01")[0] == 0


def test_control_codes_in_names_do_not_reach_the_terminal(folder, ltkit):
    names = np.array(["a\x1b[31m", "b", "c", "d", "e\nf", "<script>"])
    put("b.h5", class_names=names)(ltkit)
    _, out, _ = ltkit("neighbors", "b.h5", "--k", "4")
    assert "\x1b" not in out
    assert "e\\nf (10)" in out


def test_spreadsheet_formulas_are_quoted(folder, ltkit):
    put("b.h5", class_names=np.array(["=cmd()", "b", "c", "d", "e", "f"]))(ltkit)
    assert ltkit("evaluate", "b.h5", "--per-class", "p.csv")[0] == 0
    assert "'=cmd()" in Path("p.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["train", "extract"])
def test_ctrl_c_is_exit_130_and_leaves_no_final_file(folder, stage):
    train = ["train", "ce", "--data", "digits_lt", "--arch", "digits_net", "-o", "m.pt"]
    command = [sys.executable, "-m", "ltkit"]
    if stage == "extract":
        subprocess.run([*command, *train, "--epochs", "1"], check=True, capture_output=True)
        words = ["extract", "m.pt", "--data", "digits_lt", "--batch-size", "1", "-o", "o.h5"]
        final, waits = Path("o.h5"), Path("o.h5.journal")
    else:
        words, final, waits = [*train, "--epochs", "100000"], Path("m.pt"), Path("m.pt.jsonl")
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (waits.exists() and waits.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert "Traceback" not in err
    assert not final.exists()


def test_closed_pipe_is_quiet(folder):
    command = f"{sys.executable} -m ltkit data list | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_symlinked_output_replaces_the_link(folder, ltkit):
    Path("target").write_bytes(b"precious")
    Path("o.h5").symlink_to("target")
    assert ltkit("posthoc", "ncm", "-o", "o.h5", "--overwrite")[0] == 0
    assert Path("target").read_bytes() == b"precious"
    assert not Path("o.h5").is_symlink()


def test_a_classifier_that_is_evaluated_is_not_overwritten(folder, ltkit):
    assert ltkit("posthoc", "ncm")[0] == 0
    before = Path("feats.ncm.h5").read_bytes()
    code, _, err = ltkit("evaluate", "--per-class", "feats.ncm.h5", "--overwrite")
    assert code == 2
    assert "is an input too" in err
    assert Path("feats.ncm.h5").read_bytes() == before


def test_rows_have_names_of_their_own_and_a_file_counts_once(folder, ltkit):
    assert ltkit("posthoc", "ncm")[0] == 0
    Path("other").mkdir()
    Path("other/feats.ncm.h5").write_bytes(Path("feats.ncm.h5").read_bytes())
    named = ["--classifier", "feats.ncm.h5", "--classifier", "./feats.ncm.h5"]
    assert ltkit("evaluate", *named, "--per-class", "p.csv")[0] == 0
    assert Path("p.csv").read_text(encoding="utf-8").splitlines()[0].endswith(",baseline,ncm")
    named += ["--classifier", "other/feats.ncm.h5", "--overwrite"]
    assert ltkit("evaluate", *named, "--per-class", "p.csv")[0] == 0
    heading = Path("p.csv").read_text(encoding="utf-8").splitlines()[0]
    assert heading.endswith(",baseline,feats.ncm.h5,other/feats.ncm.h5")


def test_a_limit_that_is_met_exactly_is_met(folder, ltkit):
    labels = np.repeat(np.arange(6), 25)
    logits = 5 * np.eye(6, dtype=np.float32)[labels]
    logits[::25] = -logits[::25]  # 24 of 25 right in each class: 0.96 in every sum
    logits[::25, 0] += 1
    logits[0, 1] += 9
    put("b.h5", weight=np.eye(6, dtype=np.float32), bias=np.zeros(6, np.float32),
        train_features=None, train_labels=None, val_features=None, val_labels=None,
        train_counts=np.array(COUNTS), test_features=logits, test_labels=labels)(ltkit)  # fmt: skip
    code, out, err = ltkit("evaluate", "b.h5", "--fail-under", "all=0.96")
    assert code == 0, out + err
    assert ltkit("evaluate", "b.h5", "--fail-under", "all=0.961")[0] == 1


def test_one_test_sample_a_class_gives_no_interval(folder, ltkit):
    put("b.h5", test_features=np.eye(6, 8, dtype=np.float32), test_labels=np.arange(6))(ltkit)
    _, out, _ = ltkit("evaluate", "b.h5")
    assert "no interval" in out


def test_the_same_rho_twice_is_one_setting(folder, ltkit):
    assert ltkit("alphanet", "fit", "--k", "2", "--rho", "1,1.0", "--epochs", "2")[0] == 0
    _, out, _ = ltkit("evaluate")
    assert "alphanet k 2 rho 1 " in out
    assert "seeds" not in out
