"""Train every kind of method on one small long-tailed problem, some seeds each: a line a run.

The problem is 25 classes of CIFAR-100 in five families, so that each class has near ones, at
16 x 16 pixels: from 480 training images to 5, 20 validation images a class, all test images. A
ResNet-8, 40 epochs, the same images and schedule for all. A row is `ltkit train` (one more with
`--init` where features are learned beforehand), `extract`, a correction where it has one, and
`evaluate --json`; rows of the same network share its training. A line a row and seed goes to
benchmarks/results/small_world.jsonl. What has a line is skipped, so the same command goes on where
an interrupted one stopped, in the middle of a training, too.

    python benchmarks/small_world.py --root DATA [--methods ce,paco] [--seeds 0,1,2] [--plan]
"""

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from PIL import Image
from reproduce import GROUPS, append_line, cell, ltkit, read_lines, say, scores, trainings

from ltkit import datasets
from ltkit.errors import LtkitError

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "small_world.jsonl"
WORK = ROOT / ".cache" / "small_world"
FAMILIES = (
    ("bear", "leopard", "lion", "tiger", "wolf"),
    ("fox", "porcupine", "possum", "raccoon", "skunk"),
    ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    ("orchid", "poppy", "rose", "sunflower", "tulip"),
)
MOST, IMBALANCE, VAL = 480, 100, 20
WINDOW = "--set window=5"
ARCH = "--arch resnet8"
TRAIN = "--image-size 16 --epochs 40 --batch-size 64 --lr 0.05 --schedule cosine"
BALANCED = (
    "--augment simclr --from-epoch 32 --then ce --then-sampler class-balanced --freeze backbone"
)
RIDE = "ride --experts 3 --drw 32"
METHODS = {
    "CE": "ce",
    "balanced softmax": "balanced-softmax",
    "LDAM-DRW": "ldam --drw 32",
    "PaCo": "paco",
    "GPaCo": "gpaco",
    "LPA": "lpa --set warmup=10 --set refresh=10",
    "SupCon": f"supcon {BALANCED}",
    "KCL": f"kcl {BALANCED}",
    "TSC": f"tsc {BALANCED}",
    "SSP, then CE": "ssp | ce",
    "SSP, then DRW": "ssp | weighted --drw 32",
    "no SSP, DRW": "weighted --drw 32",
    "MoCo, then CE": "moco --augment simclr | ce",
    "SimSiam, then CE": "simsiam --augment simclr | ce",
    "BYOL, then CE": "byol --augment simclr | ce",
    "OLTR, plain head": "oltr",
    "OLTR, whole model": "oltr",
    "Lifted": "lifted",
    "Range": "range",
    "re-sampling": "ce --sampler class-balanced",
    "re-weighting": "weighted",
    "RIDE, 3 experts": RIDE,
    **{
        f"RIDE, AlphaNet, {metric}, rho {rho}":
            f"{RIDE} > alphanet fit --seeds 10 --rho {rho}{options}"
        for metric, options in (("nearest", ""), ("random", " --metric random"))
        for rho in ("0.5", "1", "1.5")
    },
    "SADE": "sade --experts 3",
    "BBN": "bbn --arch resnet8_two_branch",
    "de-confounded": "tde",
    "TDE": "tde > posthoc tde",
    "MiSLAS": "mislas",
    "SWRM": f"swrm {WINDOW}",
    "SWRM, inverse similarity": f"swrm {WINDOW} --set similarity=inverse",
    "SWRM, printed sign": f"swrm {WINDOW} --set sign=1",
    "SWR": f"swrm {WINDOW} --set form=swr",
    "SWM": f"swrm {WINDOW} --set form=swm",
    "DySWRM": f"dyswrm {WINDOW}",
}  # fmt: skip
"""What `ltkit train` is told, with a bar before a second start, from the first's features, and
after ``>`` how the network's head is corrected."""

NORMED = {"CE": 47.7, "re-sampling": 25.8, "re-weighting": 50.5, "no SSP, DRW": 45.1}
"""Rows whose norms are measured, and what Yang and Xu (NeurIPS 2020) print for CIFAR-100-LT."""

META = ("OLTR, whole model",)
"""Rows whose network is extracted with the head of the whole model."""


