"""Accuracy on the bundled CIFAR-100-LT features: AlphaNet, its random control, the others.

Runs the command line in a temporary folder, one `ltkit` command a line, and writes what `evaluate
--json` prints, with the commands, to benchmarks/results/cifar100_lt.json.

    python benchmarks/results_cifar100_lt.py [FEATURES.h5 NAME TITLE ABOUT]
"""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
COMMANDS = (
    *(
        f"ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10 --metric {metric} "
        f"--variant {variant} -o feats.{metric}-{variant}.h5"
        for variant in ("paper", "code")
        for metric in ("euclidean", "random")
    ),
    "ltkit posthoc tau-norm feats.h5",
    "ltkit posthoc logit-adjust feats.h5",
    "ltkit posthoc logit-adjust feats.h5 --set tau=1 -o feats.logit-adjust-1.h5",
    "ltkit posthoc ncm feats.h5",
    *(
        f"ltkit posthoc {method} feats.h5"
        for method in ("discriminant", "pc-softmax", "group-bias", "ridge", "logistic")
    ),
    *(
        f"ltkit posthoc {method} feats.h5 --seeds 5"
        for method in ("crt", "lws", "marc", "weight-balancing")
    ),
)
EVALUATE = "ltkit evaluate feats.h5 --group wordnet --json"
TITLE = "The bundled features: CIFAR-100-LT, imbalance 100, ResNet-32, cross-entropy"
ABOUT = (
    "A ResNet-32 (standard, 64 features) trained from images with plain cross-entropy: reference "
    "schedule of 200 epochs, bf16 on two CPU cores, seed 0, last epoch; `val=balanced` leaves "
    "10,827 of the 10,847 training images. Published cross-entropy on this task: 38.3 (Cao et al. "
    "2019, best epoch on test). `euclidean` has the five nearest classes as neighbours, `random` "
    "five drawn anew for each seed; `paper` and `code` are the two variants of AlphaNet."
)


def main(features: Path, name: str, title: str, about: str) -> None:
    """Run every command on a features file; write the document."""
    ltkit = Path(sys.executable).with_name("ltkit")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(features, Path(folder) / "feats.h5")
        for command in (*COMMANDS, EVALUATE):
            print(command, file=sys.stderr)
            done = subprocess.run(
                [ltkit, *command.split()[1:]],
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
            )
    document = {"title": title, "about": about} | json.loads(done.stdout)
    document["commands"] = [*COMMANDS, EVALUATE]
    document["machine"] = {"cpu": platform.processor() or platform.machine()}
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), *sys.argv[2:5])
    else:
        bundled = Path(str(resources.files("ltkit") / "data" / "demo" / "feats.h5"))
        main(bundled, "cifar100_lt", TITLE, ABOUT)
