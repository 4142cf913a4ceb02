"""Train every loss on long-tailed data, several seeds each, and keep the scores: a line a run.

A run is `ltkit train`, `extract` and `evaluate --json`; its line goes to
benchmarks/results/reproduce.jsonl. Runs that have a line are skipped, so the same command goes on
where an interrupted one stopped, in the middle of a training, too.

    python benchmarks/reproduce.py --root DATA [--methods ce,ldam-drw] [--imbalance 100,50,10]
        [--seeds 0,1,2] [--epochs 200] [--device auto] [--flags="--amp bf16"] [--plan]
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import machine

from ltkit.errors import FormatError, LtkitError

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "reproduce.jsonl"
WORK = ROOT / ".cache" / "reproduce"
ARCHS = {"cifar100_lt": "resnet32", "cifar10_lt": "resnet32", "digits_lt": "digits_net"}
TITLES = {"cifar100_lt": "CIFAR-100-LT", "cifar10_lt": "CIFAR-10-LT", "digits_lt": "digits"}
GROUPS = ("few", "medium", "many")
DEFERRED = 0.8
"""The part of the training after which `--drw` weights classes: 160 of 200 epochs."""


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    flags: of `ltkit train`; ``{deferred}`` is the epoch where re-weighting starts, ``{tenth}`` a
        tenth of the epochs. After a bar are those of a training that starts from the one before.
    cifar100, cifar10: published accuracy in % by imbalance factor.
    source: of the published numbers, and where their protocol is another.
    """

    flags: str
    cifar100: Mapping[int, float] = field(default_factory=dict)
    cifar10: Mapping[int, float] = field(default_factory=dict)
    source: str = ""

    def published(self, dataset: str, imbalance: int) -> float | None:
        """Return the published accuracy in %, None where there is none."""
        numbers = {"cifar100_lt": self.cifar100, "cifar10_lt": self.cifar10}.get(dataset, {})
        return numbers.get(imbalance)


