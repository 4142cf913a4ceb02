"""`alphanet fit`: the joint form on cached logits against a loop over classes, and its floor.

Synthetic features of the sizes of ImageNet-LT and CIFAR-100-LT. The loop is what a plain program
does in a step: one small network a class, corrected weights, features times all weights. It is
timed for some steps between whole fits of the joint form, and scaled to a fit. At ImageNet-LT's
size the commands are timed, too, each a process of its own that reads a features file: a fit and
its evaluation on 50 000 test samples, their peak memory beside the file's size. `--half` compares
the test accuracy of fits with and without `--amp bf16`, on features files.

    python benchmarks/bench_alphanet_fit.py [--small | --large | --cold | --half FEATS ...]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_scale import imagenet_counts
from machine import machine, spread

from ltkit import alphanet, evaluation
from ltkit.files import features as features_file
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.neighbors.search import nearest_of_groups
from ltkit.records import Classifier, FeatureSplit, shot_groups
from ltkit.settings import AlphaNetSettings, NeighborSettings

SEEDS = 8
LTKIT = Path(sys.executable).with_name("ltkit")
RESULTS = Path(__file__).parent / "results"
SETTINGS = AlphaNetSettings(network_input="own+neighbors", few_biases="frozen")


def made(name: str) -> tuple[Classifier, FeatureSplit, FeatureSplit, FeatureSplit, np.ndarray]:
    """Make features of the size of a dataset: classifier, train, val, test, training counts."""
    rng = np.random.default_rng(0)
    if name == "CIFAR-100-LT":
        size, val_each = 64, 20
        counts = (500 * 0.01 ** (np.arange(100) / 99)).astype(np.int64)
    else:
        size, val_each = 2048, 20
        counts = imagenet_counts()
    classes = len(counts)
    centres = rng.standard_normal((classes, size), dtype=np.float32)

    def split(numbers: np.ndarray) -> FeatureSplit:
        labels = np.repeat(np.arange(classes), numbers)
        features = rng.standard_normal((len(labels), size), dtype=np.float32)
        features *= 2
        for start in range(0, len(labels), 4096):
            features[start : start + 4096] += centres[labels[start : start + 4096]]
        return FeatureSplit(features, labels)

    base = Classifier(centres / np.float32(np.sqrt(size)), np.zeros(classes, np.float32))
    val, test = (split(np.full(classes, each)) for each in (val_each, 50))
    return base, split(counts), val, test, counts


def loop_steps(base: Classifier, near, train: FeatureSplit, rows: np.ndarray, steps: int) -> float:
    """Time steps of the plain form: a network a class, corrected weights, all logits; s a step."""
    weight, bias = torch.from_numpy(base.weight), torch.from_numpy(base.bias)
    few = near.few_class
    inputs = torch.cat([weight[few][:, None], weight[near.base_class]], dim=1).flatten(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(inputs.shape[1], 32), torch.nn.LeakyReLU(),
        torch.nn.Linear(32, 32), torch.nn.LeakyReLU(),
        torch.nn.Linear(32, 32), torch.nn.LeakyReLU(), torch.nn.Linear(32, near.k),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    start = time.perf_counter()
    for step in range(steps):
        batch = rows[64 * step : 64 * step + 64]
        corrected = []
        for place, c in enumerate(few):
            alpha = network(inputs[place])
            alpha = alpha / alpha.abs().sum()
            corrected.append(weight[c] + (alpha[:, None] * weight[near.base_class[place]]).sum(0))
        whole = weight.index_copy(0, torch.from_numpy(few), torch.stack(corrected))
        logits = torch.from_numpy(train.features[batch]) @ whole.T + bias
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def command(*words: object) -> tuple[float, int]:
    """Run a command; return its seconds, and the most memory it held, in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen([LTKIT, *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"ltkit {words[0]} failed")
    return time.perf_counter() - start, 1024 * usage.ru_maxrss


def cold(base: Classifier, splits: dict[str, FeatureSplit], rounds: int) -> dict[str, str]:
    """Time `ltkit alphanet fit` and `ltkit evaluate` on a file; return the claim's row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays, feats, fitted = (folder / n for n in ("a.npz", "feats.h5", "fit.h5"))
        values = {f"{split}_features": s.features for split, s in splits.items()}
        labels = {f"{split}_labels": s.labels for split, s in splits.items()}
        np.savez(arrays, weight=base.weight, bias=base.bias, **values, **labels)
        command("import", arrays, "-o", feats, "-q")
        arrays.unlink()
        size = feats.stat().st_size
        where = machine()
        found: dict[int, tuple[list[float], int]] = {}
        for rhos, seeds in (("1", 1), ("0.5,1,1.5", 10)):
            times, peak = [], 0
            for _ in range(rounds if seeds == 1 else 1):
                words = (
                    "--k",
                    5,
                    "--rho",
                    rhos,
                    "--seeds",
                    seeds,
                    "-o",
                    fitted,
                    "--overwrite",
                    "-q",
                )
                fit, most = command("alphanet", "fit", feats, *words)
                scored, more = command("evaluate", feats, "--classifier", fitted, "--json", "-q")
                times.append(fit + scored)
                peak = max(peak, most, more)
            found[seeds] = times, peak
    one, many = found[1], found[10]
    return {
        "claim": f"ltkit alphanet fit and ltkit evaluate, ImageNet-LT size, from a file of "
        f"{size / 1e9:.2f} GB",
        "measured": f"one fit {spread(one[0])}, 30 fits {spread(many[0])}; most memory held "
        f"{one[1] / 1e9:.2f} and {many[1] / 1e9:.2f} GB",
        "contract": "≤ 12 s one fit, ≤ 100 s for 30",
        "machine": where,
    }


def gemm_rate() -> float:
    """Return the float32 rate of a large square product, FLOP/s."""
    a, b = torch.randn(2, 4096, 4096)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 4096**3 / min(times)


def measure(name: str, rounds: int, joint_rounds: int) -> dict[str, str]:
    """Measure one size; return the claim as a row of docs/performance.md."""
    base, train, val, _, counts = made(name)
    where = machine()
    groups = shot_groups(counts)
    means, _ = class_means(train, len(counts))
    near = nearest(means, groups.few, groups.base, NeighborSettings(5))
    steps_in_fit = 25 * -(-2 * int(counts[groups.few].sum()) // 64)
    thirty = [replace(SETTINGS, rho=r, seed=s) for r in (0.5, 1.0, 1.5) for s in range(10)]
    rows = np.random.default_rng(0).permutation(len(train))
    one, loop = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        alphanet.fit(base, near, train, val, [SETTINGS])
        one.append(time.perf_counter() - start)
        loop.append(steps_in_fit * loop_steps(base, near, train, rows, 3))
    joint, halves = [], []
    for _ in range(joint_rounds):
        for amp, times in (("off", joint), ("bf16", halves)):
            start = time.perf_counter()
            alphanet.fit(base, near, train, val, [replace(run, amp=amp) for run in thirty])
            times.append(time.perf_counter() - start)
    flop = steps_in_fit * len(groups.few) * 32 * 6 * train.features.shape[1] * 2 * 2
    floor = flop / gemm_rate()
    ratio = sorted(loop)[len(loop) // 2] / sorted(one)[len(one) // 2]
    return {
        "claim": f"alphanet fit, {name} size ({len(train)} x {train.features.shape[1]}, "
        f"{len(groups.few)} few, k 5, rho 1, 25 epochs)",
        "measured": f"one fit {spread(one)}; 30 fits (10 seeds x 3 rhos) {spread(joint)}, with "
        f"--amp bf16 {spread(halves)}; first-layer products of one "
        f"{flop / 1e9:.3g} GFLOP, {floor:.2g} s at the measured {flop / floor / 1e9:.0f} "
        f"GFLOP/s; per-class loop {ratio:.0f} times slower (3 of "
        f"{steps_in_fit} steps timed)",
        "contract": "≤ 3x floor, ≥ 30x a per-class loop" if len(counts) == 1000 else "–",
        "machine": where,
    }


def half(files: list[Path]) -> Iterator[dict[str, str]]:
    """Give a row for each features file and rho: accuracy with bf16 beside that without."""
    for path in files:
        features = features_file.read(path)
        base, near = features.classifier(), nearest_of_groups(features, NeighborSettings(5))
        for rho in (0.5, 1.0):
            found = []
            for amp in ("off", "bf16"):
                runs = [AlphaNetSettings(rho=rho, seed=s, amp=amp) for s in range(SEEDS)]
                fitted = alphanet.fit(
                    base, near, features.split("train"), features.splits.get("val"), runs
                )
                order = sorted(range(SEEDS), key=lambda n: fitted.runs[n]["seed"])
                accuracy = evaluation.run_accuracies(
                    features.split("test"), base, fitted, features.groups()
                )
                found.append(
                    [[100 * accuracy[n][group] for group in ("few", "all")] for n in order]
                )
            full, other = np.array(found)
            apart, error = (other - full).mean(0), (other - full).std(0, ddof=1) / SEEDS**0.5
            told = "; ".join(
                f"{group} {full[:, g].mean():.2f} (seeds' std {full[:, g].std(ddof=1):.2f}), "
                f"bf16 {apart[g]:+.2f} (standard error {error[g]:.2f})"
                for g, group in enumerate(("few", "all"))
            )
            yield {
                "claim": f"alphanet fit --amp bf16, {path.stem}, k 5, rho {rho:g}, {SEEDS} seeds: "
                "test accuracy in points, float32 and the difference",
                "measured": told, "contract": "–", "machine": machine(),
            }  # fmt: skip


def write(name: str, claims: list[dict[str, str]]) -> None:
    """Write claims to a results file."""
    text = json.dumps({"claims": claims}, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if "--half" in sys.argv:
        files = list(map(Path, sys.argv[sys.argv.index("--half") + 1 :]))
        write("bench_alphanet_half", list(half(files)))
        sys.exit()
    if "--large" in sys.argv:
        write("bench_alphanet_fit_large", [measure("ImageNet-LT", 1, 1)])
        sys.exit()
    if "--cold" not in sys.argv:
        claims = [measure("CIFAR-100-LT", 5, 3)]
        if "--small" not in sys.argv:
            claims.append(measure("ImageNet-LT", 3, 1))
        write("bench_alphanet_fit", claims)
    if "--small" not in sys.argv:
        head, train_split, val_split, test_split, _ = made("ImageNet-LT")
        parts = {"train": train_split, "val": val_split, "test": test_split}
        write("bench_alphanet_fit_cold", [cold(head, parts, 3)])
