"""`benchmarks/reproduce.py`: what it runs, and how it goes on."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import cifar100_root

from ltkit import losses, registry
from ltkit.training import methods
from ltkit.training.recipe import load_method

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import reproduce
from reproduce import METHODS, Job, measure, missing, read_lines

CE = Job("ce", "digits_lt", 20, 0, 2)

LDAM = Job("ldam-drw", "digits_lt", 20, 0, 2)


@pytest.fixture
def run(ltkit, one_thread):
    """Run ``ltkit`` in this process; `run.calls` are the commands that were."""

    def run(words):
        run.calls.append(words[0])
        code, out, err = ltkit(*words, "-q")
        if code:
            raise subprocess.CalledProcessError(code, list(words), err)
        return out

    run.calls = []
    return run


def reproduced(jobs, tmp_path, run):
    """Run jobs into tmp_path."""
    lines = tmp_path / "lines.jsonl"
    return reproduce.reproduce(jobs, lines, tmp_path / "work", "cpu", run)


# The methods


def test_every_loss_is_a_method():
    named = {part.split()[0] for m in METHODS.values() for part in m.flags.split(" | ")}
    assert named - set(registry.names(methods)) == set(registry.names(losses))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("epochs", [1, 200])
def test_the_command_line_takes_the_flags(name, epochs, ltkit, tmp_path):
    """All of them are read before the data are looked for."""
    job = Job(name, "cifar100_lt", 100, 0, epochs)
    job.folder(tmp_path).mkdir()
    for words in job.commands(tmp_path, "cpu")[:-2]:
        words[words.index("--data") + 1] = "nowhere"
        if "--init" in words:  # which is read first, and is not there yet
            at = words.index("--init")
            del words[at : at + 2]
        code, _, err = ltkit(*words)
        assert code == 2
        assert "nowhere: neither a dataset nor a path" in err


def test_class_weights_are_deferred_to_the_same_part_of_any_training():
    for epochs, deferred in ((200, 160), (100, 80), (1, 0)):
        assert f"--drw {deferred} " in Job("ldam-drw", "cifar100_lt", 100, 0, epochs).train


def test_published_numbers():
    assert METHODS["ce"].published("cifar100_lt", 100) == 38.32
    assert METHODS["ldam-drw"].published("cifar10_lt", 10) == 88.16
    assert METHODS["swrm"].published("cifar100_lt", 50) == 51.70
    assert METHODS["dyswrm"].published("cifar100_lt", 10) == 62.28
    assert METHODS["ldam-drw"].published("cifar100_lt", 50) is None
    assert METHODS["ce"].published("digits_lt", 100) is None
    for method in METHODS.values():  # the milder the imbalance, the better
        for numbers in (method.cifar100, method.cifar10):
            assert [numbers[f] for f in sorted(numbers)] == sorted(numbers.values(), reverse=True)
            assert not numbers or method.source


def test_names_of_runs_differ_where_runs_do():
    jobs = [CE, LDAM, Job("ce", "digits_lt", 20, 1, 2), Job("ce", "digits_lt", 10, 0, 2)]
    jobs += [Job("ce", "digits_lt", 20, 0, 3), Job("ce", "digits_lt", 20, 0, 2, "--lr 0.2")]
    assert len({job.train for job in jobs}) == len(jobs)
    assert len({job.folder(Path()) for job in jobs}) == len(jobs)


# Runs


def test_a_run_gives_a_line_that_says_how_it_was_made(run, tmp_path):
    line = measure(LDAM, tmp_path, "cpu", run)
    assert run.calls == ["train", "extract", "evaluate"]
    assert line["train"] == (
        "train ldam --drw 1 --data digits_lt:ir=20,val=balanced --arch digits_net --epochs 2 "
        "--seed 0"
    )
    (folder,) = tmp_path.iterdir()
    log = [json.loads(text) for text in (folder / "model.pt.jsonl").read_text().splitlines()]
    assert line["last"]["epoch"] == 2
    assert line["last"]["val"] == log[1]["val"]["balanced"]
    assert line["last"]["test"]["n"] == 400
    best = 1 + int(np.argmax([entry["val"]["balanced"] for entry in log]))
    assert line["best"]["epoch"] == best
    assert line["best"]["val"] == max(entry["val"]["balanced"] for entry in log)
    assert line["protocol"]["method"] == "ldam"
    assert line["protocol"]["parameters"]["drw"] == 1
    assert line["protocol"]["epochs"] == 2
    assert line["protocol"]["dataset"]["val"] == "balanced"
    assert re.fullmatch("[0-9a-f]{16}", line["protocol"]["dataset"]["index_digest"])
    assert line["device"] == "cpu"
    assert line["versions"].keys() == {"ltkit", "torch", "python"}
    assert json.loads(json.dumps(line))["best"] == line["best"]


def test_the_scores_are_those_of_the_network(run, tmp_path):
    from ltkit import architectures, datasets
    from ltkit.training.augment import ImageStore

    line = measure(CE, tmp_path, "cpu", run)
    content = torch.load(next(tmp_path.glob("*/model.pt")), weights_only=True)
    network = architectures.build("digits_net", 10)
    network.load_state_dict(content["state_dict"])
    test = datasets.load(CE.data).split("test")
    store = ImageStore(torch.from_numpy(test.images), content["mean"], content["std"], 0, False)
    with torch.inference_mode():
        predicted = network.eval()(store.plain(torch.arange(400))).argmax(dim=1).numpy()
    accuracy = float((predicted == test.labels).mean())
    assert line["last"]["test"]["accuracy"]["all"] == pytest.approx(accuracy)


def written(words, log, best=None):
    """Write what `ltkit train` does: a log with such accuracies on val, a checkpoint."""
    model = Path(words[words.index("-o") + 1])
    entries = [
        {"epoch": i, "val": {"balanced": value}, "images_per_second": 10.0 * i}
        for i, value in enumerate(log, 1)
    ]
    model.with_name("model.pt.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    torch.save({"recipe": {}, "versions": {"ltkit": "0", "torch": "0"}}, model)
    if best:
        model.with_name("model.best.pt").touch()


def pretended(log, best=None, **accuracy):
    """Return a stand-in for ``ltkit``: its accuracies are by the stem of the features file."""

    def run(words):
        if words[0] == "train":
            written(words, log, best)
        value = accuracy.get(Path(words[1]).name.removesuffix(".h5").replace(".", "_"), 0.0)
        row = {"accuracy": {"all": value}, "interval": {"all": [0, 1]}}
        return json.dumps({"n": 4, "rows": [row, {"accuracy": {"all": -1}}]})

    return run


@pytest.mark.parametrize(
    ("log", "kept", "epoch", "test"),
    [
        ([0.1, 0.2, 0.3], True, 3, 0.5),  # the last one is the best: nothing else to score
        ([0.1, 0.4, 0.3], True, 2, 0.6),
        ([0.1, 0.4, 0.4], True, 2, 0.6),  # the first of equals
        ([0.1, 0.4, 0.3], False, 2, None),
    ],
)
def test_the_epoch_that_is_best_on_val(tmp_path, log, kept, epoch, test):
    line = measure(CE, tmp_path, "cpu", pretended(log, kept, model=0.5, model_best=0.6))
    assert line["last"]["epoch"] == 3
    assert line["last"]["test"]["accuracy"]["all"] == 0.5
    assert line["best"]["epoch"] == epoch
    assert (line["best"]["test"] and line["best"]["test"]["accuracy"]["all"]) == test
    assert line["images_per_second"] == 20.0


def test_runs_that_are_there_are_skipped(tmp_path):
    run = pretended([0.1])
    assert reproduced([CE], tmp_path, run) == []

    def never(words):
        raise AssertionError(words)

    assert reproduced([CE], tmp_path, never) == []
    assert [job.method for job in missing([CE, LDAM], tmp_path / "lines.jsonl")] == ["ldam-drw"]
    assert len(read_lines(tmp_path / "lines.jsonl")) == 1
    assert list((tmp_path / "work").iterdir()) == []  # nothing is left of runs that are done


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(run, tmp_path):
    def interrupted(words):
        if words[0] == "extract" and len(run.calls) > 3:
            raise KeyboardInterrupt
        return run(words)

    with pytest.raises(KeyboardInterrupt):
        reproduced([CE, LDAM], tmp_path, interrupted)
    assert [line["method"] for line in read_lines(tmp_path / "lines.jsonl")] == ["ce"]
    assert run.calls == ["train", "extract", "evaluate", "train"]
    assert reproduced([CE, LDAM], tmp_path, run) == []
    assert run.calls[4:] == ["extract", "evaluate"]  # not trained again
    assert [line["method"] for line in read_lines(tmp_path / "lines.jsonl")] == ["ce", "ldam-drw"]


def test_a_training_that_was_interrupted_goes_on_and_gives_the_same_line(run, tmp_path):
    from ltkit.training import loop as training

    whole = measure(CE, tmp_path / "whole", "cpu", run)
    real, epochs = training._epoch, []

    def epoch(*args):
        epochs.append(args[0].epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_epoch", epoch)
        with pytest.raises(subprocess.CalledProcessError) as caught:
            measure(CE, tmp_path / "cut", "cpu", run)
        assert caught.value.returncode == 130
        cut = measure(CE, tmp_path / "cut", "cpu", run)
    assert epochs == [0, 1, 1]  # the finished epoch is not done again
    assert cut["last"] == whole["last"]
    assert cut["best"] == whole["best"]


def test_what_is_learned_beforehand_is_started_from(run, tmp_path):
    """An interrupted second training starts from the first's network again, which stays."""
    job = Job("ssp-ce", "digits_lt", 20, 0, 1)
    (first, second), whole = job.commands(tmp_path, "cpu")[:2], Path("part1.pt")
    assert first[1] == "ssp"
    assert "--keep-best" not in first
    assert Path(second[second.index("--init") + 1]).name == whole.name
    line = measure(job, tmp_path, "cpu", run)
    assert run.calls == ["train", "train", "extract", "evaluate"]
    assert line["train"].startswith("train ssp | ce --data digits_lt")
    (job.folder(tmp_path) / "model.pt").unlink()
    assert [words[1] for words in job.commands(tmp_path, "cpu")[:-2]] == ["ce"]


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    good = pretended([0.1])

    def run(words):
        if words[1] == "ce":
            raise subprocess.CalledProcessError(2, words)
        return good(words)

    ((job, reason),) = reproduced([CE, LDAM], tmp_path, run)
    assert job == CE
    assert "exit code 2 of ltkit train ce" in reason
    assert [line["method"] for line in read_lines(tmp_path / "lines.jsonl")] == ["ldam-drw"]


