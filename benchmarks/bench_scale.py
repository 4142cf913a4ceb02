"""Every command at the size of ImageNet-LT, of iNaturalist and at 20,000 classes: time and memory.

Files of made features are written block by block: the frequent classes with up to 1,280 training
images, the rare ones with 5 or fewer, class means and noise normal, a head of the scaled means. A
command is a process of its own; its peak of memory is what the system says of it. Beside each run
stand the matrix product of what it computes logits of and the read of what it reads, measured in
the same minute. A line a command and size goes to benchmarks/results/scale.jsonl; what has a line
is not run again. `--limit` sets an address space, as `ulimit -v`, in GB; after `--most` seconds a
command is ended, and its line says so. What is learned in many passes has one strong penalty.

    OMP_NUM_THREADS=2 python benchmarks/bench_scale.py [--limits | --growth]
        [--sizes inaturalist] [--only evaluate] [--work DIR] [--limit 8] [--most SECONDS]
        [--output FILE]

`--growth` runs the sizes that halve rows and classes instead, for the exponents; `--limits` what
scale_page.py has a bound for, and what that reads.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

from ltkit.files import features as features_file
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable, Head

RESULTS = Path(__file__).parent / "results" / "scale.jsonl"
WORK = Path(__file__).parents[1] / ".cache" / "scale"
GIGA = 1 << 30
Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Size:
    """A file: classes, features, and samples of each split."""

    classes: int
    width: int
    train: int
    val: int
    test: int


SIZES: Mapping[str, Size] = {
    "imagenet-lt": Size(1000, 2048, 115_846, 20_000, 50_000),
    "inaturalist": Size(8142, 256, 437_513, 24_426, 24_426),
    "inaturalist, 1.3 M": Size(8142, 256, 1_300_000, 24_426, 24_426),
    "20,000 classes": Size(20_000, 64, 200_000, 20_000, 50_000),
}
GROWTH: Mapping[str, Size] = {
    f"C {classes}, N {train}": Size(classes, 256, train, train // 25, train // 25)
    for classes, train in ((2000, 800_000), (4000, 800_000), (8000, 800_000), (8000, 200_000),
                           (8000, 400_000))
}  # fmt: skip
"""Classes doubled at the same rows of every split, and rows doubled at the same classes."""

THIRTY = "--variant code --rho 0.5,1,1.5 --seeds 10 -o W/f.alphanets.h5 --overwrite"
COMMANDS: Mapping[str, str] = {
    "inspect": "inspect F",
    "validate": "validate F",
    "neighbors": "neighbors F -o W/n.h5 --overwrite",
    "posthoc logit-adjust": "posthoc logit-adjust F -o W/f.la.h5 --overwrite",
    "posthoc tau-norm": "posthoc tau-norm F -o W/f.tau.h5 --overwrite",
    "posthoc ncm": "posthoc ncm F -o W/f.ncm.h5 --overwrite",
    "posthoc bias": "posthoc bias F --set penalty=3 -o W/f.bias.h5 --overwrite",
    "posthoc group-bias": "posthoc group-bias F -o W/f.gb.h5 --overwrite",
    "posthoc temperature": "posthoc temperature F -o W/f.t.h5 --overwrite",
    "posthoc vector-scaling": "posthoc vector-scaling F --set penalty=10 -o W/f.vs.h5 --overwrite",
    "posthoc pc-softmax": "posthoc pc-softmax F -o W/f.pc.h5 --overwrite",
    "posthoc lade": "posthoc lade F --set target=inverse -o W/f.lade.h5 --overwrite",
    "posthoc tde": "posthoc tde F -o W/f.tde.h5 --overwrite",
    "posthoc gla": "posthoc gla F --base W/f.t.h5 --set penalty=10 -o W/f.gla.h5 --overwrite",
    "posthoc lws": "posthoc lws F --set learning_rate=0.2 -o W/f.lws.h5 --overwrite",
    "posthoc marc": "posthoc marc F --set learning_rate=0.2 -o W/f.marc.h5 --overwrite",
    "posthoc weight-balancing": "posthoc weight-balancing F --set learning_rate=0.01 "
                                "-o W/f.wb.h5 --overwrite",
    "posthoc alphanet-plus": "posthoc alphanet-plus F --set penalty=10 -o W/f.ap.h5 --overwrite",
    "posthoc crt": "posthoc crt F --set learning_rate=0.1 -o W/f.crt.h5 --overwrite",
    "posthoc ridge": "posthoc ridge F -o W/f.ridge.h5 --overwrite",
    "posthoc logistic": "posthoc logistic F --set inverse_penalty=1e-7 -o W/f.logistic.h5 "
                        "--overwrite",
    "posthoc blend": "posthoc blend F --set penalty=10 -o W/f.blend.h5 --overwrite",
    "posthoc adapt": "posthoc adapt F --to F --anyway -o W/f.adapt.h5 --overwrite",
    "train ce": "train ce F --epochs 1 -o W/f.ce.h5 --overwrite",
    "alphanet fit": "alphanet fit F --rho 1 -o W/f.alphanet.h5 --overwrite",
    "alphanet fit, 30 fits": "alphanet fit F " + THIRTY,
    "alphanet fit, 30 fits, bf16": "alphanet fit F --amp bf16 " + THIRTY,
    "alphanet show": "alphanet show F W/f.alphanet.h5 --json",
    "evaluate": "evaluate F W/f.la.h5 W/f.tau.h5 W/f.ncm.h5 --json",
    "evaluate, every figure": "evaluate F W/f.la.h5 --metrics auroc,nll,ece --json",
    "compare": "compare F W/f.la.h5 W/f.tau.h5 --json",
    "report": "report F W/f.la.h5 W/f.ncm.h5 -o W/report.html --overwrite",
    "diagnose": "diagnose F --json",
    "recommend": "recommend F --methods logit-adjust,tau-norm,ncm --repeats 1 -o W/f.rec.h5 "
                 "--overwrite",
    "analyze confusion": "analyze confusion F W/f.la.h5 --json",
    "analyze distance": "analyze distance F W/f.la.h5 --json",
    "analyze flows": "analyze flows F W/f.la.h5 --json",
    "analyze norms": "analyze norms F W/f.la.h5 --json",
    "analyze risk-coverage": "analyze risk-coverage F --budget 0.1 --json",
    "analyze novelty": "analyze novelty F --hold-out 1,2,3 --json",
    "conformal": "conformal F -o W/f.sets.json --overwrite --json",
    "export": "export W/f.la.h5 --to safetensors -o W/head.safetensors --overwrite",
    "export, bundle": "export W/f.la.h5 --bundle W/shipped --overwrite",
    "check": "check W/shipped F --split test",
}  # fmt: skip
READ = ("posthoc logit-adjust", "posthoc tau-norm", "posthoc ncm")
"""What the commands that judge read."""
BOUNDED: Mapping[str, tuple[str, ...]] = {
    "imagenet-lt": ("alphanet fit, 30 fits", "alphanet fit, 30 fits, bf16"),
    "inaturalist": (*READ, "posthoc crt", "report"),
    "inaturalist, 1.3 M": ("alphanet fit",),
    "20,000 classes": (*READ, "evaluate", "compare", "report"),
}


def imagenet_counts() -> Counts:
    """Return counts as ImageNet-LT has them: 385 many-, 479 medium-, 136 few-shot classes."""
    counts = np.concatenate([
        np.linspace(1280, 101, 385), np.linspace(100, 20, 479), np.linspace(19, 5, 136),
    ]).astype(np.int64)  # fmt: skip
    counts[:385] = counts[:385] * ((115_846 - counts[385:].sum()) / counts[:385].sum())
    return counts


def counts_of(size: Size) -> Counts:
    """Return a long tail of training counts that sums to about the size's samples."""
    if size == SIZES["imagenet-lt"]:
        return imagenet_counts()
    ranks = np.arange(size.classes)
    lengths = np.geomspace(0.004, 3, 200) * size.classes
    sums = [np.maximum(1280 * np.exp(-ranks / length), 2).astype(int).sum() for length in lengths]
    length = lengths[int(np.argmin(np.abs(np.array(sums) - size.train)))]
    return np.maximum(1280 * np.exp(-ranks / length), 2).astype(np.int64)


