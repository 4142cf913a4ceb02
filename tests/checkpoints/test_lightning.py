"""Checkpoints of Lightning: one network, several, none that is known."""

from dataclasses import replace

import made
import pytest
import torch
from containers import export, logits_of, published, reproduced
from family_files import C, randn

from ltkit import architectures, checkpoints
from ltkit.checkpoints import plain
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import lightning, state_dict
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread")


# Lightning


def ckpt(path, state, **entries):
    class AttributeDict(dict):
        """As Lightning pickles a user's settings."""

    AttributeDict.__qualname__ = "AttributeDict"
    globals()["AttributeDict"] = AttributeDict
    content = {
        "epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "loops": {}, "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "lr_schedulers": [], "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(arch="resnet20", lr=0.1), **entries,
    }  # fmt: skip
    torch.save(content, path)


METRICS = {
    "criterion.weight": torch.ones(C), "train_acc.confmat": torch.zeros(C, C),
    "val_acc.total": torch.tensor(3), "metrics.f1.tp": torch.zeros(C), "loss_fn.m": torch.ones(C),
}  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "head"),
    [("model.", "model.fc"), ("net.", "net.linear"), ("resnet.", "resnet.fc"),
     ("backbone.", "classifier"), ("my.own.resnet.", "my.own.head"), ("", "fc"),
     ("model._orig_mod.", "model._orig_mod.fc")],
)  # fmt: skip
@pytest.mark.parametrize("metrics", [False, True])
def test_lightnings_networks_under_any_attribute(path, tmp_path, prefix, head, metrics):
    state = published(prefix, head) | (METRICS if metrics else {})
    ckpt(path, state)
    content = checkpoints.read(path)
    special = [m for m in checkpoints.families.in_order() if not getattr(m, "GENERAL", False)]
    assert [m for m in special if m.matches(content, LoadSettings())] == [lightning]
    model, images = checkpoints.load(path), randn(2, 3, 32, 32)
    assert (model.family, model.arch) == ("lightning", "resnet20")
    torch.testing.assert_close(model.network(images), logits_of(state, images, prefix, head))
    assert {ours: there.name for ours, there in model.stored.items()} == {
        "head.weight": f"{head}.weight", "head.bias": f"{head}.bias",
    }  # fmt: skip
    note = "left out: 5 tensors of criterion, loss_fn, metrics, train_acc, val_acc"
    assert model.notes == (made.ASSUMED, *([note] if metrics else []))
    classifier = export(path, tmp_path / "out.ckpt")
    reproduced(checkpoints.load(tmp_path / "out.ckpt"), classifier, images)
    old, new = (checkpoints.read(p).states["state_dict",] for p in (path, tmp_path / "out.ckpt"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_lightnings_two_networks_and_two_heads(path):
    two = published("model.", "model.fc") | published("teacher.", "teacher.fc", seed=5)
    ckpt(path, two)
    words = ("m.pt: found 2 networks (model., teacher.)", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    heads = published("model.", "model.fc") | {"auxiliary.weight": randn(3, 64, seed=9)}
    ckpt(path, heads)
    words = ("head: found 2 that are 64 wide", "auxiliary.weight (3, 64)", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    for name in ("model.fc", "fc", "model.fc.weight"):
        found = checkpoints.load(path, LoadSettings(head=name))
        assert found.stored["head.weight"].name == "model.fc.weight"
        assert found.wanted.head == name
        assert "left out: auxiliary.weight" in found.notes


def test_a_head_that_is_called_as_a_loss_can_be_named(path):
    state = published("model.", "criterion")
    ckpt(path, state)
    made.refused(lambda: checkpoints.load(path), "head: found 0 that are 64 wide")
    found = checkpoints.load(path, LoadSettings(head="criterion"))
    assert found.stored["head.weight"].name == "criterion.weight"


def test_what_else_lightnings_file_has_is_not_left_out(path):
    ckpt(path, published("model.", "fc") | {"neck.weight": randn(65, 66)})
    words = ("does not fit resnet20", "unexpected: 1 (backbone.neck.weight)")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
    ckpt(path, published("model.", "fc") | {"gloss.weight": randn(3)})
    words = ("does not fit resnet20", "unexpected: 1 (backbone.gloss.weight)")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
    ckpt(path, published("model.", "model.fc") | {"fc.weight": randn(C, 64)})
    words = ("model.fc.weight, fc.weight: differ only in their prefix",)
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)


def test_lightnings_files_of_unknown_networks(path):
    ckpt(path, {"model.embed.weight": randn(3, 3)})
    made.refused(lambda: checkpoints.load(path), "layout not recognised", error=InputError)
    words = "does not fit resnet20"
    ckpt(path, published("model.", "model.fc") | {"model.odd.weight": randn(5)})
    made.refused(lambda: checkpoints.load(path, LoadSettings("resnet20")), words)
    assert not lightning.matches(checkpoints.read(path), LoadSettings("timm:resnet20"))
    torch.save({"pytorch-lightning_version": "2.5.0"}, path)
    made.refused(lambda: checkpoints.load(path), "layout not recognised")


@pytest.mark.more
def test_attributes_without_end_are_told_apart_in_one_pass(path):
    """Twenty thousand attributes with ten tensors each, and one network among them."""
    names = {f"a{i}.b{j}": torch.zeros(()) for i in range(20_000) for j in range(10)}
    content = Content(
        path, "torch", {"pytorch-lightning_version": "2"}, {lightning.PLACE: names}, ""
    )
    gathered = plain.gather(content).names
    assert set(state_dict._likeness(content, gathered).values()) == set()
    content = replace(content, states={lightning.PLACE: names | published("net.")})
    likeness = state_dict._likeness(content, plain.gather(content).names)
    assert (max(likeness, key=likeness.get), likeness["net."]) == ("net.", 1)


def test_few_tensors_are_no_network():
    smallest = len(architectures.backbone_shapes("digits_net"))
    assert plain.LIKE * smallest > plain.FEWEST
