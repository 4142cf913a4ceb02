"""Programs, TorchScript and torch.export: cut at the last layer, run, written back."""

import json
import zipfile
from pathlib import Path

import made
import numpy as np
import pytest
import torch
from containers import (
    ENDS,
    MAKERS,
    TRUSTED,
    Small,
    export,
    exported,
    quietly,
    reproduced,
    small,
    torchscript,
)
from family_files import C, randn
from torch import nn

from ltkit import checkpoints
from ltkit.architectures.heads import LinearHead
from ltkit.architectures.programs import Program
from ltkit.errors import InputError
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("end", ENDS)
def test_a_program_is_cut_at_its_last_layer(program, path, tmp_path, end):
    family, make = program
    make(end)
    net, images = small(end), randn(3, 3, 16, 16)
    model = checkpoints.load(path, TRUSTED)
    assert (model.family, model.head.num_classes, model.head.feature_size) == (family, C, 6)
    features, logits = model.network.features_and_logits(images)
    torch.testing.assert_close(features, net.features(images))
    torch.testing.assert_close(logits, net.logits(images))
    extraction.check_head(model.network, model.head, images)
    soft = ("the program's softmax is left out: logits are its input",)
    assert model.notes == (soft if end == "probabilities" else ()) + (made.ASSUMED,)
    head = {"columns": {"head.weight": "weight", "head.bias": "shift"}}.get(
        end, {f"head.{n}": f"head.{n}" for n in model.network.head.state_dict()}
    )
    assert {ours: there.name for ours, there in model.stored.items()} == head
    assert model.stored["head.weight"].transposed == (end == "columns")


@pytest.mark.parametrize("end", ENDS)
def test_a_corrected_program_differs_in_its_head_alone(program, path, tmp_path, end):
    _, make = program
    make(end)
    output, images = tmp_path / "out.pt", randn(3, 3, 16, 16)
    classifier = export(path, output, TRUSTED, free="without" not in end)
    after = checkpoints.load(output, TRUSTED)
    reproduced(after, classifier, images)
    expected = classifier.logits(small(end).features(images).detach().numpy())
    np.testing.assert_allclose(
        after.network.features_and_logits(images)[1].detach(), expected, atol=1e-5
    )
    old, new = (checkpoints.read(p).states["program",] for p in (path, output))
    assert len(old) >= 7
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {there.name for there in after.stored.values()}
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(output) as second:
        assert second.testzip() is None
        assert first.namelist() == second.namelist()
        differing = [n for n in first.namelist() if first.read(n) != second.read(n)]
    assert len(differing) == len(after.stored)
    a, b = path.read_bytes(), output.read_bytes()
    assert len(a) == len(b)


def test_a_frozen_program_has_its_head_among_its_constants(path, tmp_path):
    torchscript(small(), path, frozen=True)
    model = checkpoints.load(path, TRUSTED)
    assert all(there.name.startswith("constants.") for there in model.stored.values())
    classifier = export(path, tmp_path / "out.pt", TRUSTED)
    reproduced(checkpoints.load(tmp_path / "out.pt", TRUSTED), classifier, randn(3, 3, 16, 16))


