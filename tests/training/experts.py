"""What the tests of methods with several experts share: pictures, networks, a batch."""

from dataclasses import replace

import numpy as np
import torch
from trained import dataset_of

from ltkit import architectures
from ltkit.architectures.heads import expert_logits
from ltkit.records import ImageSplit
from ltkit.settings import TrainSettings
from ltkit.training import runs
from ltkit.training.methods import Seen

COUNTS = [40, 12, 4]

RUN = TrainSettings(epochs=3, batch_size=16, warmup_epochs=0, learning_rate=0.05, weight_decay=5e-4)

ARCH = "resnet8_3experts_reduced"


def pictures():
    """Random 8x8 pictures in colour; a test split of other ones."""
    made = dataset_of(COUNTS, val=[5, 5, 5], channels=3)
    images = np.random.default_rng(3).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    test = ImageSplit(images, np.arange(20) % 3, np.arange(20).astype(str))
    return replace(made, splits={**made.splits, "test": test}, mean=(0.5,) * 3, std=(0.5,) * 3)


def network(arch=ARCH, classes=3, *, cosine=True, seed=0):
    torch.manual_seed(seed)
    return architectures.build(arch, classes, cosine=cosine, scale=30.0)


def batch(network, size=6, seed=1):
    """A batch of pictures as a method sees it."""
    torch.manual_seed(seed)
    kind = next(network.parameters()).dtype
    images = torch.randn(size, 3, 8, 8, dtype=kind)

    def encode(images):
        features = network.backbone(images)
        return features, expert_logits(network.head, features)

    return Seen((images,), torch.arange(size) % 3, network, encode, "off")


def train(dataset, plan, output, settings=RUN, **more):
    """Train a network; return the notes."""
    notes = []
    more.setdefault("arch", ARCH)
    runs.train_networks(dataset, plan, settings, output, note=notes.append, **more)
    return notes
