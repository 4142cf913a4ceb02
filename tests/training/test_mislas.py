"""MiSLAS: its two stages, and each of its ingredients alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from trained import files, fit, log, recipe, same, weights

from ltkit import architectures, checkpoints
from ltkit.losses import Moment, ce
from ltkit.settings import TrainPlan
from ltkit.training import runs
from ltkit.training.in_stages import stage_path, train_in_stages
from ltkit.training.methods import Seen
from ltkit.training.starts import start_of

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]
SETTINGS = replace(RUN, epochs=4, batch_size=40)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def train(digits, output, **more):
    parameters = more.pop("set", {})
    return train_in_stages(digits, "mislas", parameters, SETTINGS, output, **more)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The recipe, trained without a break."""
    path = tmp_path_factory.mktemp("whole") / "mislas.pt"
    train(digits, path)
    return path


def scaled(digits, output, first, epochs=2, **parameters):
    """The second stage by itself."""
    settings = replace(SETTINGS, epochs=epochs, schedule="cosine")
    made = built("learned-scales", digits.classes.train_count, per_class=4, **parameters)
    start = start_of(first, keep_head=True)
    fit(digits, output, settings, loss=made, method="learned-scales", start=start)
    return made


# The whole


def test_its_stages(digits, whole):
    first, second = (recipe(path) for path in (stage_path(whole, 1), whole))
    assert (first["method"], second["method"]) == ("ce", "learned-scales")
    assert first["mixing"]["alpha"] == 1.0
    assert second["mixing"] is None
    assert (first["epochs"], second["epochs"]) == (4, 1)
    assert (first["schedule"], second["schedule"]) == ("step", "cosine")
    assert second["init"] == {"digest": checkpoints.load(stage_path(whole, 1)).digest, "head": True}
    assert checkpoints.load(whole).head.bias.any()


@pytest.mark.parametrize("stopped", [1, 2])
def test_it_goes_on_where_it_stopped(digits, whole, tmp_path, stopped):
    output, seen = tmp_path / "mislas.pt", []

    class Stop(Exception):
        pass

    def report(path):
        def each(progress):
            seen.append(path)
            if len(seen) == (2 if stopped == 1 else 5):
                raise Stop

        return each

    with pytest.raises(Stop):
        train(digits, output, report=report)
    train(digits, output, resume=True)
    assert same(weights(output), weights(whole))
    assert log(output) == log(whole)
    assert [name for name in files(output) if name.endswith(".pt")] == [
        "mislas.pt", "mislas.stage1.pt",
    ]  # fmt: skip


# Its ingredients


def test_the_first_is_mixup(digits, whole, tmp_path):
    plan = TrainPlan("ce", {"mix.alpha": 1.0}, mixing="mixup")
    runs.train_networks(digits, plan, SETTINGS, tmp_path / "o.pt")
    assert same(weights(tmp_path / "o.pt"), weights(stage_path(whole, 1)))


def test_the_second_is_label_aware_smoothing(digits):
    """Class by class, of scaled logits; its gradients reach scales and rows, not the features."""
    method = built("learned-scales", COUNTS, head_rate=0.5, eps_head=0.4, eps_tail=0.1)
    network = architectures.build("digits_net", 3)
    method.attach(network)
    method.before_epoch(Moment(0, 5, None, lambda: torch.zeros(1)))
    method.scales.data = torch.tensor([1.0, 2.0, 0.5])
    network.backbone.requires_grad_(False)
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 2, 0, 1])
    value = method.of_batch(Seen((images,), labels, network, network.features_and_logits, "off"))
    z = method.scales * network(images)
    logs = z.detach().double().log_softmax(dim=1).numpy()
    rank = (np.array(COUNTS) - 3) / 397
    eps = 0.1 + 0.3 * np.sin(rank * np.pi / 2)
    expected = [
        -(1 - eps[y]) * row[y] - eps[y] * row.mean() for y, row in zip(labels, logs, strict=True)
    ]
    assert value.item() == pytest.approx(np.mean(expected), rel=1e-5)
    value.backward()
    assert all(p.grad.abs().max() > 0 for p in (method.scales, method.weight, method.bias))
    assert all(p.grad is None for p in network.parameters())


def test_without_smoothing_and_with_rows_held_it_is_learned_scales(digits, whole, tmp_path):
    first, plain = stage_path(whole, 1), tmp_path / "plain.pt"
    scaled(digits, plain, first)
    scaled(digits, tmp_path / "o.pt", first, head_rate=0.0, eps_head=0.0, batch_norm="held")
    assert same(weights(tmp_path / "o.pt"), weights(plain))
    parameters = {"head_rate": 0.0, "eps_head": 0.0, "eps_tail": 0.0, "batch_norm": "held"}
    train(digits, tmp_path / "mislas.pt", set=parameters)
    scaled(digits, plain, first, epochs=1)
    assert same(weights(tmp_path / "mislas.pt"), weights(plain))