QUOTED = "as quoted in the SWRM paper"
TRICKS = "bag of tricks (Zhang et al. 2021)"
PACO = (
    "--augment autoaugment+cutout --lr 0.05 --weight-decay 5e-4 --warmup-epochs 10 "
    "--step-factor 0.1"
)
SWRM = "--weight-decay 1e-4 --steps 0.7,0.9 --step-factor 0.1"
METHODS = {
    "ce": Method(
        "ce",
        {100: 38.32, 50: 43.85, 10: 55.71},
        {100: 70.36, 10: 86.39},
        f"Cao et al. 2019; CIFAR-100 at 50 {QUOTED}",
    ),
    "focal": Method(
        "focal",
        {100: 38.41, 50: 44.32, 10: 55.78},
        {100: 70.38},
        f"Cao et al. 2019; CIFAR-100 at 50 {QUOTED}",
    ),
    "weighted": Method("weighted"),
    "weighted-drw": Method(
        "weighted --drw {deferred}", {100: 41.6}, {}, f"{TRICKS}, the deferred CS_CE"
    ),
    "class-balanced": Method(
        "class-balanced --set beta=0.9",
        {100: 39.60, 50: 45.32, 10: 57.99},
        {100: 74.57, 50: 79.27, 10: 87.49},
        "Cui et al. 2019, cost and beta tuned for each data set, another draw of images",
    ),
    "class-balanced-0.9999": Method("class-balanced"),
    "class-balanced-drw": Method(
        "class-balanced --drw {deferred}",
        {100: 40.8, 50: 46.8, 10: 57.8},
        {100: 75.4, 50: 79.6, 10: 87.6},
        "CE-DRW, from tables of later papers",
    ),
    "ldam": Method("ldam", {100: 39.60, 10: 56.91}, {100: 73.35, 10: 86.96}, "Cao et al. 2019"),
    "ldam-drw": Method(
        "ldam --drw {deferred}",
        {100: 42.04, 10: 58.71},
        {100: 77.03, 10: 88.16},
        "Cao et al. 2019",
    ),
    "logit-adjusted": Method(
        "logit-adjusted",
        {100: 43.89},
        {100: 77.89},
        "Menon et al. 2021: a bottleneck ResNet-32, 1419 epochs (1241 on CIFAR-10); 42.87 and "
        "80.81 after 200 epochs of the standard recipe, Kini et al. 2021",
    ),
    "balanced-softmax": Method(
        "balanced-softmax",
        {100: 42.99},
        {100: 77.54},
        f"{TRICKS}, the standard recipe; 50.3 and 83.1 with AutoAugment, Cutout and a cosine",
    ),
    "label-aware-smoothing": Method("label-aware-smoothing"),
    "lade": Method(
        "lade",
        {100: 45.4, 50: 50.5, 10: 61.7},
        {10: 88.78},
        "Hong et al. 2021: two-branch ResNet-32, batch 256, rate 0.2, decay 5e-4",
    ),
    "seql": Method("seql", {100: 40.49, 50: 44.81}, {}, TRICKS),
    "seesaw": Method("seesaw", {100: 40.87, 10: 57.83}, {}, QUOTED),
    "cdt": Method("cdt", {100: 39.59, 50: 44.83}, {100: 77.10, 50: 81.81}, TRICKS),
    "vs": Method("vs", {100: 43.52}, {100: 80.82}, "Kini et al. 2021"),
    "elm": Method("elm", {100: 45.77}, {}, QUOTED),
    "gcl": Method(
        "gcl --mix mixup --step-factor 0.1",
        {100: 48.7, 50: 53.6},
        {100: 82.7, 50: 85.5},
        "Li et al. 2022: batch 64, and a second stage, which this run does not have",
    ),
    "ib": Method(
        "ib --steps 0.5,0.8,0.9",
        {100: 42.14, 50: 46.22, 10: 57.13},
        {100: 78.26, 50: 81.70, 10: 88.25},
        "Park et al. 2021",
    ),
    "ib-focal": Method(
        "ib --set gamma=1 --steps 0.5,0.8,0.9",
        {100: 42.06, 50: 47.49, 10: 58.20},
        {},
        "Park et al. 2021",
    ),
    "ghm-cwap": Method("ghm-cwap", {100: 41.59, 10: 57.81}, {}, QUOTED),
    "cfl": Method("cfl", {100: 42.71, 50: 48.66, 10: 60.87}, {}, QUOTED),
    "cdb": Method(
        "cdb",
        {100: 42.59, 10: 58.74},
        {},
        f"{QUOTED}; 240 epochs, batch 32, other validation images",
    ),
    "swrm": Method(
        f"swrm {SWRM}", {100: 46.86, 50: 51.70, 10: 62.19}, {}, "the SWRM paper; our reading of it"
    ),
    "swrm-plus": Method(
        f"swrm --set sign=1 {SWRM}",
        {100: 46.86, 50: 51.70, 10: 62.19},
        {},
        "the same, the margin's sign as printed",
    ),
    "swrm-sum": Method(
        f"swrm --set weights=sum {SWRM}",
        {100: 46.86, 50: 51.70, 10: 62.19},
        {},
        "the same, weights scaled to sum C",
    ),
    "swrm-0.01": Method(
        "swrm --weight-decay 1e-4 --steps 0.7,0.9",
        {100: 46.86, 50: 51.70, 10: 62.19},
        {},
        "the same, the rate lowered by 100 each time",
    ),
    "dyswrm": Method(
        f"dyswrm {SWRM}",
        {100: 46.82, 50: 51.92, 10: 62.28},
        {},
        "the SWRM paper; our reading of it",
    ),
    "dyswrm-sum": Method(
        f"dyswrm --set weights=sum {SWRM}",
        {100: 46.82, 50: 51.92, 10: 62.28},
        {},
        "the same, weights scaled to sum C",
    ),
    "paco": Method(
        f"paco {PACO}", {100: 52.0, 50: 56.0, 10: 64.2}, {}, "Cui et al. 2021: 400 epochs"
    ),
    "lpa": Method(
        f"lpa --set warmup={{tenth}} --set refresh={{tenth}} {PACO}",
        {100: 53.3, 50: 57.1, 10: 65.1},
        {},
        "Kim et al. 2022; their own baseline is 51.3, 55.8 and 63.2",
    ),
    "tsc": Method(
        "tsc --augment simclr --schedule cosine",
        {100: 43.8, 50: 47.4, 10: 59.0},
        {100: 79.7},
        "Li et al. 2022: 1000 epochs of batches of 1024, then 200 of the classifier",
    ),
    "kcl": Method(
        "kcl --augment simclr --schedule cosine",
        {100: 42.8},
        {100: 77.6},
        "the same, as quoted there",
    ),
    "ssp-ce": Method(
        "ssp | ce",
        {100: 40.8, 50: 45.3, 10: 57.8},
        {100: 73.8, 50: 78.5, 10: 87.4},
        "the unified-perspective paper, rotation",
    ),
    "ssp-drw": Method(
        "ssp | weighted --drw {deferred}",
        {100: 44.1, 50: 48.4, 10: 59.1},
        {100: 77.5, 50: 81.2, 10: 88.2},
        "the same",
    ),
}

