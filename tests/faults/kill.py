"""Kill extraction and training with SIGKILL, resume them, and compare the results byte by byte.

    python tests/faults/kill.py --count 1000 --seed 0 --json benchmarks/results/faults.json

Kills come at random times, and at calls that change a file: before the call, after it, or when half
of a write is done (that needs a C compiler). Each run is killed up to three times, then resumed
until it is finished. After each kill all files that lie there are looked at: a final name holds
the bytes of an undisturbed run or is not there; what `validate` calls sound, or `inspect` reads as
a finished checkpoint, has these bytes too; the log has whole lines. The exit code is 1 when
anything is wrong.
"""

import argparse
import datetime
import json
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import warm
from warm import EXPERTS, EXTRACT, TRAIN, Fault

MOST = 3
"""Kills of one run before it is let finish."""

STATEFUL = TRAIN.replace(" ce ", " cdb ") + " --sampler class-balanced --augment standard"
"""A loss with a state, drawn images, random views."""

CONTRASTIVE = (
    TRAIN.replace(" ce ", " paco ") + " --set queue=64 --set size=8 --augment cutout --init net.pt"
)
"""Two views, a momentum encoder and a queue, from a checkpoint."""

TWO_PARTS = TRAIN.replace(" ce ", " oltr ") + " --augment standard"
"""Batches by class, a memory that begins in the second part, rates of parts."""

LPA = (
    TRAIN.replace(" ce ", " lpa ")
    + " --set queue=64 --set size=8 --set prototypes=12 --set warmup=1 --set refresh=1"
)
"""Prototypes of local vectors in the state, found anew before some epochs."""

TARGETED = TRAIN.replace(" ce ", " tsc ") + " --set queue=64 --set size=8 --set start=0.3"
"""Targets that are solved once, centroids."""

CAUSAL = TRAIN.replace(" ce ", " tde ") + " --sampler undersample"
"""A head of its own and a moving mean; others of the images in each epoch."""

STAGES = TRAIN.replace(" ce ", " ssd ") + " --set queue=64 --set size=8"
"""Three runs, each with its checkpoint."""

SHIFTED = TRAIN.replace(" ce ", " mislas ")
"""Mixed images, then a head trained beside its scales while batch norm's statistics move."""

UNLABELLED = " --unlabelled digits_lt:ir=2 --teacher net.pt"
SELF_TRAINED = TRAIN.replace(" ce ", " logit-adjusted ") + UNLABELLED
"""Images whose labels a teacher gives."""

SEVERAL = f"{EXPERTS} --drw 1 --augment rotation --nesterov"
"""Several experts, deferred weights, turned images."""

HELD = f"{EXPERTS} --cosine --init experts.pt --keep-head"
"""What is learned about experts that are held."""

SPEED = "images_per_second"


@dataclass(frozen=True)
class Job:
    """What is killed.

    words: the command line.
    output: the final name; what is not finished lies at ``<output>.partial``.
    inputs: files that it reads.
    """

    name: str
    words: str
    output: str
    inputs: tuple[str, ...] = ()


JOBS = {
    job.name: job
    for job in (
        Job("extract", f"{EXTRACT} -o f.h5", "f.h5", ("net.pt",)),
        Job("extract-float16", f"{EXTRACT} --dtype float16 -o f.h5", "f.h5", ("net.pt",)),
        Job("extract-local", f"{EXTRACT} --local 12 -o f.h5", "f.h5", ("net.pt",)),
        Job("train", f"{TRAIN} -o out.pt", "out.pt"),
        Job("train-stateful", f"{STATEFUL} -o out.pt", "out.pt"),
        Job("train-contrastive", f"{CONTRASTIVE} -o out.pt", "out.pt", ("net.pt",)),
        Job("train-oltr", f"{TWO_PARTS} -o out.pt", "out.pt"),
        Job("train-lpa", f"{LPA} -o out.pt", "out.pt"),
        Job("train-targeted", f"{TARGETED} -o out.pt", "out.pt"),
        Job("train-tde", f"{CAUSAL} -o out.pt", "out.pt"),
        Job("train-stages", f"{STAGES} -o out.pt", "out.pt"),
        Job("train-mislas", f"{SHIFTED} -o out.pt", "out.pt"),
        Job("train-unlabelled", f"{SELF_TRAINED} -o out.pt", "out.pt", ("net.pt",)),
        Job("train-experts", f"{SEVERAL} -o out.pt", "out.pt"),
        Job("train-router", f"{HELD.replace(' ride ', ' router ')} -o out.pt", "out.pt",
            ("experts.pt",)),
        Job("train-expert-weights", f"{HELD.replace(' ride ', ' expert-weights ')} -o out.pt",
            "out.pt", ("experts.pt",)),
    )
}  # fmt: skip