@dataclass(frozen=True)
class Run:
    """One row with one seed."""

    name: str
    seed: int

    @property
    def training(self) -> str:
        """What the network's training is told, without the schedule."""
        return METHODS[self.name].partition(" > ")[0]

    @property
    def correction(self) -> str:
        """How its head is corrected, if it is."""
        return METHODS[self.name].partition(" > ")[2]

    @property
    def train(self) -> str:
        """What names the run: its commands without where they read and write."""
        after = f" > {self.correction}" if self.correction else ""
        return f"train {self.training} {self.schedule} --seed {self.seed}{after}"

    @property
    def schedule(self) -> str:
        """The network, where the row has none of its own, and the schedule."""
        return TRAIN if "--arch" in self.training else f"{ARCH} {TRAIN}"

    def folder(self, work: Path) -> Path:
        """Return where the network of this row and its like lies until all of them are done."""
        return work / f"{re.sub('[^a-z0-9]+', '-', self.training)}.seed{self.seed}"

    def commands(self, work: Path) -> list[list[str]]:
        """Return the words of the commands that are left; an interrupted training goes on."""
        folder, data = self.folder(work), str(work / "data")
        checkpoint, features = folder / "model.pt", str(folder / "feats.h5")
        own = [*shlex.split(self.schedule), "--seed", str(self.seed)]
        where = ["--data", data, "--device", "cpu", "--quiet"]
        how = ["--head", "meta"] if self.name in META else []
        how += [] if self.correction else ["--splits", "test"]
        extract = ["extract", str(checkpoint), *where, *how, "-o", features, "--overwrite"]
        trained = trainings(self.training, [*own, *where], checkpoint)
        norms = [["analyze", "norms", features, "--json"]] if self.name in NORMED else []
        if not self.correction:
            return [*trained, extract, *norms, ["evaluate", features, "--json"]]
        corrected = str(folder / "corrected.h5")
        words = [*shlex.split(self.correction), features, "-o", corrected, "--overwrite", "--quiet"]
        return [*trained, extract, words, ["evaluate", features, corrected, "--json"]]


