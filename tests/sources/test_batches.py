"""A model in memory and batches of anything: tensors, tokens, tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ltkit
from ltkit.errors import InputError, SettingError
from ltkit.files import features as features_file


class Text(nn.Module):
    """Bags of words."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.EmbeddingBag(50, 6), nn.Linear(6, 3)

    def forward(self, tokens, offsets=None):
        return self.out(self.table(tokens))


class Wrapped(Text):
    """Its answer is an object with logits, as in transformers."""

    def forward(self, tokens):
        return type("Answer", (), {"logits": super().forward(tokens)})


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def words(count, classes=3):
    """Return batches of tokens with labels."""
    return [(torch.randint(0, 50, (8, 5)), torch.arange(8) % classes) for _ in range(count)]


@pytest.mark.parametrize("kind", [Text, Wrapped])
@pytest.mark.parametrize("form", ["pairs", "mappings", "loader"])
def test_features_and_head_are_the_models_own(tmp_path, kind, form):
    model, train, test = kind(), words(3), words(2)
    given = {"train": train, "test": test}
    if form == "mappings":
        given = {n: [{"tokens": t, "labels": y} for t, y in b] for n, b in given.items()}
    if form == "loader":
        tokens, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
        data = torch.utils.data.TensorDataset(tokens, labels)
        given["train"] = torch.utils.data.DataLoader(data, batch_size=7)
    found = ltkit.extract(model, given, tmp_path / "f.h5", class_names=["a", "b", "c"])
    tokens, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    with torch.no_grad():
        expected = model.table(tokens)
        logits = model.out(expected).numpy()
    np.testing.assert_allclose(found.split("train").features[:], expected, atol=1e-6)
    np.testing.assert_array_equal(found.split("train").labels, labels)
    ours = found.classifier().logits(found.split("train").features[:])
    np.testing.assert_allclose(ours, logits, atol=1e-5)
    assert found.classes.train_count.tolist() == np.bincount(labels).tolist()
    assert found.classes.names == ("a", "b", "c")
    assert features_file.read(tmp_path / "f.h5").digest == found.digest
    assert not list(tmp_path.glob("tmp*"))


def test_a_table_and_a_head_by_name(tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Identity())
    rows = [(torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 0]))]
    by_itself = ltkit.extract(model, {"train": rows}, tmp_path / "a.h5")
    named = ltkit.extract(model, {"train": rows}, tmp_path / "b.h5", head="2")
    assert by_itself.digest != ""
    one, other = (f.split("train").features[:] for f in (by_itself, named))
    np.testing.assert_array_equal(one, other)
    counted = ltkit.extract(
        model, {"test": rows}, tmp_path / "c.h5", train_counts=[90, 10], overwrite=True
    )
    assert counted.classes.train_count.tolist() == [90, 10]
    with pytest.raises(InputError, match="exists; pass --overwrite"):
        ltkit.extract(model, {"train": rows}, tmp_path / "a.h5")


PAIR = (torch.randn(4, 4), torch.tensor([0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({}, {}, "batches: found none, expected some of train, val, test"),
        ({"dev": [PAIR]}, {}, "batches: found dev"),
        ({"train": []}, {}, "train: found no batch"),
        ({"train": [PAIR[0]]}, {}, r"train: batch 0: found Tensor, expected \(inputs, labels\)"),
        ({"train": [{"x": PAIR[0]}]}, {}, "train: batch 0: found dict, expected"),
        ({"train": [(PAIR[0], torch.randn(4))]}, {}, "labels: found float32"),
        ({"train": [(PAIR[0], PAIR[1][:, None])]}, {}, r"labels: found int64 \(4, 1\)"),
        ({"train": [(PAIR[0], PAIR[1] - 1)]}, {}, r"labels: found int64 \(4,\), expected"),
        ({"train": [PAIR, (PAIR[0], PAIR[1][:3])]}, {}, "batch 1: found 4 rows of features and 3"),
        ({"train": [(PAIR[0] * torch.nan, PAIR[1])]}, {}, "features times head differ|not finite"),
        ({"train": [PAIR]}, {"head": "0"}, r"features times head are \(4, 8\), the model's logits"),
        ({"train": [PAIR]}, {"head": "1"}, "head 1: is no linear layer of the model"),
        ({"test": [PAIR]}, {}, "train_counts: absent; without train they must be given"),
        ({"train": [PAIR]}, {"train_counts": [3]}, "head: found 2 classes, expected 1"),
        ({"train": [(PAIR[0], PAIR[1] + 3)]}, {}, "head: found 2 classes, expected 5"),
        ({"train": [PAIR]}, {"class_names": ["a"]}, "class_names: found 1, expected 2"),
    ],
)
def test_what_does_not_fit(tmp_path, given, more, message):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises((InputError, SettingError), match=message):
        ltkit.extract(model, given, tmp_path / "f.h5", **more)
    assert not list(tmp_path.iterdir())


def test_a_model_whose_output_is_no_linear_layers(tmp_path):
    model = nn.Sequential(nn.Linear(4, 2), nn.Softmax(1))
    with pytest.raises(InputError, match="no linear layer gives the network's output"):
        ltkit.extract(model, {"train": [PAIR]}, tmp_path / "f.h5")


def test_models_and_data_go_together(tmp_path):
    with pytest.raises(InputError, match=r"found batches for m\.pt, expected a dataset"):
        ltkit.extract("m.pt", {"train": [PAIR]}, tmp_path / "f.h5")
    with pytest.raises(InputError, match="found a dataset for a model in memory"):
        ltkit.extract(nn.Linear(4, 2), "digits_lt", tmp_path / "f.h5")


def test_a_checkpoint_as_on_the_command_line(tmp_path):
    from ltkit import architectures
    from ltkit.settings import LoadSettings

    network = architectures.build("digits_net", 10)
    state = {k.removeprefix("backbone."): v for k, v in network.state_dict().items()}
    torch.save({k.replace("head.", "fc."): v for k, v in state.items()}, tmp_path / "m.pt")
    load = LoadSettings(mean=(0.5,), std=(0.5,))
    found = ltkit.extract(tmp_path / "m.pt", "digits_lt:val=none", tmp_path / "f.h5", load=load)
    assert found.settings["arch"] == "digits_net"
    assert [*found.splits] == ["train", "test"]
    assert Path(found.source).name == "f.h5"
