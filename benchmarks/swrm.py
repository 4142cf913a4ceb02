"""SWRM as its text may be read: heads on cached features, with every reading, window and beta.

A head is trained for 20 epochs on the features of each file, the last 6 of them with the loss, and
measured on the test split; the network below stays as it is. Beside it stands the rank correlation
of a class's penalty, the negative margin, with how close its 14 nearest classes are in the
features: what the text says is a positive one.

    python benchmarks/swrm.py NAME=FEATURES.h5[,MEANS=CE.h5 ...] ... [--seeds 5] [--only READING]
        [--small]

adds cells to benchmarks/results/swrm.json; one that is there is not computed again. With MEANS=
CE.h5, as 90=ce90.h5, there is a row with the class means of that network's features, for how long
cross-entropy was trained before (figure 1 of the paper). --only makes one row; --small makes two
rows of two seeds and one epoch of the bundled features, and writes to standard output.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ltkit.evaluation import metrics, predict_classes
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.losses import Moment
from ltkit.losses.swrm import SWRM
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSet
from ltkit.settings import HeadSettings, TrainPlan
from ltkit.training.runs import train_heads

TARGET = Path(__file__).parent / "results" / "swrm.json"
EPOCHS, NEAREST = 20, 14
GROUPS = ("few", "medium", "many", "all")

READINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "cross-entropy": ("ce", {}),
    "swrm": ("swrm", {}),
    "printed sign, 1 + distance": ("swrm", {"sign": 1}),
    "inverse": ("swrm", {"similarity": "inverse"}),
    "exponential": ("swrm", {"similarity": "exponential"}),
    "SWR alone": ("swrm", {"form": "swr"}),
    "SWM alone": ("swrm", {"form": "swm"}),
    "projection from the principal component": ("swrm", {"init": "pca"}),
    "weights scaled to sum C": ("swrm", {"weights": "sum"}),
    "dyswrm": ("dyswrm", {}),
    "dyswrm, printed sign": ("dyswrm", {"sign": 1}),
    **{f"beta {beta:g}": ("swrm", {"beta": beta}) for beta in (0.5, 2.0, 5.0, 10.0)},
    **{f"W {window}": ("swrm", {"window": window}) for window in (5, 10, 20, 30, 40)},
}
"""Every row: the loss and its parameters."""


def main(
    files: Mapping[str, Path],
    means: Mapping[str, Mapping[str, Path]],
    target: Path,
    *,
    seeds: int = 5,
    epochs: int = EPOCHS,
    rows: Mapping[str, tuple[str, dict[str, Any]]] = READINGS,
) -> None:
    """Measure every cell that is not there, row by row; write the document after each."""
    document: dict[str, Any] = {"epochs": epochs, "rows": {}}
    if target.exists():
        document = json.loads(target.read_text(encoding="utf-8"))
    opened = {name: features_file.read(path) for name, path in files.items()}
    cells = [(name, row, None) for row in rows for name in files]
    cells += [(name, f"means of {k}", path) for name, m in means.items() for k, path in m.items()]
    for name, row, source in cells:
        there = document["rows"].setdefault(name, {})
        if len(there.get(row, {}).get("all", ())) >= seeds:
            continue
        method, parameters = rows.get(row, ("swrm", {}))
        there[row] = {"loss": method, "parameters": parameters} | measured(
            files[name], opened[name], TrainPlan(method, parameters), seeds, epochs, source
        )
        document["machine"] = machine()
        written(document, target)
        print(f"{name}: {row} {np.mean(there[row]['few']):.4f}", file=sys.stderr, flush=True)


def written(document: Mapping[str, Any], target: Path) -> None:
    """Write the document whole or not at all."""
    beside = target.with_name(target.name + ".new")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    beside.replace(target)


def measured(
    path: Path, features: FeatureSet, plan: TrainPlan, seeds: int, epochs: int, means: Path | None
) -> dict[str, list[float]]:
    """Train a head for each seed; return its accuracies on test, and the rank correlations."""
    settings = HeadSettings(epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "head.h5"
        train_heads(path, plan, settings, output, seeds=seeds, class_means=means)
        heads, _ = classifiers.read(output)
    test, classes = features.split("test"), len(features.classes)
    zeros = Classifier(
        np.zeros(heads.weight.shape[1:], np.float32), np.zeros(classes, np.float32)
    )  # every row of it is replaced
    found: dict[str, list[float]] = {group: [] for group in GROUPS}
    for predicted in predict_classes(test, zeros, [heads])[0]:
        by_class = metrics.class_accuracy(predicted == test.labels, test.labels, classes)
        for group, ids in (*features.groups().items(), ("all", np.arange(classes))):
            found[group].append(round(float(np.nanmean(by_class[ids])), 5))
    if plan.method == "swrm" and plan.parameters.get("form") != "swr":
        found["correlation"] = correlations(features, plan.parameters, seeds, means)
    return found


def correlations(
    features: FeatureSet, parameters: Mapping[str, Any], seeds: int, means: Path | None
) -> list[float]:
    """Return for each seed the rank correlation of penalty and closeness over classes."""
    own = means_of(features)
    projected = torch.from_numpy(own if means is None else means_of(features_file.read(means)))
    counts = torch.from_numpy(features.classes.train_count)
    gaps = np.linalg.norm(own[:, None] - own, axis=2)
    close = -np.sort(gaps, axis=1)[:, 1 : NEAREST + 1].mean(axis=1)
    found = []
    for seed in range(seeds):
        loss = SWRM(counts, **parameters, start=0.0, seed=seed)
        loss.before_epoch(Moment(0, 1, None, lambda: projected))
        found.append(round(float(spearmanr(-loss.margins.numpy(), close)[0]), 3))
    return found


def means_of(features: FeatureSet) -> NDArray[np.float64]:
    """Return the (C, D) class means of the train split."""
    return class_means(features.split("train"), len(features.classes))[0]


HEAD = """\
## SWRM as its text may be read

