"""Every correction on real feature files: accuracy, AlphaNet's sweep, and the frontier of them all.

Runs the command line in a temporary folder, one `ltkit` command a line, and writes what the last
ones print, with the commands, to benchmarks/results/features_<name>.json. The bundled features are
always there; the others are made by the commands in `STUDIES` and given as files.

    python benchmarks/results_features.py [NAME FEATURES.h5 [HEAD.h5]]

HEAD.h5 is the classifier that corrections of features without a head start from.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from machine import machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Study:
    """One features file: what it is, and the overall accuracies at which curves are compared."""

    title: str
    about: str
    levels: str


CE = "plain cross-entropy, on two CPU cores, seed 0, last epoch."
STUDIES = {
    "cifar100_lt": Study(
        "The bundled features: CIFAR-100-LT, imbalance 100, ResNet-32",
        f"A ResNet-32 (standard, 64 features) trained from images with {CE} The reference schedule "
        "of 200 epochs in bf16; `val=balanced` leaves 10,827 of the 10,847 training images. Published "
        "cross-entropy on this task: 38.3 (Cao et al. 2019, best epoch on test).",
        "38,39,40,41,42,42.5",
    ),
    "cifar100_lt_if50": Study(
        "CIFAR-100-LT, imbalance 50, ResNet-20",
        f"{CE[0].upper()}{CE[1:]} Made by `ltkit train ce --data cifar100_lt:ir=50 --arch resnet20 "
        "--epochs 30 --schedule onecycle --lr 0.2 --amp off` and `ltkit extract`.",
        "37,38,39,40,41,41.5",
    ),
    "tiny_imagenet_lt": Study(
        "Tiny ImageNet-LT, imbalance 100, 32 x 32 pixels, ResNet-32",
        f"{CE[0].upper()}{CE[1:]} Made by `ltkit train ce --data tiny_imagenet_lt --arch resnet32 "
        "--epochs 20 --schedule onecycle --lr 0.2 --amp off` and `ltkit extract` on images of 32 x "
        "32 pixels; the validation images are held out of the training images, and the published "
        "validation images are the test split.",
        "12,13,14,15,16,17",
    ),
    "frozen_lite0": Study(
        "CIFAR-100-LT, imbalance 100, through a frozen EfficientNet-Lite0",
        "1280 features of a network trained on ImageNet, images scaled to 128 pixels bicubically; "
        "no network was trained on CIFAR. The baseline is a head that `ltkit train ce` has trained "
        "on them; `val=balanced` leaves 10,827 training images. Made by `python "
        "benchmarks/frozen_features.py`.",
        "44,46,47,48,49,50",
    ),
}
BASE = "head/ce.h5"
"""Where that classifier lies: it is no correction, so not beside the features."""

ONE = (
    "blend",
    "alphanet-plus",
    "tau-norm",
    "logit-adjust",
    "ncm",
    "pc-softmax",
    "group-bias",
    "ridge",
    "logistic",
)
SWEPT = ("blend", "alphanet-plus", "tau-norm", "logit-adjust", "group-bias", "ridge", "logistic")
SEEDED = ("crt", "lws", "marc", "weight-balancing")
SEEDS = 5
CORRECTIONS = (
    *(
        f"ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10 --metric {metric} "
        f"--variant {variant} -o feats.{metric}-{variant}.h5"
        for variant in ("paper", "code")
        for metric in ("euclidean", "random")
    ),
    *(f"ltkit posthoc {method} feats.h5" for method in ONE),
    "ltkit posthoc logit-adjust feats.h5 --set tau=1 -o feats.logit-adjust-1.h5",
    *(f"ltkit posthoc {method} feats.h5 --seeds {SEEDS}" for method in SEEDED),
)
EVALUATE = "ltkit evaluate feats.h5 --group wordnet --json"
SWEEP = (
    "ltkit alphanet sweep feats.h5 --k 1,2,5,10 --rho 0.1,0.25,0.5,1,1.5,2,3 "
    "--metric euclidean,random --seeds 10 --select harmonic -o sweep.h5 --json"
)
CURVES = (
    *(
        f"ltkit alphanet fit feats.h5 --k 5 --rho 0.1,0.25,0.5,0.75,1,1.5,2,3 --seeds 10 "
        f"--metric {metric} -o curve.alphanet-{metric}.h5"
        for metric in ("euclidean", "random")
    ),
    *(f"ltkit posthoc {method} feats.h5 --sweep -o curve.{method}.h5" for method in SWEPT),
    *(
        f"ltkit posthoc {method} feats.h5 --sweep --seeds {SEEDS} -o curve.{method}.h5"
        for method in SEEDED
    ),
)
COMPARE = "ltkit compare feats.h5 curve.*.h5 --against blend --at {levels} --json"
OVER = (
    "ltkit compare feats.h5 curve.alphanet-*.h5 curve.blend.h5 curve.logit-adjust.h5 "
    "--against logit-adjust --at {levels} --json"
)


def based(command: str, head: Path | None) -> str:
    """Return a command that starts from a head of its own, where there is one."""
    return command if head is None else command.replace("feats.h5", f"feats.h5 --base {BASE}", 1)


def main(name: str, features: Path, head: Path | None = None) -> None:
    """Run every command on a features file; write the document."""
    study = STUDIES[name]
    compare, over = (based(text.format(levels=study.levels), head) for text in (COMPARE, OVER))
    corrections, curves = ([based(c, head) for c in some] for some in (CORRECTIONS, CURVES))
    evaluate, sweep = based(EVALUATE, head), based(SWEEP, head)
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(features, Path(folder) / "feats.h5")
        if head is not None:
            (Path(folder) / BASE).parent.mkdir()
            shutil.copyfile(head, Path(folder) / BASE)

        def run(command: str) -> str:
            print(command, file=sys.stderr, flush=True)
            ltkit = str(Path(sys.executable).with_name("ltkit"))
            line = command.replace("ltkit", ltkit, 1)
            done = subprocess.run(
                ["bash", "-c", line], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout

        for command in corrections:
            run(command)
        document: dict[str, Any] = {"title": study.title, "about": study.about}
        document |= json.loads(run(evaluate))
        document["sweep"] = json.loads(run(sweep))["rows"]
        for command in curves:
            run(command)
        compared = json.loads(run(compare))
        document["frontier"] = compared["frontier"]
        document["over_logit_adjust"] = json.loads(run(over))["frontier"]
        document["over_command"] = over
        document["on_curve"] = {
            method["name"]: [p["label"] for p in method["points"] if p["on_curve"]]
            for method in compared["methods"]
        }
    document["commands"] = [*corrections, evaluate]
    document["sweep_command"] = sweep
    document["frontier_commands"] = [*curves, compare]
    document["machine"] = where
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"features_{name}.json"
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    bundled = Path(str(resources.files("ltkit") / "data" / "demo" / "feats.h5"))
    if len(sys.argv) in (3, 4):
        main(sys.argv[1], *map(Path, sys.argv[2:]))
    else:
        main("cifar100_lt", bundled)
