"""The corrected head in the user's own checkpoint, and alone."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from typer.testing import CliRunner

from ltkit import checkpoints, datasets
from ltkit.checkpoints import Recognised
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.exports.checkpoint import export_into
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.records import NEVER, Classifier, Correction, Head
from ltkit.training import checkpoint as training_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    if code == 0:
        assert result.exception is None, result.exception
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """model.pt with random weights, its features, and a correction in several runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    from ltkit import architectures

    dataset = datasets.load("digits_lt")
    torch.manual_seed(0)
    network = architectures.build("digits_net", 10)
    recipe = {"arch": "digits_net", "cosine": False, "scale": 1.0, "dataset": dict(dataset.record)}
    training_checkpoint.save(Path("model.pt"), recipe, 1, network, dataset)
    run("extract", "model.pt", "--data", "digits_lt", "-q")
    run("alphanet", "fit", "--k", "3", "--epochs", "3", "--seeds", "2", "-q")
    return tmp_path


def same_but_the_head(first, second):
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_a_bundle_has_the_checkpoint(folder):
    words = ("feats.alphanet.h5", "--into", "model.pt", "--run", "seed=1")
    run("export", *words, "--bundle", "shipped")
    run("export", *words, "-o", "fixed.pt")
    states = [
        torch.load(path, weights_only=True)["state_dict"]
        for path in ("shipped/model.pt", "fixed.pt")
    ]
    assert not same_but_the_head(*states)
    run("check", "shipped", "feats.h5", "--split", "val")


def test_the_exported_network_is_the_corrected_one(folder):
    run("export", "feats.alphanet.h5", "--into", "model.pt", "--run", "seed=1", "-o", "fixed.pt")
    correction, _ = classifiers.read(Path("feats.alphanet.h5"))
    number = [r["seed"] for r in correction.runs].index(1)
    features = features_file.read(Path("feats.h5"))
    corrected = correction.classifier(features.classifier(), number)

    old, new = (torch.load(name, weights_only=True) for name in ("model.pt", "fixed.pt"))
    changed = same_but_the_head(old["state_dict"], new["state_dict"])
    assert changed == {"head.weight", "head.bias"}
    assert {k: v for k, v in old.items() if k != "state_dict"} == {
        k: v for k, v in new.items() if k != "state_dict"
    }
    run("extract", "fixed.pt", "--data", "digits_lt", "-o", "again.h5", "-q")
    again = features_file.read(Path("again.h5"))
    x = features.split("test").features[:]
    np.testing.assert_array_equal(x, again.split("test").features[:])
    np.testing.assert_allclose(again.classifier().logits(x), corrected.logits(x), atol=1e-5)


def test_half_precision_safetensors_keep_their_type_and_metadata(folder):
    content = torch.load("model.pt", weights_only=True)
    import json

    keys = ("format", "format_version", "arch", "cosine", "scale", "mean", "std", "recipe")
    metadata = {key: json.dumps(content[key]) for key in keys}
    half = {k: v.half() if v.is_floating_point() else v for k, v in content["state_dict"].items()}
    save_file(half, "half.safetensors", metadata)
    run("extract", "half.safetensors", "--data", "digits_lt", "-o", "half.h5", "-q")
    run("posthoc", "logit-adjust", "half.h5", "--set", "tau=1", "-q")
    run("export", "half.logit-adjust.h5", "--into", "half.safetensors", "-o", "fixed.safetensors")
    old, new = (checkpoints.read(Path(f"{n}.safetensors")) for n in ("half", "fixed"))
    assert old.top == new.top
    assert same_but_the_head(old.tensors, new.tensors) == {"head.bias"}
    assert new.tensors["head.bias"].dtype == torch.float16


