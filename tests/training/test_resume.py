"""Training that goes on where it stopped: states, logs, the best epoch so far."""

import hashlib
import io
import itertools
import json
from dataclasses import replace

import pytest
import torch
from trained import SETTINGS, Stop, files, fit, log, same, stop_after, weights

from ltkit import datasets
from ltkit.errors import FormatError, InputError, LtkitError
from ltkit.training import beside, checkpoint, job, loop

pytestmark = pytest.mark.usefixtures("one_thread")


def interrupt(*arguments):
    raise KeyboardInterrupt


def accuracies(monkeypatch, values):
    """Let the validation split say these accuracies, epoch after epoch."""

    def said(*given):
        return lambda epoch: torch.full((10,), values[epoch - 1])

    monkeypatch.setattr(job, "accuracy_of", said)


@pytest.mark.parametrize(
    ("values", "best"), [((0.5, 0.7, 0.7), 2), ((0.1, 0.2, 0.3), 3), ((0.0, 0.0, 0.0), 1)]
)
def test_the_best_epoch_on_val_is_kept(digits, output, monkeypatch, values, best):
    accuracies(monkeypatch, values)
    settings = replace(SETTINGS, epochs=3)
    states, saved = [], checkpoint.save_partial

    def save(path, recipe, epoch, network, *rest):
        states.append({k: v.clone() for k, v in network.state_dict().items()})
        saved(path, recipe, epoch, network, *rest)

    monkeypatch.setattr(checkpoint, "save_partial", save)
    fit(digits, output, settings, keep_best=True)
    kept = torch.load(beside.best_path(output), weights_only=True)
    assert kept["epoch"] == best
    assert same(kept["state_dict"], {k: states[best - 1][k] for k in kept["state_dict"]})
    assert same(weights(output), kept["state_dict"]) == (best == 3)


@pytest.mark.parametrize(
    ("owner", "name"), [(checkpoint, "save"), (loop, "write_text"), (checkpoint, "save_partial")]
)
def test_the_best_epoch_is_the_same_after_an_interruption(
    digits, output, monkeypatch, tmp_path, owner, name
):
    """Wherever it comes: before the best epoch's file is written, between it and the log."""
    accuracies(monkeypatch, (0.2, 0.6, 0.5, 0.7))
    settings = replace(SETTINGS, epochs=4)
    whole = tmp_path / "whole.pt"
    fit(digits, whole, settings, keep_best=True)
    for stop in (1, 2, 3):
        calls, was = itertools.count(1), getattr(owner, name)

        def stopping(*arguments, calls=calls, was=was, stop=stop):
            if next(calls) == stop:
                raise KeyboardInterrupt
            was(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopping)
            with pytest.raises(KeyboardInterrupt):
                fit(digits, output, settings, keep_best=True)
        fit(digits, output, settings, keep_best=True, resume=beside.begun(output))
        assert beside.best_path(output).read_bytes() == beside.best_path(whole).read_bytes()
        assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", ["", "no JSON\n", "{}\n", '{"val": {"balanced": null}}\n'])
def test_the_best_epoch_so_far_is_in_the_log(digits, output, monkeypatch, damage):
    monkeypatch.setattr(checkpoint, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(digits, output)
    with pytest.raises(InputError, match="keep_best: found False, expected True"):
        fit(digits, output, keep_best=True, resume=True)
    monkeypatch.undo()
    settings = replace(SETTINGS, epochs=2)
    saved = checkpoint.save_partial
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_partial", lambda *given: (saved(*given), interrupt()))
        with pytest.raises(KeyboardInterrupt):
            fit(digits, output, settings, keep_best=True)
    output.with_name("net.pt.jsonl").write_text(damage)
    with pytest.raises(FormatError, match=r"net\.pt\.jsonl: found 0 sound lines, expected 1,"):
        fit(digits, output, settings, keep_best=True, resume=True)


def test_the_best_epoch_needs_a_validation_split(output):
    dataset = datasets.load("digits_lt:ir=5,val=none")
    with pytest.raises(InputError, match=r"keep_best: found no val split in digits_lt:ir=5"):
        fit(dataset, output, keep_best=True)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_ends_as_if_it_had_not_been(finished, digits, output, epoch):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(epoch))
    assert files(output) == ["net.pt.jsonl", "net.pt.partial"]
    fit(digits, output, resume=True)
    assert same(weights(output), weights(finished[0]))
    assert log(output) == log(finished[0])
    assert files(output) == ["net.pt", "net.pt.jsonl"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["net.pt.partial", "net.pt.jsonl"])