Run = Callable[[Sequence[str]], str]
"""Runs ``ltkit`` with these words; returns what it prints."""


@dataclass(frozen=True)
class Job:
    """One run.

    flags: what `ltkit train` is told beside the method's own.
    """

    method: str
    dataset: str
    imbalance: int
    seed: int
    epochs: int
    flags: str = ""

    @property
    def data(self) -> str:
        """The data: one draw of images for all seeds, 20 validation images a class."""
        return f"{self.dataset}:ir={self.imbalance},val=balanced"

    @property
    def train(self) -> str:
        """The training, which names the run; where it runs and writes to makes no difference."""
        return f"train {self.method_flags} {self.rest}"

    @property
    def method_flags(self) -> str:
        """The method's flags, for so many epochs."""
        deferred, tenth = int(DEFERRED * self.epochs), self.epochs // 10
        return METHODS[self.method].flags.format(deferred=deferred, tenth=tenth)

    @property
    def rest(self) -> str:
        """The flags that all methods have."""
        return (
            f"--data {self.data} --arch {ARCHS[self.dataset]} --epochs {self.epochs}"
            f" --seed {self.seed} {self.flags}"
        ).strip()

    def folder(self, work: Path) -> Path:
        """Return where the run keeps its files until it is done."""
        digest = hashlib.sha256(self.train.encode()).hexdigest()[:8]
        return work / f"{self.method}-{self.dataset}-{self.imbalance}-{self.seed}-{digest}"

    def commands(self, work: Path, device: str, model: str = "model.pt") -> list[list[str]]:
        """Return the words of the commands that are left; an interrupted training goes on."""
        folder = self.folder(work)
        checkpoint, features = folder / model, folder / f"{Path(model).stem}.h5"
        where = ["--device", device]
        return [
            *trainings(self.method_flags, [*shlex.split(self.rest), *where], checkpoint, True),
            ["extract", str(checkpoint), "--data", self.data, "--splits", "test", *where,
             "-o", str(features), "--overwrite"],
            ["evaluate", str(features), "--json"],
        ]  # fmt: skip


