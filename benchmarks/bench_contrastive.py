"""What a step of PaCo costs beside one of cross-entropy: pairs of short runs, one after the other.

A step of PaCo has the network forward on one view and backward, the momentum encoder forward on
another, a projection of both, and the pictures of two views. Forward is about a third of a step, so
that the encoder alone bounds it at 4/3 of cross-entropy; 3.6 is what it may cost.

    python benchmarks/bench_contrastive.py [--pairs 5]

prints the ratios and writes benchmarks/results/bench_contrastive.json. The pictures are noise of 32
x 32 pixels, the network a ResNet-32, the batches have 128 images.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import machine
from PIL import Image

TARGET = Path(__file__).parent / "results" / "bench_contrastive.json"
CLASSES, EACH = 10, 128


def make_pictures(folder: Path) -> None:
    """Write folders of noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", EACH), ("val", 1)):
        for number in range(CLASSES):
            (folder / split / f"c{number}").mkdir(parents=True)
            for i, pixels in enumerate(rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)):
                Image.fromarray(pixels).save(folder / split / f"c{number}" / f"{i}.png")


def speed(method: str, folder: Path, output: Path) -> float:
    """Return the images per second of an epoch."""
    words = ["train", method, "--data", str(folder), "--arch", "resnet32", "--epochs", "2"]
    words += ["--batch-size", "128", "--device", "cpu", "--quiet", "--overwrite", "-o", str(output)]
    subprocess.run([sys.executable, "-m", "ltkit", *words], check=True)
    lines = output.with_name(f"{output.name}.jsonl").read_text(encoding="utf-8").splitlines()
    return float(json.loads(lines[-1])["images_per_second"])


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "data")
        pairs = [
            [speed(method, folder / "data", folder / "net.pt") for method in ("ce", "paco")]
            for _ in range(asked.pairs)
        ]
    ratios = [ce / paco for ce, paco in pairs]
    claim = {
        "claim": "train, ResNet-32, batches of 128 CIFAR-size images, CPU: a step of paco "
        "(momentum encoder, two views) beside one of ce",
        "measured": f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} pairs of runs)",
        "contract": "<= 3.6 x",
        "machine": machine(),
    }
    document = {"claims": [claim], "images_per_second": pairs, "ratios": ratios}
    TARGET.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{claim['claim']}: {claim['measured']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