def test_a_script_in_training_with_a_second_argument(path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop = nn.Linear(3, C), nn.Dropout()

        def forward(self, images: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            if mask is not None:
                images = images * mask
            return self.head(self.drop(images.mean((2, 3))))

    net = Masked()
    quietly(lambda: torch.jit.save(torch.jit.script(net), path))
    net.eval()
    images = randn(3, 3, 8, 8)
    found = checkpoints.load(path, TRUSTED).network(images)
    torch.testing.assert_close(found, net(images))


def test_programs_do_not_run_unless_they_may(program, path, monkeypatch):
    family, make = program
    make()
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch.export, "load", None)
    words = ("m.pt", "pass --trust-code if you trust its maker", "save the weights: torch.save(")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    content = checkpoints.read(path)
    assert content.container == family
    assert torch.equal(content.states["program",]["head.weight"], small().head.weight)
    assert content.tensors == {}


def test_the_recipes_work(path):
    net = small()
    torchscript(net, path)
    weights = quietly(lambda: torch.jit.load(path).state_dict())
    assert torch.equal(weights["head.weight"], net.head.weight)
    exported(net, path)
    assert torch.equal(torch.export.load(path).state_dict["head.weight"], net.head.weight)


def test_half_precision_is_computed_with_in_float32(program, path, tmp_path):
    _, make = program
    make("linear", True)
    net, images = small(half=True).float(), randn(3, 3, 16, 16)
    model = checkpoints.load(path, TRUSTED)
    assert model.notes[-1] == "float16 weights are computed with in float32"
    features, logits = model.network.features_and_logits(images)
    assert features.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(logits, net.logits(images))
    export(path, tmp_path / "out.pt", TRUSTED)
    weight = checkpoints.read(tmp_path / "out.pt").states["program",]["head.weight"]
    assert weight.dtype == torch.float16


def test_a_program_for_one_number_of_images_and_one_size(path):
    exported(small(), path, batch=4, size=96)
    model, images = checkpoints.load(path, TRUSTED), randn(7, 3, 96, 96)
    torch.testing.assert_close(model.network(images), small().logits(images))
    torch.testing.assert_close(
        model.network.features_and_logits(images)[0], small().features(images)
    )
    assert "the program takes 4 images at a time" in model.notes
    assert (model.image_size, model.view.resize, model.view.crop) == (96, 109, 96)
    with pytest.raises(InputError, match="does not take a batch of"):
        extraction.check_head(model.network, model.head, images[..., :32, :32])


def test_images_of_a_size_are_taken_whole_when_small(path):
    exported(small(), path, size=32)
    view = checkpoints.load(path, TRUSTED).view
    assert (view.resize, view.crop) == (32, 32)


def test_a_program_that_does_not_say_is_tried(path):
    class Flat(Small):
        def features(self, images):  # of larger images, it makes more rows
            return images.reshape(-1, 3 * 32 * 32)[:, :6]

    torchscript(Flat(), path, size=32)
    assert checkpoints.load(path, TRUSTED).image_size == 32


def test_equal_biases_are_told_apart_by_their_layer(program, path):
    class Zeros(Small):
        def __init__(self):
            super().__init__()
            self.after, self.before = nn.Linear(6, C), nn.Linear(6, C)
            for layer in (self.after, self.head, self.before):
                layer.bias.data.zero_()

        def forward(self, images):
            f = self.features(images)
            return self.head(f + self.before(f)[:, :6] + self.after(f)[:, :6])

    MAKERS[program[0]](Zeros(), path)
    stored = checkpoints.load(path, TRUSTED).stored
    assert (stored["head.weight"].name, stored["head.bias"].name) == ("head.weight", "head.bias")


def test_grey_images_need_their_statistics(program, path):
    _, make = program
    make("linear", False, 1)
    said = LoadSettings(mean=(0.5,), std=(0.2,), trust_code=True)
    model = checkpoints.load(path, said)
    assert (model.mean, model.std) == ((0.5,), (0.2,))
    assert not any("ImageNet" in note for note in model.notes)
    words = "found 1 and 3" if program[0] == "torchscript" else "found 3 and 3, expected 1"
    wanted = LoadSettings(mean=(0.5,), trust_code=True) if "1 and" in words else TRUSTED
    made.refused(lambda: checkpoints.load(path, wanted), words, "--mean", error=InputError)


class Ends(Small):
    """The same with an end that cannot be taken."""

    def forward(self, images):
        f = self.features(images)
        if self.end == "relu":
            return self.head(f).relu()
        if self.end == "normalised":
            return nn.functional.linear(f, nn.functional.normalize(self.head.weight))
        if self.end == "tokens":
            return self.head(f[:, None].expand(-1, 3, -1)).flatten(1)
        if self.end == "input":
            return images
        return self.head(f).sum(0, keepdim=True)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("relu", ["found relu at the program's end, expected a linear layer"]),
        ("input", ["found an input at the program's end"]),
        ("summed", ["found sum at the program's end"]),
        ("tokens", ["the last layer's input is (2, 3, 6), its weight (7, 6)"]),
    ],
)
def test_ends_that_are_not_linear(path, end, words):
    torchscript(Ends(end), path)
    made.refused(lambda: checkpoints.load(path, TRUSTED), "m.pt", *words, error=InputError)
    exported(Ends(end), path)
    made.refused(lambda: checkpoints.load(path, TRUSTED), "m.pt", *words, error=InputError)