Made by `python benchmarks/swrm.py` on the features of four networks: a head trained for {epochs}
epochs, the last 30 % with the loss (window 15, beta 1 where no other is said), everything else as
`ltkit train` has it. *rank*: rank correlation over the classes of the penalty, the negative margin,
with how close the 14 nearest classes are; the text says that errors on similar classes are punished
more, which is a positive one. ± is the standard deviation over seeds.

What is gained is gained by the weights: SWR alone is within half a point overall of either sign of
the margins, SWM alone within a point of cross-entropy. Which sign gives rare classes more differs
from file to file, so the default follows the text, not these numbers. At beta 5 and more, the
default's penalty no longer follows the 14 nearest classes: the nearest one alone decides. With
`exponential`, margins are so large that the loss is as good as removed.

*means of 2* and *of 10*: projected are the class means of a network after so many epochs of
cross-entropy (`ltkit train ce --data cifar100_lt --arch resnet32 --warmup-epochs 1 --schedule
cosine --epochs 2`, `extract`), in the place of those after 200. How long cross-entropy went before,
which the paper's figure 1 varies, changes nothing here beyond the seeds.
"""

NAMES = {
    "cifar100_lt": "CIFAR-100-LT, imbalance 100, ResNet-32",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32",
    "frozen": "CIFAR-100-LT, imbalance 100, frozen EfficientNet-Lite0",
}


def table(path: Path = TARGET) -> list[str]:
    """Return the lines of the section of docs/results.md; none without a measurement."""
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    lines = [HEAD.format(epochs=document["epochs"])]
    for name, rows in document["rows"].items():
        lines += [f"**{NAMES.get(name, name)}**", ""]
        lines += [
            "| loss | n | few | medium | many | all | rank |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_row(row, cell) for row, cell in rows.items()]
        lines.append("")
    return [*lines, f"Measured on {document['machine']}.", ""]


def _row(name: str, cell: Mapping[str, Any]) -> str:
    def spread(values: list[float], factor: float, digits: int) -> str:
        mean, scale = factor * np.mean(values), factor * np.std(values, ddof=1)
        return f"{mean:.{digits}f} ± {scale:.{digits}f}"

    accuracies = [spread(cell[group], 100, 1) for group in GROUPS]
    rank = spread(cell["correlation"], 1, 2) if "correlation" in cell else ""
    return "| " + " | ".join([name, str(len(cell["all"])), *accuracies, rank]) + " |"


def asked() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(READINGS))
    parser.add_argument("--small", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    options = asked()
    parts = [text.split(",") for text in options.files]
    pairs = [[part.partition("=")[::2] for part in each] for each in parts]
    named = {each[0][0]: Path(each[0][1]) for each in pairs}
    others = {each[0][0]: {k: Path(v) for k, v in each[1:]} for each in pairs}
    if options.small:
        bundled = Path(str(resources.files("ltkit") / "data" / "demo" / "feats.h5"))
        with tempfile.TemporaryDirectory() as made:
            out = Path(made) / "swrm.json"
            few = {name: READINGS[name] for name in ("cross-entropy", "swrm")}
            main({"cifar100_lt": bundled}, {}, out, seeds=2, epochs=1, rows=few)
            print("\n".join(table(out)))
    else:
        chosen = READINGS if options.only is None else {options.only: READINGS[options.only]}
        main(named, others, TARGET, seeds=options.seeds, rows=chosen)