def test_the_command_runs_and_says_what_failed(tmp_path, capsys, monkeypatch):
    good = pretended([0.1])

    def run(words):
        if words[1] == "focal":
            raise subprocess.CalledProcessError(2, words)
        return good(words)

    monkeypatch.setattr(reproduce, "ltkit", run)
    monkeypatch.setenv("LTKIT_DATA", "before")
    words = ["--imbalance", "100", "--seeds", "0", "--epochs", "1", "--device", "cpu"]
    words += ["--output", str(tmp_path / "lines.jsonl"), "--work", str(tmp_path / "work")]
    assert reproduce.main([*words, "--methods", "ce", "--root", str(tmp_path)]) == 0
    assert reproduce.os.environ["LTKIT_DATA"] == str(tmp_path)
    assert reproduce.main([*words, "--methods", "ce,focal"]) == 1
    err = capsys.readouterr().err
    assert "failed: focal, cifar100_lt:ir=100,val=balanced, seed 0: exit code 2" in err
    assert "1 of 2 runs to do" in err


# All of it


@pytest.fixture(scope="module")
def small_cifar100(tmp_path_factory):
    """Sixty training and ten test images of each class, in the official layout."""
    source = cifar100_root() / "cifar-100-binary"
    folder = tmp_path_factory.mktemp("data") / "cifar-100-binary"
    folder.mkdir()
    for part, count in (("train", 60), ("test", 10)):
        rows = np.fromfile(source / f"{part}.bin", dtype=np.uint8).reshape(-1, 3074)
        kept = [np.flatnonzero(rows[:, 1] == c)[:count] for c in range(100)]
        rows[np.concatenate(kept)].tofile(folder / f"{part}.bin")
    shutil.copy(source / "coarse_label_names.txt", folder)
    return folder.parent


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_epoch_of_every_method(name, run, small_cifar100, tmp_path, monkeypatch):
    """Losses that start late have five: the last one is theirs."""
    monkeypatch.setenv("LTKIT_DATA", str(small_cifar100))
    loss = load_method(METHODS[name].flags.split()[0]).loss
    epochs = 5 if "start" in inspect.signature(loss).parameters else 1
    line = measure(Job(name, "cifar100_lt", 10, 0, epochs), tmp_path, "cpu", run)
    assert line["last"]["test"]["n"] == 1000
    assert line["protocol"]["arch"] == "resnet32"
    assert 0 <= line["last"]["test"]["accuracy"]["all"] <= 0.1