def write_file(path: Path, size: Size) -> None:
    """Write a features file, a block at a time."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((size.classes, size.width), np.float32)
    counts = counts_of(size)
    labels = {
        "train": rng.permutation(np.repeat(np.arange(size.classes), counts)),
        "val": np.arange(size.val) % size.classes,
        "test": np.arange(size.test) % size.classes,
    }
    prior = np.log(counts / counts.sum())
    scale = np.float32(2 / np.sqrt(size.width))
    head = Head(means * scale, (prior - prior.mean()).astype(np.float32))
    plan = Plan(
        size.width, "float16", {name: SplitPlan(y, None) for name, y in labels.items()},
        ClassTable(counts), head, {}, {},
    )  # fmt: skip
    noise = np.float32(size.width**0.5 / 4)
    with FeaturesWriter(path, plan, command="bench_scale", resume=False) as writer:
        for name, own in labels.items():
            for start in range(0, len(own), 16_384):
                of = own[start : start + 16_384]
                values = means[of] + noise * rng.standard_normal((len(of), size.width), np.float32)
                writer.append(name, values)
        writer.finish()


def reference(path: Path, size: Size) -> dict[str, float]:
    """Time the product of val's logits and the read of all features."""
    features = features_file.read(path)
    weight = features.classifier().weight
    begun = time.perf_counter()
    for _, block, _ in features.split("val").blocks(size.classes):
        block.astype(np.float32) @ weight.T
    product = time.perf_counter() - begun
    begun = time.perf_counter()
    for split in features.splits.values():
        for _ in split.blocks():
            pass
    return {"val_product_s": round(product, 3), "read_s": round(time.perf_counter() - begun, 3)}


