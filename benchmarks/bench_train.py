"""`train`'s engine against the plain loop of research code, images per second side by side.

The plain loop: a DataLoader whose items are cropped, flipped and normalised one by one with Pillow
and NumPy, float32, a loss read every step. Both train a ResNet-32 on made images of CIFAR's size
with the same batch size and optimiser, an epoch of each in turns.

    python benchmarks/bench_train.py [--small] [--compile] [--device cuda]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader

from ltkit import architectures
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training import networks, validation
from ltkit.training.recipe import recipe

RESULTS = Path(__file__).parent / "results"
CLASSES, BATCH = 100, 128
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


class Plain(torch.utils.data.Dataset):
    """Images one by one, as the usual loaders give them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the arrays."""
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Pad, crop, flip and normalise an image."""
        image = ImageOps.expand(Image.fromarray(self.images[index]), 4)
        left, top = np.random.randint(0, 9, 2)
        image = image.crop((left, top, left + 32, top + 32))
        if np.random.random() < 0.5:
            image = ImageOps.mirror(image)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        return (pixels - mean) / std, int(self.labels[index])


def plain_loop(images: np.ndarray, labels: np.ndarray, device: str, workers: int) -> float:
    """Train an epoch; images per second."""
    network = architectures.build("resnet32", CLASSES).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=2e-4)
    loader = DataLoader(
        Plain(images, labels), BATCH, shuffle=True, num_workers=workers, pin_memory=device != "cpu"
    )
    start, total = time.perf_counter(), 0.0
    for batch, target in loader:
        moved = batch.to(device), target.to(device)
        loss = nn.functional.cross_entropy(network(moved[0]), moved[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return len(labels) / (time.perf_counter() - start)


def engine(dataset: Dataset, device: str, amp: str, compiled: bool) -> float:
    """Train an epoch with ltkit, after one that warms up or compiles; images per second."""
    epochs = 2 if compiled or device != "cpu" else 1
    settings = TrainSettings(epochs=epochs, batch_size=BATCH, amp=amp, compile=compiled)  # type: ignore[arg-type]
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        networks.train(
            dataset, "resnet32", recipe(TrainPlan("ce"), settings), Path(folder) / "m.pt",
            device=device, report=lambda progress: rates.append(progress.images_per_second),
        )  # fmt: skip
    return rates[-1]


PARTS = {
    "convolutions": ("conv",), "batch norm": ("batch_norm", "BatchNorm"),
    "ReLU": ("clamp_min", "threshold", "relu", "Relu"), "sums of branches": ("aten::add",),
}  # fmt: skip
"""Parts of a step, by what the names of their operations contain."""


def shares(images: np.ndarray, labels: np.ndarray, device: str, amp: str) -> str:
    """Say what part of a step's time the parts take: of processor time, or of the GPU's."""
    network = architectures.build("resnet32", CLASSES).to(device)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=2e-4, fused=True)
    batch = torch.from_numpy(images[:BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
    target = torch.from_numpy(labels[:BATCH]).to(device)

    def step() -> None:
        with validation.autocast(torch.device(device).type, amp):
            logits = network(batch)
        loss = nn.functional.cross_entropy(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    step()
    with torch.profiler.profile() as profile:
        step()
        step()
    of = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    spent = {e.key: getattr(e, of) for e in profile.key_averages()}
    whole = sum(spent.values())
    told = []
    for part, names in PARTS.items():
        own = sum(time for key, time in spent.items() if any(name in key for name in names))
        told.append(f"{part} {100 * own / whole:.0f} %")
    return ", ".join(told)


def main() -> None:
    """Measure; write the claims."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also compiled: minutes on a CPU")
    asked = parser.parse_args()
    count, rounds = (512, 1) if asked.small else (5120 if asked.device == "cpu" else 10847, 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    split = ImageSplit(images, labels, np.arange(count))
    dataset = Dataset(
        {"train": split}, ClassTable(np.bincount(labels)), mean=MEAN, std=STD, crop_padding=4,
        flip=True, record={},
    )  # fmt: skip
    where = machine()
    workers = 0 if asked.device == "cpu" else 8  # on the CPU, workers take cores from the network
    forms = {"float32": ("off", False), "bf16": ("bf16", False)}
    if asked.compile:
        forms |= {f"{name} compiled": (amp, True) for name, (amp, _) in forms.items()}
    rates: dict[str, list[float]] = {name: [] for name in ("plain", *forms)}
    for _ in range(rounds):
        rates["plain"].append(plain_loop(images, labels, asked.device, workers))
        for name, (amp, compiled) in forms.items():
            rates[name].append(engine(dataset, asked.device, amp, compiled))
    plain = statistics.median(rates["plain"])
    told = ", ".join(
        f"{name} {statistics.median(v):.0f} images/s ({min(v):.0f}..{max(v):.0f}), "
        f"{statistics.median(v) / plain:.2f} times"
        for name, v in rates.items()
        if name in forms
    )
    spread = f"{min(rates['plain']):.0f}..{max(rates['plain']):.0f}"
    claim = {
        "claim": f"train, ResNet-32, CIFAR-size images, batch {BATCH}, {asked.device}",
        "measured": f"{told}; plain eager DataLoader loop in float32 {plain:.0f} ({spread}) "
        f"(n {rounds}, {torch.get_num_threads()} threads)",
        "contract": "≥ 1.5x the plain loop" if asked.device == "cpu" else "≥ 20x the plain loop",
        "machine": where if asked.device == "cpu" else torch.cuda.get_device_name(),
    }
    bounds = {
        "claim": f"what bounds a step of it, {asked.device}, not compiled",
        "measured": "; ".join(
            f"{name}: {shares(images, labels, asked.device, amp)}"
            for name, amp in (("float32", "off"), ("bf16", "bf16"))
        ),
        "contract": "–",
        "machine": claim["machine"],
    }
    text = json.dumps({"claims": [claim, bounds]}, indent=1, ensure_ascii=False)
    if not asked.small:
        kind = "cpu" if asked.device == "cpu" else "cuda"
        (RESULTS / f"bench_train_{kind}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