def trainings(
    flags: str, rest: Sequence[str], checkpoint: Path, keep_best: bool = False
) -> list[list[str]]:
    """Return the words of the trainings that are left, each of which starts from the one before.

    Args:
        flags: the method's, with bars between the trainings.
        rest: further words of each.
        checkpoint: of the last one; the others' lie beside.
        keep_best: whether the last keeps its best epoch, too.
    """
    parts, before, words = flags.split(" | "), None, []
    for number, part in enumerate(parts, 1):
        last = number == len(parts)
        made = checkpoint if last else checkpoint.with_name(f"part{number}.pt")
        if not made.is_file():
            start = ["--init", str(before)] if before else []
            keep = ["--keep-best"] if keep_best and last else []
            states = (f"{made.name}.partial", f"{made.stem}.stage*")
            resume = ["--resume"] if any(any(made.parent.glob(s)) for s in states) else []
            one = ["train", *shlex.split(part), *rest, *start, *keep, "-o", str(made), *resume]
            words.append(one)
        before = made
    return words


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines that are complete; one without its end was being written when the run died.

    Raises:
        FormatError: when one of them is no JSON.
    """
    if not path.is_file():
        return []
    complete = path.read_bytes().rpartition(b"\n")[0]
    lines = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise FormatError(
                f"{path}: line {number}: found no JSON, expected a run; remove the line"
            ) from error
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line, in the place of one that is not complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def missing(jobs: Iterable[Job], path: Path) -> list[Job]:
    """Return the jobs that have no line yet."""
    there = {line["train"] for line in read_lines(path)}
    return [job for job in jobs if job.train not in there]


def measure(job: Job, work: Path, device: str, run: Run) -> dict[str, Any]:
    """Run a job; return its line. What is done of an interrupted one is not done again."""
    import torch

    folder = job.folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    last = scores([run(words) for words in job.commands(work, device)][-1])
    content = torch.load(folder / "model.pt", weights_only=True, map_location="cpu")
    epochs = _log(folder / "model.pt.jsonl")
    final, best = epochs[-1], max(epochs, key=lambda line: line["val"]["balanced"])
    chosen = last if best is final else None
    if chosen is None and (folder / "model.best.pt").is_file():
        chosen = scores([run(words) for words in job.commands(work, device, "model.best.pt")][-1])
    return {
        "train": job.train,
        **asdict(job),
        "last": {"epoch": final["epoch"], "val": final["val"]["balanced"], "test": last},
        "best": {"epoch": best["epoch"], "val": best["val"]["balanced"], "test": chosen},
        "images_per_second": statistics.median(line["images_per_second"] for line in epochs),
        "protocol": content["recipe"],
        "versions": content["versions"] | {"python": platform.python_version()},
        "machine": machine(),
        "device": _device_name(device),
    }


def scores(document: str, row: int = 0) -> dict[str, Any]:
    """Return the figures of a row in what `evaluate --json` prints; the first is the own head's."""
    content = json.loads(document)
    found = content["rows"][row]
    return {"n": content["n"], "accuracy": found["accuracy"], "interval": found["interval"]}


def _log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _device_name(device: str) -> str:
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return torch.cuda.get_device_name(torch.device("cuda" if device == "auto" else device))


def reproduce(
    jobs: Sequence[Job], path: Path, work: Path, device: str, run: Run
) -> list[tuple[Job, str]]:
    """Run the jobs that have no line, and write theirs; return those that failed, and how."""
    failed = []
    todo = missing(jobs, path)
    say(f"{len(todo)} of {len(jobs)} runs to do")
    for number, job in enumerate(todo, 1):
        say(f"{number}/{len(todo)}: {job.method}, {job.data}, seed {job.seed}")
        try:
            append_line(path, measure(job, work, device, run))
        except subprocess.CalledProcessError as error:
            failed.append((job, f"exit code {error.returncode} of ltkit {shlex.join(error.cmd)}"))
        else:
            shutil.rmtree(job.folder(work))
    return failed


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def ltkit(words: Sequence[str]) -> str:
    """Run ``ltkit`` in a process of its own, its messages on stderr; return what it prints."""
    say(f"ltkit {shlex.join(words)}")
    command = [sys.executable, "-m", "ltkit", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, list(words))
    return done.stdout


