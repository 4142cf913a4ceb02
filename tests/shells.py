"""Pictures of "shells" in six classes, long-tailed, and checkpoints of networks that know them."""

import importlib
import sys

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ltkit import architectures

COUNTS = {"cockle": 96, "conch": 70, "cowrie": 50, "limpet": 36, "murex": 28, "whelk": 22}
COLOURS = (
    (200, 60, 60),
    (60, 200, 60),
    (60, 60, 200),
    (190, 170, 40),
    (170, 40, 190),
    (90, 90, 90),
)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write(root, test=20):
    """Write 32-pixel pictures, `root/train/CLASS/*.png` and `root/test/CLASS/*.png`."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for colour, (name, count) in zip(COLOURS, COUNTS.items(), strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count if split == "train" else test):
                pixels = np.array(colour) + rng.normal(0, 45, 3) + rng.normal(0, 40, (32, 32, 3))
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(root / split / name / f"{i}.png")


def fit(network, head, root):
    """Fit the norms and the last layer of a network of random weights to the pictures."""
    files = [sorted((root / "train" / name).iterdir()) for name in COUNTS]
    pixels = np.stack([np.asarray(Image.open(file)) for part in files for file in part])
    labels = np.repeat(np.arange(len(COUNTS)), [len(part) for part in files])
    images = (torch.tensor(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    images, caught = images.permute(0, 3, 1, 2), []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch says it all
    with torch.no_grad():
        network.train()(images)
        hook = head.register_forward_hook(lambda layer, given, output: caught.append(given[0]))
        network.eval()(images)
        hook.remove()
        found = LogisticRegression(max_iter=1000).fit(caught[0].numpy(), labels)
        head.weight.copy_(torch.tensor(found.coef_))
        head.bias.copy_(torch.tensor(found.intercept_))
    return network


def write_resnet(path, root, **beside):
    """Write a ResNet-20 as scripts after LDAM-DRW do, with more entries beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build("resnet20", len(COUNTS))
    state = fit(network, network.head, root).state_dict()
    renamed = {
        name.replace("backbone.", "module.").replace("head.", "module.linear."): value
        for name, value in state.items()
    }
    torch.save({"epoch": 9, "state_dict": renamed, **beside}, path)


def write_own(path, root, module, name):
    """Write a checkpoint of a network that a module in the current folder defines."""
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(importlib.import_module(module), name)(classes=len(COUNTS))
    state = fit(network, network.answer, root).state_dict()
    weights = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 9, "model": weights, "criterion": {"weight": torch.ones(6)}}, path)
