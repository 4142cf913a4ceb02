"""What journal, checksums, lock and syncs cost `extract`, on and off in turns.

On: `ltkit.sources.extraction.extract` as it is. Off: the same, but its rows go by plain writes
into a file of the right size: no HDF5, journal, checksums, lock or sync, no look for NaN, no
rename. Both take a ResNet-32 over made images of CIFAR's size, on the CPU.

    python benchmarks/bench_extract_cost.py [--small]

Processor time counts user and system time of all threads. On a busy machine both differ from round
to round by more than they differ from each other, so the time within the writer's calls is measured
too, in the rounds that are on. All that differs lies there, and what plain writes take as well, so
it bounds the cost from above.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from unittest import mock

import numpy as np
import torch
from machine import machine, spread

from ltkit import architectures
from ltkit.checkpoints import Recognised
from ltkit.files.features_writer import FeaturesWriter, Plan
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import ExtractSettings
from ltkit.sources import extraction

RESULTS = Path(__file__).parent / "results"
CLASSES = 100
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


class Plain:
    """A `FeaturesWriter` that keeps no promise."""

    def __init__(self, path: Path, plan: Plan, *, command: str, resume: bool) -> None:
        """Make a file of the right size."""
        self.dtype = np.dtype(plan.dtype)
        self.file = path.open("wb", buffering=0)
        rows = sum(len(split.labels) for split in plan.splits.values())
        self.file.truncate(rows * plan.feature_size * self.dtype.itemsize)

    def __enter__(self) -> Self:
        """Write until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Close the file."""
        self.file.close()

    def done(self, split: str) -> int:
        """No row was there before."""
        return 0

    def append(self, split: str, features: np.ndarray) -> None:
        """Write rows where the last ones ended."""
        self.file.write(np.ascontiguousarray(features.astype(self.dtype)).data)

    def finish(self) -> str:
        """There is no digest."""
        return ""


class Timed(FeaturesWriter):
    """The writer as it is, with the time that its calls take."""

    spent: ClassVar = [0.0, 0.0]

    def __init__(self, *given: Any, **named: Any) -> None:
        """Open."""
        self.timed(super().__init__, *given, **named)

    def append(self, *given: Any) -> None:
        """Add rows."""
        self.timed(super().append, *given)

    def finish(self) -> str:
        """Seal."""
        return str(self.timed(super().finish))

    def timed(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call, and add the wall and processor time to `spent`."""
        wall, used = time.perf_counter(), time.process_time()
        try:
            return call(*given, **named)
        finally:
            self.spent[0] += time.perf_counter() - wall
            self.spent[1] += time.process_time() - used


def problem(count: int) -> tuple[Recognised, Dataset]:
    """Return a network and images of one split."""
    torch.manual_seed(0)
    network = architectures.build("resnet32", CLASSES)
    model = Recognised(Path("m.pt"), "0" * 64, "native", "resnet32", network, MEAN, STD)
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    split = ImageSplit(images, labels, np.array([f"train/{i}" for i in range(count)]))
    table = ClassTable(np.bincount(labels, minlength=CLASSES))
    data = Dataset(
        {"train": split}, table, mean=MEAN, std=STD, crop_padding=4, flip=True,
        record={"spec": "made"},
    )  # fmt: skip
    return model, data


def main() -> None:
    """Measure; write the claim."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    count, rounds = (256, 1) if asked.small else (5000, 5)
    (model, data), where = problem(count), machine()
    found: dict[str, list[tuple[float, float]]] = {"on": [], "off": [], "writer": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first is to warm up
            order = (("on", Timed), ("off", Plain))
            for name, writer in order if number % 2 else order[::-1]:
                output = Path(folder) / f"{name}.h5"
                output.unlink(missing_ok=True)
                Timed.spent[:] = 0.0, 0.0
                with mock.patch.object(extraction, "FeaturesWriter", writer):
                    wall, used = time.perf_counter(), time.process_time()
                    extraction.extract(model, data, ("train",), output, ExtractSettings())
                    times = time.perf_counter() - wall, time.process_time() - used
                if number:
                    found[name].append(times)
                    if writer is Timed:
                        found["writer"].append((Timed.spent[0], Timed.spent[1]))
    claim = {
        "claim": f"extract, ResNet-32, {count} CIFAR-size images, CPU: journal, checksums, lock "
        "and syncs, on against plain writes",
        "measured": "; ".join(told(found, which, kind) for which, kind in enumerate(KINDS)),
        "contract": "< 3 %",
        "machine": f"{where}, {torch.get_num_threads()} threads",
    }  # fmt: skip
    text = json.dumps({"claims": [claim]}, indent=1, ensure_ascii=False)
    if not asked.small:
        (RESULTS / "bench_extract_cost.json").write_text(text + "\n", encoding="utf-8")
    print(text)


KINDS = ("wall", "processor")


def told(found: dict[str, list[tuple[float, float]]], which: int, kind: str) -> str:
    """Return the figures of one kind of time."""
    on, off, writer = ([times[which] for times in found[name]] for name in found)
    ratio = statistics.median(a / b for a, b in zip(on, off, strict=True)) - 1
    within = statistics.median(w / a for w, a in zip(writer, on, strict=True))
    return (
        f"{kind} time: within the writer's calls {1000 * statistics.median(writer):.0f} ms, "
        f"{100 * within:.2f} % of the run; on {spread(on)}, off {spread(off)}, {100 * ratio:+.1f} %"
        " (median of the rounds)"
    )


if __name__ == "__main__":
    main()
