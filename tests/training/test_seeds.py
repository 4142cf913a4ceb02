"""Several seeds at once: networks of their own, gone on with after an interruption."""

import pytest
import torch
from trained import same, weights

from ltkit.training import checkpoint, runs

pytestmark = pytest.mark.usefixtures("one_thread")


WORDS = (
    "train", "gcl", "--data", "digits_lt:ir=5", "--arch", "digits_net", "--epochs", "2",
    "--batch-size", "128", "--device", "cpu", "-q",
)  # fmt: skip


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".jsonl")


def test_seeds_are_networks_of_their_own(ltkit, folder, monkeypatch):
    stores, made = [], runs.resident
    monkeypatch.setattr(runs, "resident", lambda *x: stores.append(x) or made(*x))
    code, out, error = ltkit(*WORDS, "--seeds", "2", "--seed", "3")
    assert code == 0, error
    assert out == "gcl.seed3.pt\ngcl.seed4.pt\n"
    assert names(folder) == ["gcl.seed3.pt", "gcl.seed4.pt"]
    assert len(stores) == 1
    for seed in (3, 4):
        assert ltkit(*WORDS, "--seed", seed, "-o", f"{seed}.pt")[0] == 0
        assert (folder / f"{seed}.pt").read_bytes() == (folder / f"gcl.seed{seed}.pt").read_bytes()
        recipe = torch.load(folder / f"{seed}.pt")["recipe"]
        assert (recipe["seed"], recipe["parameters"]["seed"]) == (seed, seed)  # the loss's draws
    assert not same(weights(folder / "3.pt"), weights(folder / "4.pt"))


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_interrupted_seeds_are_gone_on_with(ltkit, folder, monkeypatch, stop):
    """After an epoch of the first, between both, after an epoch of the second, at its end."""
    words, saved, calls = (*WORDS, "--seeds", "2"), checkpoint.save_partial, []

    def save(*arguments):
        calls.append(arguments)
        saved(*arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt

    assert ltkit(*words, "-o", "whole.pt")[0] == 0
    monkeypatch.setattr(checkpoint, "save_partial", save)
    assert ltkit(*words)[0] == 130
    assert ltkit(*words, "--resume")[0] == 0
    assert len(calls) == 4  # no epoch twice
    assert len(names(folder)) == 4
    for seed in (0, 1):
        done, whole = (folder / f"{name}.seed{seed}.pt" for name in ("gcl", "whole"))
        assert done.read_bytes() == whole.read_bytes()


def test_a_seed_of_other_settings_is_not_taken_for_finished(ltkit, folder):
    words = (*WORDS, "--seeds", "2")
    assert ltkit(*words)[0] == 0
    (folder / "gcl.seed1.pt").unlink()
    before = names(folder)
    code, _, error = ltkit(*words, "--resume", "--lr", "0.05")
    assert code == 2
    assert "gcl.seed0.pt: --lr: found 0.1, expected 0.05; resume with the settings of" in error
    code, _, error = ltkit(*words)
    assert code == 2
    assert "gcl.seed0.pt: exists; pass --overwrite" in error
    assert names(folder) == before
    (folder / "gcl.seed0.pt").write_bytes(b"?")
    code, _, error = ltkit(*words, "--resume")
    assert code == 2
    assert "gcl.seed0.pt: not a checkpoint of ltkit" in error
    (folder / "gcl.seed0.pt").unlink()
    code, _, error = ltkit(*words, "--resume")
    assert "gcl.seed0.pt.partial: not found, nothing to resume" in error