def first_layers(size: Size) -> float:
    """Return the seconds of the products of thirty fits' first layers and of their gradients.

    Thirty times 32 rows of the class's own and five neighbours' features, 25 epochs of batches of
    64 of twice the few-shot samples; at PyTorch's float32 speed of one step's two products.
    """
    counts = counts_of(size)
    few = counts[counts < 20]
    inputs = torch.randn(len(few), 6 * size.width)
    weight, gradient = torch.randn(2, 960, 6 * size.width)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        torch.mm((inputs @ weight.T).T, inputs, out=gradient)
        times.append(time.perf_counter() - begun)
    return min(times) * 25 * -(-2 * int(few.sum()) // 64)


def run(words: list[str], limit: float | None, most: float | None) -> dict[str, Any]:
    """Run a command; return its seconds, its peak in GB, how it ended and its last line."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(limit * GIGA),) * 2)

    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "ltkit", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=limited,
    )  # fmt: skip
    assert child.stderr is not None
    end = threading.Timer(most or threading.TIMEOUT_MAX, child.kill)
    end.start()
    said = child.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(child.pid, 0)
    end.cancel()
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    found = {
        "seconds": round(time.perf_counter() - begun, 2),
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_gb": round(used.ru_maxrss * 1024 / GIGA, 3),
        "code": code,
    }
    if code:
        found["said"] = said.strip().splitlines()[-1][:300] if said.strip() else ""
    return found


def measured(
    name: str, size: Size, command: str, path: Path, limit: float | None, most: float | None
) -> dict[str, Any]:
    """Run a command on a size's file; return its line."""
    words = shlex.split(COMMANDS[command])
    places = {"F": str(path)}
    line = {
        "size": name, "command": command, "limit_gb": limit,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        **run([places.get(w, w.replace("W/", f"{path.parent}/")) for w in words], limit, most),
        **reference(path, size),
    }  # fmt: skip
    if "said" in line:
        line["said"] = line["said"].replace(f"{path.parent}/", "")
    page = path.with_name("report.html")
    if command == "report" and page.is_file():
        line["page_mb"] = page.stat().st_size / 1e6
    if command.startswith("alphanet fit, 30"):
        line["first_layers_s"] = round(first_layers(size), 2)
    return line | {"machine": machine()}


def main() -> int:
    """Run what has no line yet."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", default="")
    options.add_argument("--only", default="")
    options.add_argument("--work", type=Path, default=WORK)
    options.add_argument("--output", type=Path, default=RESULTS)
    options.add_argument("--limit", type=float)
    options.add_argument("--most", type=float)
    options.add_argument("--growth", action="store_true")
    options.add_argument("--limits", action="store_true")
    asked = options.parse_args()
    sizes = GROWTH if asked.growth else SIZES
    names = [name for name in asked.sizes.split(";") if name] or list(sizes)
    only = [name for name in asked.only.split(";") if name] or list(COMMANDS)
    asked.work.mkdir(parents=True, exist_ok=True)
    done = set()
    if asked.output.is_file():
        lines = map(json.loads, asked.output.read_text(encoding="utf-8").splitlines())
        done = {(line["size"], line["command"], line["limit_gb"]) for line in lines}
    for name in names:
        folder = asked.work / name.replace(" ", "_").replace(",", "")
        folder.mkdir(exist_ok=True)
        path = folder / "f.h5"
        if not path.is_file():
            write_file(path, sizes[name])
        for command in only:
            if asked.limits and command not in BOUNDED[name]:
                continue
            if (name, command, asked.limit) in done:
                continue
            line = measured(name, sizes[name], command, path, asked.limit, asked.most)
            print(json.dumps(line), flush=True)
            with asked.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
