"""``ltkit fix`` on a plain torchvision checkpoint and a folder of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

COUNTS = {"ant": 30, "bee": 12, "cow": 4}
COLOURS = {"ant": (200, 60, 60), "bee": (60, 200, 60), "cow": (60, 60, 200)}


def pictures(folder):
    """Pictures of noise about a class's colour, long-tailed in train and even elsewhere."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", COUNTS), ("val", dict.fromkeys(COUNTS, 8)),
                          ("test", dict.fromkeys(COUNTS, 6))):  # fmt: skip
        for name, count in counts.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                noise = rng.normal(COLOURS[name], 60, size=(40, 40, 3)).clip(0, 255)
                Image.fromarray(noise.astype(np.uint8)).save(place / f"{number}.png")


def test_a_checkpoint_and_a_folder(ltkit, tmp_path, monkeypatch):
    from torchvision.models import resnet18

    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pics")
    torch.manual_seed(0)
    network = resnet18(num_classes=3)
    torch.save(network.state_dict(), "model.pt")
    words = "fix", "model.pt", "--data", "pics", "--image-size", "32", "-o", "fixed.pt"
    code, out, said = ltkit(*words, "--methods", "ncm,logit-adjust")
    assert (code, out) == (0, "fixed.pt\n"), said
    assert "recommended: ncm" in said  # a network that has learned nothing: any mean is better
    fixed = torch.load("fixed.pt", weights_only=True)
    network.load_state_dict(fixed)
    before = torch.load("model.pt", weights_only=True)
    changed = [name for name in fixed if not torch.equal(fixed[name], before[name])]
    assert set(changed) <= {"fc.weight", "fc.bias"}
    assert changed
    assert (tmp_path / "report.html").exists()
