"""No message is longer than 300 characters, whatever the names in it are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bad_inputs.makers import put
from PIL import Image

from ltkit.errors import LISTED, listed, nearest

LONG = "x" * 200
MOST = 300


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A fresh working folder whose own path is long."""
    deep = tmp_path / "/".join([LONG] * 3)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    for name in ("LTKIT_FEATURES", "LTKIT_DATA"):
        monkeypatch.delenv(name, raising=False)
    return deep


def test_lists_are_as_long_as_fits():
    rng = np.random.default_rng(0)
    for _ in range(200):
        names = ["n" * rng.integers(1, 400) for _ in range(rng.integers(1, 300))]
        text = listed(names)
        assert len(text) <= LISTED + len(" and 300 more")
        told = text.partition(" and ")[0].split(", ")
        assert all(
            name.startswith(part.rstrip(".")) for name, part in zip(names, told, strict=False)
        )
        assert (len(told) == len(names)) != (f"and {len(names) - len(told)} more" in text)


@pytest.mark.parametrize(
    "names", [[LONG + f"{i}" for i in range(9)], [f"{i}" for i in range(9999)]]
)
def test_suggestions_are_short(names):
    for name in (LONG, "zzz"):
        assert len(nearest(name, names)) <= LISTED + len("did you mean  and 9999 more?") + 1


COMMANDS = """\
extract LONG.pt --data pics
extract m.pt --data LONG
extract m.pt --data pics --LONG 1
extract m.pt --data pics --arch LONG
extract m.pt --data pics --arch timmLONG:a
extract m.pt --data pics --head LONG
extract m.pt --data pics --model LONG:Net
extract m.pt --data pics --transform LONG:f
extract m.pt --data pics --splits LONG
extract m.pt --data pics --classes LONG
extract unknown.pt --data pics
extract two.pt --data pics
posthoc LONG
posthoc ncm feats.h5 --set LONG=1
evaluate LONG.h5
evaluate feats.h5 --split LONG
evaluate feats.h5 --groups LONG.csv
neighbors feats.h5 --metric LONG
train LONG --data pics
train ce --data pics --arch LONG
train ce --data pics --set LONG=1
data info LONG
data info digits_lt:LONG=1
import LONG.npz -o o.h5
inspect LONG
export feats.h5 --to LONG
LONG
report feats.h5 -o LONG/r.html
validate LONG
compare feats.h5 --against LONG
""".splitlines()
"""What is refused, with LONG for a long name."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_refusal_with_long_names_is_one_short_line(folder, ltkit, command):
    put("feats.h5")()
    for split in ("train", "test"):
        for c in "abcdef":
            (folder / "pics" / split / f"{c}{LONG}").mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "pics" / split / f"{c}{LONG}" / "0.png")
    torch.save({f"{LONG[:190]}.{i}": torch.zeros(2) for i in range(40)}, "unknown.pt")
    heads = {f"head{i}{LONG[:150]}.weight": torch.zeros(6, 64) for i in range(9)}
    torch.save(cifar_resnet() | heads, "two.pt")
    torch.save(
        cifar_resnet() | {"fc.weight": torch.zeros(6, 64), "fc.bias": torch.zeros(6)}, "m.pt"
    )
    code, out, err = ltkit(*command.replace("LONG", LONG).split())
    lines = err.splitlines()
    assert (code, out) == (2, ""), err
    assert all(len(line.removeprefix("ltkit: ")) <= MOST for line in lines), err
    assert lines[-1].startswith("ltkit: ")


def cifar_resnet():
    """The tensors of a CIFAR ResNet-20 without its head."""
    from ltkit import architectures

    network = architectures.build("resnet20", 6)
    return network.backbone.state_dict()


def test_notes_with_long_names_are_short(folder, ltkit):
    losses = {f"loss_{LONG[:120]}{i}.weight": torch.ones(6) for i in range(9)}
    head = {"fc.weight": torch.randn(6, 64), "fc.bias": torch.zeros(6)}
    torch.save(cifar_resnet() | head | losses, f"{LONG}.pt")
    for c in "abcdef":
        (folder / "pics" / "test" / f"{c}{LONG}").mkdir(parents=True)
        (folder / "pics" / "train" / f"{c}{LONG}").mkdir(parents=True)
        for split in ("train", "test"):
            path = folder / "pics" / split / f"{c}{LONG}" / "0.png"
            Image.fromarray(
                np.random.default_rng(ord(c)).integers(0, 255, (32, 32, 3), np.uint8)
            ).save(path)
    code, _, err = ltkit(
        "extract", Path(f"{LONG}.pt"), "--data", folder / "pics", "-o", folder / f"{LONG}.h5"
    )
    assert code == 0, err
    assert "left out: 9 tensors of" in err
    assert max(map(len, err.splitlines())) <= MOST
