"""Where a network lies in a file, what stands before its names, and what stands beside it."""

import made
import pytest
import torch
from torch import nn

from ltkit import architectures, checkpoints
from ltkit.checkpoints import beside, plain
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread")
C = 7


def body(seed: int = 0, arch: str = "resnet20") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return architectures.build(arch, 1).backbone.eval()


def randn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


HEAD = {"weight": randn(C, 64), "bias": randn(C, seed=2)}


def network(prefix="", head="fc.", seed=0):
    """A state dict as a script writes it."""
    tensors = {prefix + name: t.clone() for name, t in body(seed).state_dict().items()}
    return tensors | {head + leaf: t + seed for leaf, t in HEAD.items()}


@torch.no_grad()
def reproduced(path, wanted=None, seed=0, saved=None):
    """Check that a saved network's logits are those of the modules it was made of."""
    if saved is not None:
        torch.save(saved, path)
    found, images = checkpoints.load(path, wanted), randn(2, 3, 32, 32)
    expected = body(seed)(images) @ (HEAD["weight"] + seed).T + HEAD["bias"] + seed
    torch.testing.assert_close(found.network(images), expected)
    return found


PLACES = {
    "outermost": network(),
    "model_state_dict": {"epoch": 3, "model_state_dict": network(), "loss": torch.tensor(0.5)},
    "network": {"network": network(), "optimizer": {"state": {0: {"m": torch.zeros(3)}}}},
    "weights": {"weights": network(), "best_acc1": torch.tensor(0.5)},
    "net": {"net": network(), "acc": 0.5},
    "params": {"params": network()},
    "nested": {"state_dict": {"model": network()}, "epoch": torch.tensor(3)},
    "deep": {"checkpoint": {"student_model": {"weights": network("module.")}}},
    "deeper": {"run": {"state": {"trainer": {"net": {"module": {"weights": network()}}}}}},
    "own key": {"my_resnet_v2": network(), "lr": 0.1, "optimizer_state": {"a": torch.zeros(9)}},
    "twice": {"state_dict": network(), "model": network("module.", "module.fc.")},
    "backbone and head": {"backbone": body().state_dict(), "head": HEAD},
    "backbone and classifier": {"backbone": body().state_dict(), "classifier": HEAD},
    "encoder and fc": {"epoch": 9, "encoder": body().state_dict(), "fc": HEAD},
    "body and a module": {"body": network("", "x.") | {}, "scheduler": {"b": torch.ones(9)}},
    "with losses": {"state_dict": network(), "criterion": {"weight": torch.ones(C)}},
}


@pytest.mark.parametrize("where", PLACES)
def test_where_the_weights_lie(path, where):
    reproduced(path, saved=PLACES[where])


PREFIXES = [
    ("resnet.", "resnet.fc."), ("base.", "base.fc."), ("encoder.", "classifier."),
    ("model._orig_mod.", "model._orig_mod.fc."), ("model.0.", "model.1."), ("0.", "1."),
    ("module.encoder.module.", "module.head."), ("a.b.c.d.", "a.b.c.fc."),
    ("_orig_mod.model.module.backbone._fsdp_wrapped_module.", "_orig_mod.model.module.fc."),
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "head"), PREFIXES)
@pytest.mark.parametrize("key", [None, "state_dict", "network"])
def test_what_stands_before_the_names(path, prefix, head, key):
    state = network(prefix, head)
    found = reproduced(path, saved={key: state} if key else state)
    assert found.stored["head.weight"].name == f"{head}weight"


def test_wrappers_in_the_middle(path):
    """torch.compile of single stages, and checkpointed blocks."""
    state = {
        n.replace("layer1.", "layer1._orig_mod.").replace(
            "layer2.0.", "layer2.0._checkpoint_wrapped_module."
        ): t
        for n, t in network().items()
    }
    reproduced(path, saved=state)
    state["layer1._orig_mod.module.0.conv1.weight"] = state["layer1._orig_mod.0.conv1.weight"]
    torch.save(state, path)
    made.refused(lambda: checkpoints.load(path), "differ only in their prefix", error=FormatError)


def sequential(names):
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    split = ((name.partition("."), t) for name, t in names.items())
    return {f"features.{numbers[a]}.{b}": t for (a, _, b), t in split}


@torch.no_grad()
def test_the_children_of_a_torchvision_network_in_a_sequence(path):
    net, w, images = body(arch="resnet18"), randn(C, 512), randn(2, 3, 64, 64)
    torch.save(sequential(net.state_dict()) | {"fc.weight": w, "fc.bias": HEAD["bias"]}, path)
    found = checkpoints.load(path)
    assert found.arch == "resnet18"
    torch.testing.assert_close(found.network(images), net(images) @ w.T + HEAD["bias"])


