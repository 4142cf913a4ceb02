"""Where a new thing goes: one file, or one entry, and every command knows it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ltkit import architectures

PACKAGE = Path(__file__).resolve().parents[1] / "ltkit"

LOSS = '''"""Halved: half the cross-entropy."""

from torch import Tensor
from torch.nn import functional


def loss(
    logits: Tensor, labels: Tensor, class_counts: Tensor, *, part: float = 0.5
) -> Tensor:
    """Return a part of the mean cross-entropy.

    Source:
        A loss of this test.
    """
    return part * functional.cross_entropy(logits, labels)
'''

METHOD = '''"""Unbiased: the head without its bias."""

from dataclasses import replace

import numpy as np

from ltkit.records import Classifier, FeatureSplit, Ints


def fit(
    base: Classifier, train: FeatureSplit | None, class_counts: Ints, *, part: float = 1.0
) -> Classifier:
    """Take a part of the bias off.

    Source:
        A method of this test.
    """
    return replace(base, bias=np.float32(1 - part) * base.bias)
'''

FAMILY = '''"""Two parts: the network under ``trunk``, its last layer under ``top``."""

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, bare, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "two parts ('trunk', 'top')"


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether both parts are there."""
    return {("trunk",), ("top",)} <= set(content.states)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network."""
    stored = {}
    for ours, place in (("backbone.", ("trunk",)), ("head.", ("top",))):
        stored |= under(ours, place, bare(content.path, content.states[place]))
    return recognise_weights(
        content, "two-parts", stored, LinearHead, wanted, normalisation=((0.5,), (0.25,))
    )
'''

ENTRY = """    "pets_lt": DatasetSpec(
        "pets, in two classes",
        num_classes=2,
        train_images=3,
        max_count=2,
        min_count=1,
        parameters=_FILES,
        lists={"train": "pets_train.txt", "test": "pets_test.txt"},
        needs="the two pets_*.txt lists and their images",
    ),
"""

NEW = {
    "losses/halved.py": LOSS,
    "posthoc/unbiased.py": METHOD,
    "checkpoints/families/two_parts.py": FAMILY,
}

RUN = """
import shlex, sys
import ltkit
from ltkit.cli import main
print(ltkit.__file__)
for line in sys.argv[1:]:
    sys.argv = ["ltkit", *shlex.split(line)]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (line, ended.code)
    print("---", flush=True)
"""


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*.py")
    }


@pytest.fixture
def copied(tmp_path):
    """A copy of the package with one of each added."""
    package = tmp_path / "ltkit"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    before = digests(package)
    for name, text in NEW.items():
        (package / name).write_text(text, encoding="utf-8")
    catalogue = package / "datasets" / "__init__.py"
    start, brace, rest = catalogue.read_text(encoding="utf-8").partition("\n}\n\n\ndef load(")
    catalogue.write_text(f"{start}\n{ENTRY.rstrip()}{brace}{rest}", encoding="utf-8")
    after = digests(package)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {*NEW, "datasets/__init__.py"}
    return tmp_path


@pytest.mark.more
def test_one_of_each_is_added_by_its_own_file_or_entry(copied):
    network = architectures.build("digits_net", 3)
    torch.save(
        {"trunk": network.backbone.state_dict(), "top": network.head.state_dict()},
        copied / "m.pt",
    )
    (copied / "pets_train.txt").write_text("a.png 0\nb.png 0\nc.png 1\n", encoding="utf-8")
    (copied / "pets_test.txt").write_text("d.png 0\ne.png 1\n", encoding="utf-8")
    lines = (
        "train --list", "posthoc --list", "inspect m.pt", "data list",
        "data info pets_lt:val=none --root .",
    )  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", RUN, *lines], cwd=copied, check=False, capture_output=True,
        text=True, env=os.environ | {"PYTHONPATH": str(copied), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    where, _, said = run.stdout.partition("\n")
    assert Path(where).is_relative_to(copied)
    losses, methods, checkpoint, datasets, info = said.split("---\n")[:-1]
    assert "halved                Halved: half the cross-entropy. [part=0.5] A loss of" in losses
    assert "unbiased              Unbiased: the head without its bias. [part=1.0]" in methods
    assert "two-parts" in checkpoint
    assert "digits_net" in checkpoint
    assert "pets_lt: pets, in two classes; 2 classes, 3 training images" in datasets
    assert "pets_lt" in info