@pytest.mark.parametrize(
    "content", [b"mine\n", b'{"a": 1}\n', b"[1]\n", b"[" * 99999, b"\xff", "/"]
)
def test_what_is_not_of_ltkit_stays(digits, output, tmp_path, resume, name, content):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    path, beyond = output.with_name(name), tmp_path / "beyond"
    path.unlink()
    beyond.write_bytes(b"theirs\n")
    path.symlink_to(beyond) if content == "/" else path.write_bytes(content)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(LtkitError, match=r"move it away(, or| and).* choose another (-o|output)$"):
        fit(digits, output, resume=resume)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_log_of_another_run_is_asked_for(digits, output):
    fit(digits, output)
    other = replace(SETTINGS, epochs=1)
    message = (
        r"net\.pt\.jsonl: exists, and is the log of another run; .* overwrite it without resuming"
    )
    with pytest.raises(InputError, match=message):
        fit(digits, output, other, overwrite=False)
    assert len(log(output)) == SETTINGS.epochs
    fit(digits, output, overwrite=False)  # the same run has the same log
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    fit(digits, output, other, overwrite=False)  # of a run that has not come to its end
    assert len(log(output)) == 1


def test_a_resumed_run_wants_its_own_log(digits, output):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    path = output.with_name("net.pt.jsonl")
    line = json.loads(path.read_text())
    path.write_text(json.dumps(line | {"run": "0" * 64}) + "\n")
    with pytest.raises(InputError, match="is the log of another run"):
        fit(digits, output, resume=True)
    path.write_text(json.dumps({k: v for k, v in line.items() if k != "run"}) + "\n")
    fit(digits, output, resume=True)  # an older version wrote none


@pytest.mark.parametrize("content", [b"mine", "another recipe"])
def test_the_best_epoch_of_another_run_stays(digits, output, content):
    with pytest.raises(Stop):
        fit(digits, output, keep_best=True, report=stop_after(1))
    best = beside.best_path(output)
    if isinstance(content, str):
        torch.save(torch.load(best) | {"recipe": {}}, best)
    else:
        best.write_bytes(content)
    before = best.read_bytes()
    with pytest.raises(LtkitError, match=r"net\.best\.pt: "):
        fit(digits, output, keep_best=True, resume=True)
    assert best.read_bytes() == before


def test_a_line_beyond_the_saved_state_is_written_again(finished, digits, output):
    """Killed between the log and the state."""
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    with output.with_name("net.pt.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss": 1e9}\n{"epo')
    fit(digits, output, resume=True)
    assert log(output) == log(finished[0])


def test_a_full_disk_leaves_the_state_before(digits, output, monkeypatch):
    saved = checkpoint.save_partial

    def fail(path, recipe, epoch, *rest):
        if epoch == 2:
            raise InputError("net.pt.partial: cannot be written")
        saved(path, recipe, epoch, *rest)

    monkeypatch.setattr(checkpoint, "save_partial", fail)
    with pytest.raises(InputError, match="cannot be written"):
        fit(digits, output)
    partial_file = output.with_name("net.pt.partial")
    assert torch.load(partial_file, weights_only=True)["epoch"] == 1


def test_a_new_run_forgets_an_old_state(digits, output):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))

    def fail(*arguments):
        raise Stop

    with pytest.raises(Stop):
        fit(digits, output, loss=fail)
    with pytest.raises(InputError, match=r"net\.pt\.partial: not found, nothing to resume"):
        fit(digits, output, resume=True)
    fit(digits, output, replace(SETTINGS, epochs=1))
    assert len(log(output)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": replace(SETTINGS, learning_rate=0.1)}, "learning_rate: found 0.05, exp"),
        ({"settings": replace(SETTINGS, epochs=9)}, "epochs: found 3, expected 9"),
        ({"method": "ldam"}, "method: found ce, expected ldam"),
        ({"parameters": {"gamma": 2.0}}, "parameters: found {}, expected {'gamma': 2.0}"),
        ({"cosine": True, "scale": 16.0}, "cosine: found False, expected True"),
        ({"dataset": "digits_lt:ir=5,seed=1"}, "dataset: found"),
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_other_settings(digits, output, change, message):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    if "dataset" in change:
        change = {"dataset": datasets.load(change["dataset"])}
    with pytest.raises(InputError, match=rf"net\.pt\.partial: {message}.*; resume with the sett"):
        fit(**({"dataset": digits, "output": output, "resume": True} | change))
    fit(digits, output, resume=True)  # it was left alone


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99, b"<html>", "list", "other", b"PK"])
def test_a_state_that_cannot_be_read(digits, output, keep):
    """Damaged, or with a sound digest and yet no state of this network."""
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    partial_file = output.with_name("net.pt.partial")
    content, message = partial_file.read_bytes(), "is damaged, or not ltkit's; move it away and"
    made = {"list": [1], "other": torch.load(partial_file) | {"network": {}}}
    if isinstance(keep, str):
        buffer = io.BytesIO()
        torch.save(made[keep], buffer)
        content = buffer.getvalue()
        partial_file.write_bytes(content + hashlib.sha256(content).digest())
        message = r"not a checkpoint of an interrupted run \((Type|Key|Runtime)Error\); start again"
    elif isinstance(keep, bytes):
        partial_file.write_bytes(keep)
    else:
        partial_file.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(FormatError, match=rf"net\.pt\.partial: {message}"):
        fit(digits, output, resume=True)