def make_pictures(target: Path) -> None:
    """Write the problem as folders of pictures, of the CIFAR-100 under $LTKIT_DATA."""
    if target.is_dir():
        return
    whole = datasets.load("cifar100_lt:ir=1,val=none")
    names, rng = list(whole.classes.names or ()), np.random.default_rng(0)
    order = rng.permutation([name for family in FAMILIES for name in family])
    counts = [round(MOST * IMBALANCE ** (-i / (len(order) - 1))) for i in range(len(order))]
    made = target.with_name(f"{target.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    for name, count in zip(order, counts, strict=True):
        train, test = (_rows(whole, split, names.index(name)) for split in ("train", "test"))
        train = train[rng.permutation(len(train))]
        for split, rows in (("train", train[:count]), ("val", train[-VAL:]), ("test", test)):
            folder = made / split / str(name)
            folder.mkdir(parents=True)
            for number, row in enumerate(rows):
                Image.fromarray(halved(row)).save(folder / f"{number:03}.png")
    made.rename(target)


def _rows(whole: Any, split: str, label: int) -> Any:
    part = whole.split(split)
    return np.asarray(part.images)[part.labels == label]


def halved(pixels: Any) -> Any:
    """Return (16, 16, 3) uint8, the means of (32, 32, 3) in squares of four."""
    means = pixels.astype(np.float64).reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    return np.floor(means + 0.5).astype(np.uint8)


def measure(run: Run, work: Path) -> dict[str, Any]:
    """Do what is left of a run; return its line."""
    run.folder(work).mkdir(parents=True, exist_ok=True)
    *_, before, document = [ltkit(words) for words in run.commands(work)]
    test = scores(document, -1 if run.correction else 0)
    line = {"train": run.train, "name": run.name, "seed": run.seed, "test": test}
    if run.name in NORMED:
        found = json.loads(before)["rows"][0]
        line["norms"] = found["mean"] | {"deviation": found["deviation"]["all"]}
    return line | {"machine": machine()}


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md."""
    lines = read_lines(path)
    runs = {
        (line["name"], line["seed"]): line
        for line in lines
        if line["name"] in METHODS and line["train"] == Run(line["name"], line["seed"]).train
    }
    if not runs:
        return []
    found: dict[str, list[dict[str, Any]]] = {}
    norms: dict[str, list[dict[str, float]]] = {}
    for (name, _), line in sorted(runs.items(), key=lambda item: item[0][1]):
        found.setdefault(name, []).append(line["test"]["accuracy"])
        if name in NORMED and "norms" in line:
            norms.setdefault(name, []).append(line["norms"])
    size = next(iter(runs.values()))["test"]["n"]
    section = [
        "## A small world",
        "",
        "25 classes of CIFAR-100 in five families (carnivores, small mammals, trees, vehicles, "
        f"flowers) at 16 x 16 pixels, {MOST} training images to 5, {size} test images; a ResNet-8, "
        "40 epochs of batches of 64, the same images, schedule and, but for the views that a "
        "method asks for, augmentation for all. SupCon, KCL and TSC learn features for 32 epochs, "
        "then a head on them, from balanced draws. Where features are learned beforehand, that "
        "takes 40 epochs more. Corrections are chosen on the validation images, 20 a class; "
        "AlphaNet is fitted ten times. Mean ± standard deviation over n seeds, last epoch.",
        "",
        "| method | n | few | medium | many | all | `ltkit train` |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, flags in METHODS.items():
        done = found.get(name)
        if done is None:
            section.append(f"| {name} | not measured | | | | | {_shown(flags)} |")
            continue
        cells = [cell([accuracy[group] for accuracy in done]) for group in (*GROUPS, "all")]
        section.append(f"| {name} | {len(done)} | {' | '.join(cells)} | {_shown(flags)} |")
    return [*section, "", *said(found), *of_norms(norms), "```",
            "python benchmarks/small_world.py --root DATA", "```", ""]  # fmt: skip


def of_norms(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return the table of the norms of rows beside the published deviations."""
    if not found:
        return []
    section = [
        "Mean norms of the heads' rows, and 100 times their standard deviation over classes, as "
        "`ltkit analyze norms` prints them, beside what Yang and Xu (NeurIPS 2020) print for "
        "CIFAR-100-LT and a ResNet-32; only the order can be compared.",
        "",
        "| training | n | few | medium | many | 100 x deviation | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, published in NORMED.items():
        done = found.get(name, [])
        cells = [
            _plain([factor * one[key] for one in done])
            for key, factor in (("few", 1), ("medium", 1), ("many", 1), ("deviation", 100))
        ]
        section.append(f"| {name} | {len(done)} | {' | '.join(cells)} | {published} |")
    if len(found) < len(NORMED):
        return [*section, ""]
    ours = {name: statistics.mean(one["deviation"] for one in found[name]) for name in NORMED}
    order, theirs = (sorted(NORMED, key=lambda n: -x[n]) for x in (ours, NORMED))
    agrees = "as published" if order == theirs else f"published: {', '.join(theirs)}"
    return [*section, "", f"From the largest deviation: {', '.join(order)}; {agrees}.", ""]


def _plain(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def said(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return what the table shows, and what it does not."""
    pairs = (("LPA", "PaCo"), ("SSP, then CE", "CE"), ("SSP, then DRW", "no SSP, DRW"))
    parts = []
    for one, other in pairs:
        if one in found and other in found:
            gain, error = difference(*([x["all"] for x in found[n]] for n in (one, other)))
            spread = f" ± {error:.1f}" if error is not None else " (one seed)"
            parts.append(f"{one} over {other}: {gain:+.1f}{spread}")
    corrected, base = "RIDE, AlphaNet, nearest, rho 0.5", "RIDE, 3 experts"
    of_ride = []
    if corrected in found and base in found:
        few, overall = (
            difference(*([x[group] for x in found[n]] for n in (corrected, base)))[0]
            for group in ("few", "all")
        )
        of_ride = [
            f"AlphaNet on RIDE with rho 0.5: few {few:+.1f}, all {overall:+.1f}. Chang et al. "
            "print +5.1 and -1.5 for CIFAR-100-LT, a ResNet-32 and six experts (few 25.8 to 30.9, "
            "medium 52.1 to 47.0, many 69.3 to 65.7, all 50.2 to 48.7).",
            "",
        ]
    return [
        "It shows that each method trains, and which of them gain anything from 2,500 images and a "
        "small network in 40 epochs; it does not show how they rank with the networks, images and "
        "hundreds of epochs that they were made for, and differences of a point are within what "
        f"the seeds and {sum(len(f) for f in FAMILIES)} classes' test images leave open. "
        f"Overall, with the standard error over seeds: {'; '.join(parts)}.",
        "",
        *of_ride,
    ]


def difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float | None]:
    """Return the difference of two means in points, and its standard error over seeds, if any."""
    gain = 100 * (statistics.mean(one) - statistics.mean(other))
    if min(len(one), len(other)) < 2:
        return gain, None
    return gain, 100 * sum(statistics.variance(x) / len(x) for x in (one, other)) ** 0.5


def _shown(flags: str) -> str:
    return ", then ".join(f"`{part}`" for part in re.split(" [|>] ", flags))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", type=lambda t: t.split(";"), default=list(METHODS),
                        help="rows, with semicolons between; default: all")  # fmt: skip
    parser.add_argument("--seeds", type=lambda t: [int(x) for x in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--root", help="where the data are; default: $LTKIT_DATA")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=WORK, help="for files of unfinished runs")
    parser.add_argument("--plan", action="store_true", help="print the commands, run nothing")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.methods if name not in METHODS]:
        parser.error(f"found {unknown[0]}, expected some of {'; '.join(METHODS)}")
    if args.root:
        os.environ["LTKIT_DATA"] = args.root
    there = {
        line["train"] + line["name"]
        for line in read_lines(args.output)
        if line["name"] not in NORMED or "norms" in line
    }
    runs = [Run(name, seed) for seed in args.seeds for name in args.methods]
    runs = [run for run in runs if run.train + run.name not in there]
    if args.plan:
        for run in runs:
            for words in run.commands(args.work):
                print(f"ltkit {shlex.join(words)}")
        return 0
    make_pictures(args.work / "data")
    failed = 0
    for number, run in enumerate(runs, 1):
        say(f"{number}/{len(runs)}: {run.name}, seed {run.seed}")
        try:
            append_line(args.output, measure(run, args.work))
        except subprocess.CalledProcessError as error:
            say(f"failed: {run.name}: exit code {error.returncode} of {shlex.join(error.cmd)}")
            failed += 1
        else:
            folder = run.folder(args.work)
            if all(other.folder(args.work) != folder for other in runs[number:]):
                shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except LtkitError as error:
        say(str(error))
        sys.exit(2)