@torch.no_grad()
def test_shortcuts_by_another_name_and_a_small_stem(path):
    net, w, images = body(arch="resnet18_small"), randn(C, 512), randn(2, 3, 32, 32)
    names = {n.replace("downsample", "shortcut"): t for n, t in net.state_dict().items()}
    torch.save({"net": names | {"linear.weight": w, "linear.bias": HEAD["bias"]}}, path)
    found = checkpoints.load(path)
    assert found.arch == "resnet18_small"
    torch.testing.assert_close(found.network(images), net(images) @ w.T + HEAD["bias"])
    assert any("stride 1 and no max-pool" in note for note in found.notes)


LOSSES = {
    "criterion.weight": torch.ones(C), "ce.weight": torch.ones(C), "loss_fn.base.m": torch.ones(C),
    "class_weights": torch.ones(C), "train_acc.confmat": torch.zeros(C, C),
    "val_f1.tp": torch.zeros(C), "cls_num_list": torch.ones(C), "ldam_loss.m_list": torch.ones(C),
    "criterion.centers": torch.ones(C, 3),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_losses_and_metrics_are_left_out_and_named(path, prefix):
    losses = {prefix + name: t for name, t in LOSSES.items()}
    found = reproduced(path, saved={"state_dict": network(prefix, f"{prefix}fc.") | losses})
    assumed, note = found.notes
    assert assumed == made.ASSUMED
    assert note.startswith(f"left out: {len(LOSSES)} tensors of ")
    assert all(name in note for name in beside.first_words(losses))


def test_a_loss_that_has_the_only_head_is_not_left_out(path):
    torch.save(network("", "metric_fc."), path)
    words = ("found 0 that are 64 wide", "metric_fc.weight (7, 64)", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    reproduced(path, LoadSettings(head="metric_fc"))


def test_other_families_leave_losses_out_too(path):
    state = network("backbone.", "classifier.") | {"criterion.weight": torch.ones(C)}
    found = reproduced(path, saved={"state_dict": state, "epoch": 1})
    assert (found.family, found.notes) == ("bag-of-tricks", ("left out: 1 tensors of criterion",))


@pytest.mark.parametrize(
    "saved",
    [{"model": network(), "teacher": network(seed=3)},
     {"state_dict": network("student.", "student.fc.") | network("teacher.", "teacher.fc.", 3)},
     {"a": {"b": network(), "c": network(seed=3)}},
     {"online": network(), "frozen": body(3).state_dict()}],
)  # fmt: skip
def test_two_networks_are_not_guessed_between(path, saved):
    torch.save(saved, path)
    words = ("m.pt: found 2 networks (", "expected one", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)


def test_one_of_two_networks_is_named_by_its_head(path):
    two = {"model": network(), "teacher": network(seed=3)}
    reproduced(path, LoadSettings(head="model.fc"), saved=two)
    found = reproduced(path, LoadSettings(head="teacher.fc"), seed=3)
    assert found.stored["head.bias"].place == ("teacher",)
    assert found.notes == ("left out: model, beside the network", made.ASSUMED)


@pytest.mark.parametrize(
    "key", ["model_ema", "state_dict_ema", "ema_model", "ema", "swa_model", "averaged_model"]
)
def test_averages_and_best_weights(path, key):
    saved = {"model": network(), key: network("module.", "module.fc.", 2)}
    found = reproduced(path, seed=2, saved=saved)
    assert found.notes == ("weights: ema taken; --weights raw takes others", made.ASSUMED)
    reproduced(path, LoadSettings(weights="raw"))
    best = {"model": network(), "best_state": network(seed=2)}
    found = reproduced(path, saved=best)
    assert found.notes == ("weights: raw taken; --weights best takes others", made.ASSUMED)
    reproduced(path, LoadSettings(weights="best"), seed=2)
    reproduced(path, saved={"best_model": network()})


def test_the_note_of_an_unknown_layout_names_the_nearest(path):
    net = {n: t for n, t in network().items() if "layer1" not in n and "layer2" not in n}
    torch.save({"state_dict": net}, path)
    words = ("layout not recognised; found state_dict", "nearest is resnet20, with 36% of its",
             "--model PKG.MODULE:NAME", "ltkit import")  # fmt: skip
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("arch", ["resnet20", "resnet18", "resnet18_small"])
def test_images_of_other_channels(path, arch, channels):
    net = architectures.build(arch, C, channels=channels).eval()
    state = {n.removeprefix("backbone."): t for n, t in net.state_dict().items()}
    torch.save({n.replace("head.", "fc."): t for n, t in state.items()}, path)
    words = (f"found 3 and 3, expected {channels} each for {arch}", "--mean and --std")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    half = (0.5,) * channels
    found, images = (
        checkpoints.load(path, LoadSettings(mean=half, std=half)),
        randn(2, channels, 32, 32),
    )
    assert (found.arch, len(found.mean)) == (arch, channels)
    torch.testing.assert_close(found.network(images), net(images))


def test_a_file_without_weights_has_no_network(path):
    torch.save({"optimizer": {"a": torch.zeros(9)}, "epoch": 1}, path)
    assert plain.gather(checkpoints.read(path)).names == {}