def test_a_weight_that_the_program_makes_is_extracted_but_not_written(program, path, tmp_path):
    family, _ = program
    net = Ends("normalised without bias")
    net.end = "normalised"
    MAKERS[family](net, path)
    model, images = checkpoints.load(path, TRUSTED), randn(3, 3, 16, 16)
    assert model.stored == {}
    extraction.check_head(model.network, model.head, images)
    torch.testing.assert_close(model.network(images), net(images))
    words = ("the program makes its weights itself", "--to npz")
    made.refused(lambda: export(path, tmp_path / "o", TRUSTED, False), *words, error=InputError)
    assert made.beside(path) == ["m.pt"]


def test_a_program_that_takes_no_images(path):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, C)

        def forward(self, x):
            return self.head(x)

    for make in (
        lambda: torch.jit.save(torch.jit.trace(Text(), torch.zeros(2, 3)), path),
        lambda: torch.export.save(torch.export.export(Text(), (torch.zeros(2, 3),)), path),
    ):
        quietly(make)
        words = ("m.pt: the program does not take images of 224 or 32", "pixels (")
        made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=InputError)


def test_images_that_are_no_squares(path):
    images = torch.zeros(2, 3, 16, 24)
    quietly(lambda: torch.export.save(torch.export.export(small(), (images,)), path))
    words = "m.pt: takes images of 16 x 24, 2 at once; expected squares, and"
    made.refused(lambda: checkpoints.load(path, TRUSTED), words, error=InputError)


def test_a_program_moves_and_stays_as_it_is():
    net = small()

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            assert images.is_contiguous()
            return net(images), net.features(images)[:, :, None, None]

    head = LinearHead(6, C)
    whole = Program(Whole(), head, batch=2)
    assert whole.train().training is False
    assert whole.to("cpu", torch.float64, memory_format=torch.channels_last) is whole
    assert net.conv.weight.is_contiguous()
    assert net.conv.weight.dtype == torch.float64
    images = randn(5, 3, 16, 16).double().to(memory_format=torch.channels_last)
    features, logits = whole.features_and_logits(images)
    assert (features.shape, logits.shape) == ((5, 6), (5, C))
    torch.testing.assert_close(logits, net.logits(images))


def test_an_extracted_program_gives_its_own_logits(program, path, tmp_path):
    _, make = program
    make("linear", size=32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(images, np.arange(14) % C, np.arange(14).astype(str))
    data = Dataset(
        {"test": split}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3, 0, False,
        {"spec": "random", "index_digest": "x"},
    )  # fmt: skip
    model = checkpoints.load(path, TRUSTED)
    output = tmp_path / "f.h5"
    extraction.extract(model, data, ("test",), output, ExtractSettings(batch_size=8))
    found = features_file.read(output)
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.mean, model.std))
    expected = small().logits((values - mean) / std).detach().numpy()
    logits = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert "trust_code" not in found.settings["load"]


def test_the_command_line_asks_for_trust(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    net = small(channels=1)
    net.head = nn.Linear(6, 10)
    torchscript(net, "m.pt", size=8)
    said = ("--mean", "0.3", "--std", "0.4")
    torchscript(small(), "colour.pt")
    code, _, err = ltkit("inspect", "colour.pt")
    assert code == 2
    assert "--trust-code" in err
    code, out, _ = ltkit("inspect", "colour.pt", "--trust-code", "--json")
    assert code == 0
    assert json.loads(out)["head"]["classes"] == C
    words = ["extract", "m.pt", "--data", "digits_lt", *said, "-o", "f.h5"]
    assert ltkit(*words)[0] == 2
    assert ltkit(*words, "--trust-code")[0] == 0
    assert "trust_code" not in features_file.read(Path("f.h5")).settings["load"]
    assert ltkit("posthoc", "logit-adjust", "f.h5", "--set", "tau=1", "-o", "a.h5")[0] == 0
    words = ["export", "a.h5", "--into", "m.pt", "-o", "out.pt"]
    code, _, err = ltkit(*words)
    assert (code, Path("out.pt").exists()) == (2, False)
    assert "--trust-code" in err
    assert ltkit(*words, "--trust-code")[0] == 0
    with zipfile.ZipFile("out.pt") as archive:
        assert archive.read("m/extra/labels.txt") == b"cat"