# The tables of docs/results.md


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md, a row a method; those without runs say so."""
    lines = [
        "## Losses, trained from images",
        "",
        "One draw of images (seed 0); `val=balanced`, 20 images a class, of which the classes that "
        "have fewer left give up training images (20 of 10,847 at imbalance 100). ResNet-32 "
        "(standard), 200 epochs, batch 128, rate 0.1 with 5 epochs of warm-up, divided by 100 "
        "after 160 and 180, momentum 0.9, decay 2e-4, crop and flip, unless the flags or the "
        'column epochs say otherwise. Mean ± standard deviation over n seeds. "Last" and the '
        'groups are of the last epoch, "best on val" of the one with the best balanced accuracy on '
        "the validation split (– where its weights were not kept). Rows of fewer epochs, as many "
        "as a CPU had time for, do not compare with published numbers, only with each other. "
        "Published numbers are as a rule the epoch that is best on the test set.",
        "",
    ]
    groups = _groups(read_lines(path))
    shown = {("cifar100_lt", imbalance) for imbalance in (100, 50, 10)}
    shown |= {(job.dataset, job.imbalance) for job in groups}
    for dataset, imbalance in sorted(shown, key=lambda s: (list(ARCHS).index(s[0]), -s[1])):
        lines += [
            f"### {TITLES[dataset]}, imbalance {imbalance}",
            "",
            "| method | n | epochs | few | medium | many | last | best on val | published |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, method in METHODS.items():
            published = method.published(dataset, imbalance)
            end = "–" if published is None else f"{published:g}"
            rows = [
                (job, runs)
                for job, runs in groups.items()
                if (job.method, job.dataset, job.imbalance) == (name, dataset, imbalance)
            ]
            if not rows:
                lines.append(f"| {name} | not measured | | | | | | | {end} |")
            for job, runs in sorted(rows, key=lambda row: (-row[0].epochs, row[0].flags)):
                lines.append(f"| {' | '.join(_cells(job, runs))} | {end} |")
        lines.append("")
    lines += [
        "| method | `ltkit train` | published numbers |",
        "|---|---|---|",
        *(
            f"| {name} | `{method.flags.format(deferred=160, tenth=20)}` | {method.source or '–'} |"
            for name, method in METHODS.items()
        ),
        "",
        *_measured_on(groups),
        "```",
        "python benchmarks/reproduce.py --root DATA",
        "```",
        "",
    ]
    return lines


def _groups(lines: Iterable[dict[str, Any]]) -> dict[Job, list[dict[str, Any]]]:
    """Gather the runs that differ in the seed alone, but for those of flags that have changed."""
    groups: dict[Job, dict[int, dict[str, Any]]] = {}
    for line in lines:
        job = Job(**{name: line[name] for name in Job.__dataclass_fields__})
        if job.method in METHODS and job.train == line["train"]:
            groups.setdefault(replace(job, seed=0), {})[job.seed] = line
    return {job: list(runs.values()) for job, runs in groups.items()}


def _cells(job: Job, runs: list[dict[str, Any]]) -> list[str]:
    label = f"{job.method} (`{job.flags}`)" if job.flags else job.method
    last = [run["last"]["test"]["accuracy"] for run in runs]
    best = [run["best"]["test"] and run["best"]["test"]["accuracy"] for run in runs]
    cells = [cell([accuracy[name] for accuracy in last]) for name in (*GROUPS, "all")]
    cells.append(cell([accuracy and accuracy["all"] for accuracy in best]))
    return [label, str(len(runs)), str(job.epochs), *cells]


def cell(values: list[float | None]) -> str:
    """Return the mean and deviation of fractions in %, a dash where one is absent."""
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def _measured_on(groups: Mapping[Job, list[dict[str, Any]]]) -> list[str]:
    """Name the devices and versions of the runs."""
    runs = [run for found in groups.values() for run in found]
    places = {
        f"{run['device'] if run['device'] != 'cpu' else run['machine'].rpartition(',')[0]}, torch "
        f"{run['versions']['torch']}, ltkit {run['versions']['ltkit']}"
        for run in runs
    }
    return [f"Measured on: {'; '.join(sorted(places))}.", ""] if places else []


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", type=_words, default=list(METHODS), help="default: all")
    parser.add_argument("--datasets", type=_words, default=["cifar100_lt"])
    parser.add_argument("--imbalance", type=_numbers, default=[100, 50, 10])
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--flags", default="", help="further flags of every ltkit train")
    parser.add_argument("--root", help="where the data are; default: $LTKIT_DATA")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=WORK, help="for files of unfinished runs")
    parser.add_argument("--plan", action="store_true", help="print the commands, run nothing")
    args = parser.parse_args(argv)
    for found, known in ((args.methods, METHODS), (args.datasets, ARCHS)):
        if unknown := [name for name in found if name not in known]:
            parser.error(f"found {unknown[0]}, expected some of {', '.join(known)}")
    jobs = [
        Job(method, dataset, imbalance, seed, args.epochs, args.flags)
        for imbalance in args.imbalance
        for dataset in args.datasets
        for seed in args.seeds
        for method in args.methods
    ]
    if args.root:
        os.environ["LTKIT_DATA"] = args.root
    if args.plan:
        for job in missing(jobs, args.output):
            for command in job.commands(args.work, args.device):
                print(f"ltkit {shlex.join(command)}")
        return 0
    failed = reproduce(jobs, args.output, args.work, args.device, ltkit)
    for job, reason in failed:
        say(f"failed: {job.method}, {job.data}, seed {job.seed}: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except LtkitError as error:
        say(str(error))
        sys.exit(2)