@pytest.mark.parametrize("wrapped", [True, False])
def test_published_layouts_keep_their_names(folder, wrapped):
    """A CIFAR ResNet with ``module.`` and ``linear``, in a state_dict entry or raw."""
    from ltkit import architectures

    torch.manual_seed(0)
    state = architectures.build("resnet20", 10).state_dict()
    state = {
        f"module.{k.removeprefix('backbone.').replace('head.', 'linear.')}": v
        for k, v in state.items()
    }
    torch.save({"best_prec1": 91.0, "state_dict": state} if wrapped else state, "net.th")
    model = checkpoints.load(Path("net.th"))
    rng = np.random.default_rng(0)
    correction = Correction(
        "made", np.array([8, 9]), rng.normal(size=(1, 2, 64)).astype(np.float32),
        rng.normal(size=(1, 2)).astype(np.float32), ({},),
    )  # fmt: skip
    export_into(Path("net.th"), correction, 0, Path("out.th"), made_from=model.digest)
    new = checkpoints.load(Path("out.th"))
    names = {ours: there.name for ours, there in new.stored.items()}
    assert names == {
        "head.weight": "module.linear.weight", "head.bias": "module.linear.bias",
    }  # fmt: skip
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        features, logits = new.network.features_and_logits(images)
    expected = correction.classifier(model.head.fold(), 0).logits(features.numpy())
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_head_alone(folder):
    run("posthoc", "tau-norm", "--set", "tau=0.5", "-q")
    for form in ("npz", "safetensors", "csv"):
        run("export", "feats.tau-norm.h5", "--to", form, "-o", f"head.{form}", "-q")
    correction, _ = classifiers.read(Path("feats.tau-norm.h5"))
    with np.load("head.npz") as file:
        arrays = dict(file)
    tensors = load_file("head.safetensors")
    with Path("head.csv").open(encoding="utf-8") as file:
        rows = [list(map(float, row)) for row in list(csv.reader(file))[1:]]
    table = np.array(rows, dtype=np.float32)
    for weight, bias in (
        (arrays["weight"], arrays["bias"]),
        (tensors["weight"], tensors["bias"]),
        (table[:, 2:], table[:, 1]),
    ):
        np.testing.assert_array_equal(weight, correction.weight[0])
        np.testing.assert_array_equal(bias, correction.bias[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--into", "model.pt"], "found 2 of 2 runs.*seed: 0, 1"),
        (["--into", "model.pt", "--run", "seed=7"], "found 0 of 2 runs"),
        (["--into", "model.pt", "--run", "seed=x"], "--run seed: found x"),
        ([], "expected one of --into CHECKPOINT, --bundle DIR"),
        (["--to", "npz", "--into", "model.pt"], "expected one of --into CHECKPOINT, --bundle DIR"),
        (["--to", "npy"], "--to: found npy"),
        (["--into", "other.pt", "--run", "seed=0"], "extracted from"),
    ],
)
def test_wrong_inputs(folder, words, said):
    content = torch.load("model.pt", weights_only=True)
    content["state_dict"]["head.bias"] += 1
    torch.save(content, "other.pt")
    result = run("export", "feats.alphanet.h5", *words, "-o", "out.pt", code=2)
    with pytest.raises(InputError, match=said):
        raise result.exception
    assert not Path("out.pt").exists()


def test_an_output_must_be_named(folder):
    result = run("export", "feats.alphanet.h5", "--to", "npz", code=2)
    assert "--output: absent" in str(result.exception)


def test_an_export_that_does_not_reproduce_the_logits_leaves_nothing(folder, monkeypatch):
    correction, _ = classifiers.read(Path("feats.alphanet.h5"))
    digest = checkpoints.load(Path("model.pt")).digest
    whole = checkpoints.rewrite

    def forget_the_bias(content, output, tensors):
        key = (("state_dict",), "head.weight")
        whole(content, output, {key: tensors[key] * 2})

    monkeypatch.setattr(checkpoints, "rewrite", forget_the_bias)
    with pytest.raises(InputError, match="logits are off by"):
        export_into(Path("model.pt"), correction, 0, Path("o.pt"), made_from=digest)

    def touch_another(content, output, tensors):
        name = "backbone.0.weight"
        whole(content, output, {**tensors, (("state_dict",), name): content.tensors[name] + 1})

    monkeypatch.setattr(checkpoints, "rewrite", touch_another)
    with pytest.raises(InputError, match="tensor by tensor"):
        export_into(Path("model.pt"), correction, 0, Path("o.pt"), made_from=digest)
    assert not list(Path().glob("*o.pt*"))


@pytest.mark.parametrize(
    ("normalize", "experts"), [("none", 1), ("none", 3), ("features", 2), ("cosine", 1)]
)
def test_holding_undoes_folding(normalize, experts):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(experts, 4, 6)).astype(np.float32)
    bias = np.zeros((experts, 4), np.float32)
    if normalize != "cosine":
        bias += rng.normal(size=4)
    head = Head(weight, bias, 7.0, normalize)
    back = head.holding(head.fold())
    assert (back.weight.shape, back.normalize, back.scale) == (weight.shape, normalize, 7.0)
    np.testing.assert_allclose(back.fold().weight, head.fold().weight, rtol=1e-5)
    np.testing.assert_allclose(back.fold().bias, head.fold().bias, rtol=1e-5)


