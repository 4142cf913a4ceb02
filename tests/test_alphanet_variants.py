"""Variants of AlphaNet, against their naive forms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from six_classes import BINS, COUNTS, NONE, QUICK, made, neighbors_of
from torch import nn
from typer.testing import CliRunner

import ltkit
from ltkit import alphanet
from ltkit.alphanet.fitting import _times
from ltkit.alphanet.networks import Networks, _FirstLayers
from ltkit.alphanet.reduction import Draws, reduce, sample_losses
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.files import classifiers
from ltkit.records import Classifier, FeatureSplit, Neighbors, shot_groups

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"

# Variants


@pytest.mark.parametrize("network_input", ["neighbors", "own+neighbors"])
def test_applied_to_the_classes_of_the_fit_it_gives_their_rows(network_input):
    base, train, val = made()
    near = neighbors_of(train)
    runs = [replace(QUICK, seed=s, network_input=network_input) for s in (0, 1)]
    fitted = alphanet.fit(base, near, train, val, runs)
    again = alphanet.apply(fitted, base, near)
    np.testing.assert_allclose(again.extra["alpha"], fitted.extra["alpha"], atol=1e-6)
    np.testing.assert_allclose(again.weight, fitted.weight, atol=1e-5)
    np.testing.assert_array_equal(again.bias, np.tile(base.bias[near.few_class], (2, 1)))


def test_classes_that_were_not_there_are_corrected_afterwards():
    """Whatever the absent classes' rows and samples are, the fit of the others is the same."""
    base, train, val = made()
    near = neighbors_of(train)
    gone, left = near.few_class[[1]], np.array([0, 2])
    kept = Neighbors(near.few_class[left], near.base_class[left], near.distance[left])
    fitted = alphanet.fit(base, kept, train, val, [QUICK], absent=gone)
    weight, features = base.weight.copy(), train.features.copy()
    weight[gone] = 100.0
    features[train.labels == gone[0]] = -7.0
    other = Classifier(weight, base.bias, base.normalize_features, base.experts)
    changed = FeatureSplit(features, train.labels)
    same = alphanet.fit(other, kept, changed, val, [QUICK], absent=gone)
    np.testing.assert_array_equal(same.extra["alpha"], fitted.extra["alpha"])
    np.testing.assert_array_equal(same.extra["val_accuracy"], fitted.extra["val_accuracy"])
    new = alphanet.apply(fitted, base, Neighbors(gone, near.base_class[[1]], near.distance[[1]]))
    assert new.class_id.tolist() == gone.tolist()
    np.testing.assert_allclose(np.abs(new.extra["alpha"]).sum(axis=2), 1, rtol=1e-5)


def test_what_cannot_be_applied():
    base, train, val = made()
    near = neighbors_of(train)
    fitted = alphanet.fit(base, near, train, val, [QUICK])
    fewer = Neighbors(near.few_class, near.base_class[:, :2], near.distance[:, :2])
    with pytest.raises(InputError, match=r"found 24 inputs and 2 neighbours.* take 36 and 3"):
        alphanet.apply(fitted, base, fewer)
    with pytest.raises(InputError, match="holds no network"):
        alphanet.apply(replace(fitted, extra={}), base, near)


@pytest.mark.parametrize(("activation", "module"), [("relu", nn.ReLU), ("tanh", nn.Tanh)])
def test_other_activations(activation, module):
    base, train, _ = made()
    near = neighbors_of(train)
    run = replace(QUICK, activation=activation)
    stack = Networks(base, near, [run], "cpu")
    layers = []
    for weight, bias in zip(stack.parameters[::2], stack.parameters[1::2], strict=True):
        layer = nn.Linear(weight.shape[2], weight.shape[1])
        layer.weight, layer.bias = nn.Parameter(weight[0]), nn.Parameter(bias[0])
        layers += [layer, module()]
    raw = nn.Sequential(*layers[:-1])(stack.inputs)
    expected = raw / raw.abs().sum(dim=1, keepdim=True)
    torch.testing.assert_close(stack.alphas()[0], expected.detach())


def test_half_precision_rounds_rows_inputs_and_gradients_and_adds_up_exactly():
    base, train, _ = made()
    near = neighbors_of(train)
    runs = [replace(QUICK, seed=seed, amp="bf16") for seed in (0, 1, 2)]
    stack = Networks(base, near, runs, "cpu")
    layers, inputs = _FirstLayers(stack.inputs, stack.parameters[0], "bf16"), half(stack.inputs)
    for active in (3, 2):  # the gradient of fewer runs lies in the same place
        weight = stack.parameters[0][:active]
        products = inputs @ half(weight).flatten(0, 1).T
        torch.testing.assert_close(layers.products(weight), products.float(), rtol=8e-3, atol=1e-3)
        of_products = torch.linspace(-1, 1, products.numel()).view(products.shape)
        gradient = layers.gradient(of_products)
        expected = (half(of_products).T @ inputs).view(weight.shape).float()
        torch.testing.assert_close(gradient, expected, rtol=8e-3, atol=1e-3)
        assert gradient.dtype == torch.float32
    full = Networks(base, near, [replace(run, amp="off") for run in runs], "cpu")
    assert torch.equal(stack.alphas(), full.alphas())  # what is kept is computed in float32