class Killer:
    """Runs a job undisturbed once, then disturbed as often as it is asked to."""

    def __init__(self, job, run, inputs, scratch) -> None:
        """Make the job's undisturbed result.

        Args:
            job: what is killed.
            run: `warm.Warm.run`.
            inputs: the folder of the job's inputs.
            scratch: where its folders go.
        """
        self.job, self.start, self.inputs, self.scratch = job, run, inputs, scratch
        self.found, self.wrong = Counter(), []
        self.folder = self.fresh("sound")
        ended = self.run()
        if ended.code:
            raise RuntimeError(f"ltkit {job.words}: exit code {ended.code}: {ended.err}")
        self.calls, self.seconds = ended.calls, ended.seconds
        self.sound = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.whole = self.sound[job.output]
        self.log = self.lines(self.folder)
        self.names = self.listed()

    def fresh(self, name) -> Path:
        """Make a folder with the job's inputs."""
        folder = self.scratch / f"{self.job.name}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for source in self.job.inputs:
            shutil.copy(self.inputs / source, folder)
        return folder

    @property
    def begun(self) -> bool:
        """Whether something is left to go on from: a state, or a finished stage."""
        kept = [n for n in self.listed() if not n.startswith(".")]
        return any(n.endswith(".partial") or (".stage" in n and n.endswith(".pt")) for n in kept)

    def listed(self) -> list[str]:
        """Name what lies in the folder."""
        return sorted(path.name for path in self.folder.iterdir())

    def run(self, **disturbance):
        """Run the job, with --resume where something is left to go on from."""
        resumed = ["--resume"] if self.begun else []
        return self.start(self.folder, *self.job.words.split(), *resumed, **disturbance)

    def lines(self, folder) -> list[dict]:
        """Return the lines of the log, where there is one, without speeds."""
        log = folder / f"{self.job.output}.jsonl"
        if not log.is_file():
            return []
        lines = log.read_text().split("\n")
        if lines.pop():
            raise ValueError("the log ends in half a line")
        return [{k: v for k, v in json.loads(line).items() if k != SPEED} for line in lines]

    def disturbed(self, disturbances) -> None:
        """Run the job; kill it once for each disturbance; let it finish; compare."""
        self.folder, told = self.fresh("killed"), []
        for kind, disturbance in disturbances:
            ended = self.run(**disturbance)
            told.append(f"{kind} {disturbance}")
            if ended.code == 0:
                self.found["finished before the kill"] += 1
                break
            if ended.code != -signal.SIGKILL:
                self.blame(told, f"exit code {ended.code}: {ended.err[-300:]}")
                return
            self.found["kills"] += 1
            self.found[f"kills at {kind}"] += 1
            if problem := self.look():
                self.blame(told, problem)
                return
            if (self.folder / self.job.output).exists():
                self.found["killed after it had its name"] += 1
                break
            self.found["killed with something to resume"] += self.begun
        else:
            ended = self.run()
            if ended.code:
                self.blame(told, f"resumed: exit code {ended.code}: {ended.err[-300:]}")
                return
            self.found["resumed"] += 1
            if left := self.left_over():
                self.blame(told, f"left: {left}")
        if (self.folder / self.job.output).read_bytes() != self.whole:
            self.blame(told, "the result differs from that of an undisturbed run")
        elif self.lines(self.folder) != self.log:
            self.blame(told, "the log differs from that of an undisturbed run")
        else:
            self.found["identical"] += 1

    def blame(self, told, problem) -> None:
        """Keep what went wrong."""
        self.wrong.append(f"{self.job.name}: {'; '.join(told)}: {problem}")

    def left_over(self) -> list[str]:
        """Name what a finished run has left, beside the temporary files of those killed."""
        return [n for n in self.listed() if n not in self.names and not n.startswith(".ltkit-")]

    def look(self) -> str:
        """Look at all files that lie there after a kill; say what is wrong."""
        for path in sorted(self.folder.iterdir()):
            if path.name in self.job.inputs:
                continue
            if path.name == self.job.output and path.read_bytes() != self.whole:
                return "a file under the final name that is not the result"
            if problem := self.seen(path):
                return problem
        try:
            if self.lines(self.folder) != self.log[: len(self.lines(self.folder))]:
                return "the log has other lines"
        except ValueError as error:
            return f"the log is half written: {error}"
        return ""

    def seen(self, path) -> str:
        """Look at one file as a user would; say what is wrong."""
        hdf5 = self.job.output.endswith(".h5")
        if path.name.endswith((".jsonl", ".journal")):
            return ""
        reader = ["validate", path, "--no-isolate"] if hdf5 else ["inspect", path]
        ended = self.start(self.folder, *reader)
        self.found["looked at"] += 1
        sound = [self.sound[path.name]] if path.name in self.sound else [*self.sound.values()]
        if ended.code == 0 and path.read_bytes() not in sound:
            return f"{path.name} looks complete and is not: {ended.out[:200]}"
        if ended.code not in ((0, 1, 2) if hdf5 else (0, 2)):
            return f"{path.name}: reading it ends in {ended.code}: {ended.err[-300:]}"
        return ""

    def random(self, rng):
        """Give up to three disturbances, at random times or at random calls."""
        for _ in range(rng.randint(1, MOST)):
            if rng.random() < 0.5 or not self.calls:
                yield "a time", {"after": rng.uniform(0, self.seconds)}
            else:
                how = rng.choice(("before", "after", "cut"))
                fault = Fault(rng.randint(1, self.calls), how, signal.SIGKILL)
                yield f"a call ({how})", {"fault": fault}

    def every(self, stride=1, offset=0):
        """Give a run for each call of a first run and of a resumed one: killed there."""
        for how in ("before", "cut"):  # after a call is before the next
            for at in range(1 + offset, self.calls + 1, stride):
                here = (f"a call ({how})", {"fault": Fault(at, how, signal.SIGKILL)})
                middle = Fault(self.calls * 2 // 3, "before", signal.SIGKILL)
                yield [here]
                yield [("a call (before)", {"fault": middle}), here]


def kill(killer, count, seed, every) -> None:
    """Kill a job at every call where that is asked for, then at random until there are so many."""
    for disturbances in killer.every() if every and killer.calls else ():
        killer.disturbed(disturbances)
    number = 0
    while killer.found["kills"] < count or not number:
        rng = random.Random(f"{killer.job.name} {seed} {number}")
        killer.disturbed(killer.random(rng))
        number += 1


def summary(killer, seconds) -> dict:
    """Return the figures of a job."""
    found = dict(sorted(killer.found.items()))
    return {**found, "wrong": len(killer.wrong), "seconds": round(seconds, 1)}


def report(path, part, command, found) -> None:
    """Write figures of kinds into a file; those of other parts and kinds stay."""
    import torch

    made = {
        "command": command, "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip
    whole = json.loads(path.read_text()) if path.is_file() else {}
    whole.setdefault(part, {}).update({name: made | own for name, own in found.items()})
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """Kill what is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="kills of each job, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--no-every", action="store_true", help="leave out every call in turn")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    bad = False
    with warm.Warm() as own, tempfile.TemporaryDirectory() as scratch:
        for name in asked.jobs:
            begun = time.monotonic()
            killer = Killer(JOBS[name], own.run, own.inputs, Path(scratch))
            kill(killer, asked.count, asked.seed, not asked.no_every)
            found = summary(killer, time.monotonic() - begun)
            print(name, found, flush=True)  # noqa: T201 (it is a script)
            for line in killer.wrong:
                print(f"  {line}"[:600], flush=True)  # noqa: T201
            bad |= bool(killer.wrong)
            if asked.json:
                command = f"python tests/faults/kill.py --count {asked.count} --seed {asked.seed}"
                command += " --no-every" * asked.no_every
                report(asked.json, "kill", command, {name: found})
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