def test_a_form_that_cannot_hold_the_correction_says_so():
    cosine = Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 5.0, "cosine")
    longer = Classifier(5 * np.diag([1, 1, 2]).astype(np.float32), np.zeros(3, np.float32), True)
    with pytest.raises(InputError, match=r"lengths 1 to 2.*--to npz"):
        cosine.holding(longer)
    with pytest.raises(InputError, match=r"'cosine', the classifier's is 'none'"):
        cosine.holding(Classifier(longer.weight, longer.bias, False))


def test_a_head_stored_by_columns_stays_so(folder):
    """A cosine head of the LDAM-DRW layout, rotated: unit rows, so its form can hold them."""
    from ltkit import architectures

    state = architectures.build("resnet20", 10, cosine=True).state_dict()
    state = {k.removeprefix("backbone.").replace("head.", "linear."): v for k, v in state.items()}
    state["linear.weight"] = state["linear.weight"].T.contiguous()
    torch.save({"epoch": 1, "arch": "resnet20", "state_dict": state}, "drw.pt")
    model = checkpoints.load(Path("drw.pt"))
    rows = model.head.fold().weight[[1, 0]]
    swapped = Correction("made", np.array([0, 1]), rows[None], np.zeros((1, 2)), ({},), True)
    export_into(Path("drw.pt"), swapped, 0, Path("o.pt"), made_from=model.digest)
    old, new = (checkpoints.read(Path(n)).tensors["linear.weight"] for n in ("drw.pt", "o.pt"))
    assert new.shape == (64, 10)
    torch.testing.assert_close(new[:, [1, 0]], old[:, :2])


def test_onnx_is_asked_for_where_it_is_missing(folder, monkeypatch):
    import sys

    run("posthoc", "logit-adjust", "--set", "tau=1", "-q")
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("export", "feats.logit-adjust.h5", "--to", "onnx", "-o", "head.onnx", code=2)
    assert "pip install 'ltkit[onnx]'" in str(result.exception)
    assert not Path("head.onnx").exists()


def test_a_class_that_is_never_predicted(folder, monkeypatch):
    """Beside its bias of -1e30 a wrong row of another class must not pass for a right one."""
    features = features_file.read(Path("feats.h5"))
    base = features.classifier()
    weight, bias = base.weight.copy(), base.bias.copy()
    weight[3], bias[3] = 0, NEVER
    made = Correction("made", np.arange(10), weight[None], bias[None], ({},))
    digest = checkpoints.load(Path("model.pt")).digest
    export_into(Path("model.pt"), made, 0, Path("fixed.pt"), made_from=digest)
    run("extract", "fixed.pt", "--data", "digits_lt", "-o", "again.h5", "-q")
    again = features_file.read(Path("again.h5")).classifier()
    np.testing.assert_array_equal(again.bias, bias)
    assert again.told.tolist() == [n != 3 for n in range(10)]
    assert Classifier(weight, np.full(10, NEVER, np.float32)).told.all()

    found = checkpoints.load(Path("fixed.pt")).head
    rows = found.weight.copy()
    rows[4] += 1
    monkeypatch.setattr(Recognised, "head", Head(rows, found.bias))
    result = run("extract", "fixed.pt", "--data", "digits_lt", "-o", "no.h5", "-q", code=2)
    assert "features times head differ" in str(result.exception)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    whole = checkpoints.rewrite

    def double(content, output, tensors):
        key = (("state_dict",), "head.weight")
        whole(content, output, {**tensors, key: tensors[key] * 2})

    monkeypatch.setattr(checkpoints, "rewrite", double)
    with pytest.raises(InputError, match="logits are off by"):
        export_into(Path("model.pt"), made, 0, Path("o.pt"), made_from=digest)


def test_what_half_precision_does_not_hold_is_refused(folder):
    content = torch.load("model.pt", weights_only=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in content["state_dict"].items()}
    torch.save(content | {"state_dict": half}, "half.pt")
    model = checkpoints.load(Path("half.pt"))
    bias = np.full((1, 1), NEVER, np.float32)
    made = Correction("made", np.array([3]), np.zeros((1, 1, 64), np.float32), bias, ({},))
    with pytest.raises(InputError, match=r"head\.bias: found 1e\+30 .* float16 does not hold"):
        export_into(Path("half.pt"), made, 0, Path("o.pt"), made_from=model.digest)
    assert not Path("o.pt").exists()