def test_the_third_moves_the_statistics_and_nothing_else_of_the_backbone(digits, whole, tmp_path):
    first = stage_path(whole, 1)
    before, found = weights(first), {}
    for name in ("held", "shifted"):
        scaled(digits, tmp_path / f"{name}.pt", first, batch_norm=name)
        found[name] = weights(tmp_path / f"{name}.pt")
    for key, value in before.items():
        if key.startswith("backbone.") and not key.endswith("num_batches_tracked"):
            assert torch.equal(found["held"][key], value)
            moved = key.endswith(STATISTICS)
            assert torch.equal(found["shifted"][key], value) != moved


def test_the_statistics_become_those_of_balanced_batches(digits, whole, tmp_path, monkeypatch):
    """They are the moving mean, step by step, of what the first batch norm met."""
    met = []

    def look(module, inputs):
        if module.training:
            met.append(inputs[0].detach().mean(dim=(0, 2, 3)))

    original = architectures.build

    def watched(*given, **options):
        network = original(*given, **options)
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        norms[0].register_forward_pre_hook(look)
        return network

    first = stage_path(whole, 1)
    monkeypatch.setattr(architectures, "build", watched)
    scaled(digits, tmp_path / "o.pt", first, batch_norm="shifted")
    name = next(key for key in weights(first) if key.endswith("running_mean"))
    mean = weights(first)[name]
    for own in met:
        mean = 0.9 * mean + 0.1 * own
    assert len(met) == 2 * (len(digits.split("train")) // 40)
    torch.testing.assert_close(weights(tmp_path / "o.pt")[name], mean, rtol=1e-4, atol=1e-5)


def test_rows_are_trained_at_their_rate(digits, whole, tmp_path):
    """The head that is written has the scales multiplied in."""
    first = stage_path(whole, 1)
    made = scaled(digits, tmp_path / "o.pt", first, head_rate=0.2)
    before, after = weights(first), weights(tmp_path / "o.pt")
    assert (made.weight.detach() - before["head.weight"]).abs().max() > 1e-4
    scales = made.scales.detach()
    torch.testing.assert_close(after["head.weight"], scales[:, None] * made.weight.detach())
    torch.testing.assert_close(after["head.bias"], scales * made.bias.detach())
    slow = scaled(digits, tmp_path / "slow.pt", first, head_rate=1e-6)
    torch.testing.assert_close(slow.weight.detach(), before["head.weight"], rtol=1e-3, atol=1e-5)
    held = scaled(digits, tmp_path / "held.pt", first)
    torch.testing.assert_close(slow.scales.detach(), held.scales.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("head_rate", -1.0), ("eps_head", 1.1), ("eps_tail", -0.1), ("batch_norm", "moved"),
    ],
)  # fmt: skip
def test_parameters_out_of_range(parameter, value):
    message = f"{parameter}: found "
    refused(lambda: built("learned-scales", COUNTS, **{parameter: value}), message)


def test_a_cosine_loss_is_no_first_stage_of_it(digits, tmp_path):
    fit(digits, tmp_path / "c.pt", replace(RUN, epochs=1), loss=ce.loss, cosine=True, scale=10.0)
    made = built("learned-scales", digits.classes.train_count)
    start = start_of(tmp_path / "c.pt", keep_head=True)
    message = "method learned-scales: found a head whose logits have no rows of their own"
    refused(
        lambda: fit(
            digits, tmp_path / "o.pt", RUN, loss=made, start=start, cosine=True, scale=10.0
        ),
        message,
    )


def test_on_the_command_line(ltkit, folder):
    words = ["--data", "digits_lt", "--epochs", "8", "--batch-size", "40", "--device", "cpu"]
    code, _, said = ltkit("train", "--recipe", "mislas", *words, "-o", "net.pt")
    assert code == 0, said
    assert "stage 1 of 2, ce, 8 epochs: net.stage1.pt" in said
    assert "stage 2 of 2, learned-scales, 1 epochs: net.pt" in said
    for command in (
        "extract net.pt --data digits_lt -o f.h5 --device cpu",
        "posthoc tau-norm f.h5 -o t.h5",
        "alphanet fit f.h5 --k 2 --epochs 1 --bins 20,60 --device cpu -o a.h5",
        "evaluate f.h5 --classifier t.h5",
        "export t.h5 --into net.pt -o new.pt",
    ):
        code, _, said = ltkit(*command.split())
        assert code == 0, f"{command}: {said}"
    _, listed, _ = ltkit("train", "--list")
    assert "mislas" in listed
