"""What `train --tensorboard` writes, read by TensorBoard's own reader."""

import json
from pathlib import Path

import pytest

import ltkit as ltkit_package

pytestmark = pytest.mark.extras

WORDS = (
    "train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--device", "cpu", "--quiet",
    "--tensorboard", "board",
)  # fmt: skip


def drawn(folder):
    """Return what TensorBoard draws: steps and values by name."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return {
        name: [(event.step, event.value) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def logged(path):
    """Return the same of the log."""
    found = {}
    for line in map(json.loads, path.read_text().splitlines()):
        epoch, _ = line.pop("epoch"), line.pop("run")  # whose log it is
        val = {f"val/{name}": value for name, value in line.pop("val").items()}
        for name, value in (line | val).items():
            found.setdefault(name, []).append((epoch, pytest.approx(value, rel=1e-6)))
    return found


def test_each_number_of_the_log_is_drawn(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    assert ltkit(*WORDS, "--epochs", "3", "--seeds", "2", "-o", "m.pt")[0] == 0
    for seed in (0, 1):
        found = drawn(tmp_path / f"board/m.seed{seed}")
        assert found == logged(tmp_path / f"m.seed{seed}.pt.jsonl")
        assert {"loss", "learning_rate", "images_per_second", "val/balanced"} <= set(found)
        assert [epoch for epoch, _ in found["loss"]] == [1, 2, 3]


def test_a_resumed_run_is_one_line(tmp_path, monkeypatch, ltkit):
    from ltkit.training import checkpoint

    monkeypatch.chdir(tmp_path)
    saved, calls = checkpoint.save_partial, []

    def save(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt  # after the log's line of the third epoch, before its state
        saved(*given)

    monkeypatch.setattr(checkpoint, "save_partial", save)
    words = (*WORDS, "--epochs", "4", "-o", "m.pt")
    assert ltkit(*words)[0] == 130
    assert ltkit(*words, "--resume")[0] == 0
    assert drawn(tmp_path / "board/m") == logged(tmp_path / "m.pt.jsonl")


def test_a_head_on_features(tmp_path, monkeypatch, ltkit):
    features = Path(ltkit_package.__file__).parent / "data/demo/feats.h5"
    monkeypatch.chdir(tmp_path)
    words = ("train", "ce", str(features), "--epochs", "1", "--quiet", "--tensorboard", "b")
    assert ltkit(*words, "-o", "h.h5")[0] == 0
    assert drawn(tmp_path / "b/h") == logged(tmp_path / "h.h5.jsonl")