def half(values):
    """Round to bfloat16, and return float64."""
    return values.bfloat16().double()


def test_half_precision_gives_nearly_the_same_rows_and_is_recorded():
    base, train, val = made()
    near = neighbors_of(train)
    full, half = (
        alphanet.fit(base, near, train, val, [replace(QUICK, amp=amp, epoch_choice="last")])
        for amp in ("off", "bf16")
    )
    assert 0 < np.abs(full.extra["alpha"] - half.extra["alpha"]).max() < 0.05
    assert "amp" not in full.runs[0]  # as before there was a choice
    assert half.runs[0]["amp"] == "bf16"
    with pytest.raises(InputError, match="amp: found 'fp16', expected off or bf16"):
        alphanet.fit(base, near, train, val, [replace(QUICK, amp="fp16")])


def test_logits_times_a_factor():
    """Logits of a tenth with the factor 10 give the rows of a tenth."""
    base, train, val = made()
    near = neighbors_of(train)
    tenth = Classifier(base.weight / 10, base.bias / 10, base.normalize_features, base.experts)
    plain = replace(QUICK, learning_rate=1e-12)  # the inputs differ, so only the start is alike
    first = alphanet.fit(tenth, near, train, val, [replace(plain, logit_scale=10.0)])
    alpha = first.extra["alpha"]
    np.testing.assert_allclose(first.weight, alphanet.combine(tenth, near, alpha), rtol=1e-5)
    np.testing.assert_allclose(first.bias[0], tenth.bias[near.few_class], rtol=1e-4)
    scaled = _times(tenth, 10.0)
    index = torch.arange(20)[None]
    losses = [
        sample_losses(
            reduce(c, near, train, None, NONE), index, torch.from_numpy(alpha),
            torch.from_numpy(c.bias[None, near.few_class]),
        )
        for c in (base, scaled)
    ]  # fmt: skip
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


def test_base_samples_may_be_equally_likely():
    _, train, _ = made()
    few = shot_groups(COUNTS, BINS).few
    base = np.setdiff1d(np.arange(len(COUNTS)), few)
    for sampling in ("uniform", "class-balanced"):
        run = replace(QUICK, rho=200.0, epochs=1, base_sampling=sampling)
        rows = Draws(train.labels, few, len(COUNTS), run, NONE).rows[0]
        drawn = np.bincount(train.labels[rows], minlength=len(COUNTS))[base]
        share = COUNTS[base] / COUNTS[base].sum() if sampling == "uniform" else 1 / len(base)
        np.testing.assert_allclose(drawn / drawn.sum(), share, atol=0.03)


def test_the_last_epoch_may_be_taken():
    base, train, val = made()
    last = alphanet.fit(
        base, neighbors_of(train), train, val, [replace(QUICK, epoch_choice="last")]
    )
    without = alphanet.fit(base, neighbors_of(train), train, None, [QUICK])
    assert last.extra["epoch"].tolist() == [6]
    assert "val_accuracy" not in last.extra
    np.testing.assert_array_equal(last.weight, without.weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"logit_scale": 0.0}, "logit_scale: found 0.0"), ({"hidden": ()}, "hidden: found 0 layers"),
     ({"hidden": (4, 0)}, "hidden: found 0, expected"),
     ({"logit_scale": float("inf")}, "logit_scale: found inf")],
)  # fmt: skip
def test_more_settings_out_of_range(change, said):
    base, train, val = made()
    with pytest.raises(InputError) as caught:
        alphanet.fit(base, neighbors_of(train), train, val, [replace(QUICK, **change)])
    assert said in str(caught.value)


def test_the_recipe_of_cifar_is_ten_epochs_of_which_the_last_is_kept(tmp_path):
    """What is given beside a recipe goes before it."""

    def fitted(*options):
        output = tmp_path / "o.h5"
        line = ["alphanet", "fit", str(DEMO), "--k", "2", "-o", str(output), "--overwrite", "-q"]
        result = CliRunner().invoke(app, [*line, *options])
        assert result.exit_code == 0, result.output
        return classifiers.read(output)[0]

    recipe = fitted("--variant", "code", "--recipe", "cifar")
    plain = fitted("--variant", "code", "--epochs", "10", "--epoch-choice", "last")
    assert recipe.runs == plain.runs
    np.testing.assert_array_equal(recipe.weight, plain.weight)
    assert recipe.extra["epoch"].tolist() == [10]
    assert "val_accuracy" not in recipe.extra
    other = fitted("--recipe", "cifar", "--epochs", "3", "--epoch-choice", "best")
    assert other.extra["val_accuracy"].shape == (1, 3)
    assert fitted("--epochs", "2").runs[0]["epoch_choice"] == "best"
