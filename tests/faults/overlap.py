"""Run two commands with one output at the same time; look at what is there in the end.

    python tests/faults/overlap.py --count 500 --seed 0 --json benchmarks/results/faults.json

Of each kind of command there are variants with other results; each also runs with ``--overwrite``,
and with ``--resume`` where that may begin anew. Two of them start in one folder, some of the times
together, else up to the length of a run apart. ``mixed`` are commands of different kinds. A file
may lie at the output before.

Right is: each ends with exit code 0, or with exit code 2 and one line. What lies at the outputs in
the end is, byte for byte, what one command that ended with 0 gives when it runs alone, all of it of
the same one; or what was there before, where none did. Two can end with 0 only one after the other,
and the second then asked for that. Nothing else is left but the log of a training that ended with
0. The exit code is 1 when anything is wrong.
"""

import argparse
import itertools
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import warm
from disk import PREVIOUS, write_arrays
from kill import SPEED, report
from warm import EXTRACT, TRAIN

TOGETHER = 0.3
"""How many of the overlaps begin at the same moment."""

FIT = "alphanet fit f.h5 --k 2 --bins 20,50 --epochs 5 --device cpu --quiet"
SWEEP = (
    "alphanet sweep f.h5 --k 1,2 --rho 1 --seeds 1 --epochs 2 --bins 20,50 --device cpu --quiet "
    "--csv o.csv"
)
HEAD = "train balanced-softmax f.h5 --epochs 3 --device cpu --quiet"


@dataclass(frozen=True)
class Kind:
    """Commands of one kind, with one output.

    variants: command lines with different results.
    output: its name.
    flags: what each also runs with.
    more: names of further outputs.
    """

    variants: tuple[str, ...]
    output: str = "o.h5"
    flags: tuple[str, ...] = ("", "--overwrite")
    more: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return all command lines."""
        return [
            f"{words} {flag} -o {self.output}".replace("  ", " ")
            for words, flag in itertools.product(self.variants, self.flags)
        ]


RESUMING = ("", "--overwrite", "--resume")

KINDS = {
    "sweep": Kind((SWEEP, f"{SWEEP} --seed 7"), flags=RESUMING, more=("o.csv",)),
    "fit": Kind((FIT, f"{FIT} --seed 7")),
    "import": Kind(("import a.npz --quiet", "import b.npz --quiet")),
    "extract": Kind((EXTRACT, f"{EXTRACT} --dtype float16"), flags=RESUMING),
    "train": Kind((f"{TRAIN} --lr 0.1", f"{TRAIN} --lr 0.2 --seed 7"), "o.pt"),
    "mixed": Kind((
        SWEEP, FIT, "import a.npz --quiet", EXTRACT, HEAD, f"{TRAIN} --lr 0.1",
        "posthoc ncm f.h5 --quiet", "neighbors f.h5 --k 2 --bins 20,50 --quiet",
        "export p.h5 --to npz --quiet",
    ), more=("o.csv",)),
}  # fmt: skip

INPUTS = ("f.h5", "p.h5", "net.pt", "a.npz", "b.npz")


class Overlapper:
    """Runs each command of a kind alone once, then two at a time."""

    def __init__(self, kind, runs, inputs, scratch) -> None:
        """Make the results of commands that run alone.

        Args:
            kind: which commands.
            runs: two of `warm.Warm.run`, of processes of their own.
            inputs: the folder of all inputs.
            scratch: where folders go.
        """
        self.kind, self.runs, self.inputs = kind, runs, inputs
        self.folder = scratch / "overlap"
        self.found, self.wrong, self.alone, self.seconds = Counter(), [], {}, 0.0
        for line in kind.lines():
            self.lay(before=False)
            ended = runs[0](self.folder, *line.split())
            if ended.code:
                raise RuntimeError(f"ltkit {line}: exit code {ended.code}: {ended.err}")
            self.alone[line] = self.contents()
            self.seconds = max(self.seconds, ended.seconds)

    def lay(self, *, before) -> None:
        """Make the folder anew; put a file at the output where there is to be one before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in INPUTS:
            (self.folder / name).symlink_to(self.inputs / name)
        if before:
            (self.folder / self.kind.output).write_bytes(PREVIOUS)

    def contents(self) -> dict[str, object]:
        """Return what lies there beside the inputs, by name; of a log all but speeds."""
        found = {}
        for path in self.folder.iterdir():
            if path.name.endswith(".jsonl"):
                lines = map(json.loads, path.read_text().splitlines())
                found[path.name] = [
                    {k: v for k, v in x.items() if SPEED[6:] not in k} for x in lines
                ]
            elif path.name not in INPUTS:
                found[path.name] = path.read_bytes() if path.is_file() else "a folder"
        return found

    def overlap(self, rng) -> None:
        """Let two commands overlap; look at what became of it."""
        lines = [rng.choice(list(self.alone)) for _ in range(2)]
        apart = 0.0 if rng.random() < TOGETHER else rng.uniform(0, self.seconds)
        before = rng.random() < 0.2
        self.lay(before=before)
        ended = [None, None]

        def start(number, wait):
            time.sleep(wait)
            ended[number] = self.runs[number](self.folder, *lines[number].split())

        threads = [
            threading.Thread(target=start, args=(n, wait)) for n, wait in enumerate((0.0, apart))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.found["overlaps"] += 1
        if problem := self.look(lines, ended, before=before):
            self.wrong.append(f"{lines[0]} | {apart:.3f} s later {lines[1]}: {problem}")

    def look(self, lines, ended, *, before) -> str:
        """Say what is wrong."""
        done = []
        for line, end in zip(lines, ended, strict=True):
            if end.code == 0:
                done.append(line)
                continue
            try:
                message = end.message
            except ValueError as error:
                return str(error)
            self.found["refused: being written"] += "another process" in message
            self.found["refused: there already"] += "exists" in message
        self.found[("none ended with 0", "one ended with 0", "both ended with 0")[len(done)]] += 1
        if len(done) == 2 and not any("--overwrite" in x or "--resume" in x for x in done):
            return "both ended with 0, and neither was to replace anything"
        found = self.contents()
        logs = {name: found.pop(name) for name in list(found) if name.endswith(".jsonl")}
        known = [self.alone[line].get(f"{self.kind.output}.jsonl") for line in done]
        if any(log not in known for log in logs.values()):
            return "the log is that of no training that ended with 0"
        return self.compared(found, done, before=before)

    def compared(self, found, done, *, before) -> str:
        """Say what is wrong with the outputs that are found, without logs."""
        output, more = self.kind.output, self.kind.more
        wanted = [{n: v for n, v in self.alone[x].items() if not n.endswith("l")} for x in done]
        if not done:
            wanted = [{output: PREVIOUS} if before else {}]
        if extra := found.keys() - {output, *more}:
            return f"left: {sorted(extra)}"
        for own in wanted:
            # beside an output of a kind without a table lies that of the one before it
            tables = [own] if own.keys() & set(more) else wanted
            same = all(found.get(name) in [t.get(name) for t in tables] for name in more)
            if same and found.get(output) == own.get(output):
                return ""
        return f"{sorted(found)} are not the result of one that ended with 0"


def overlap(overlapper, count, seed, name) -> None:
    """Let a kind's commands overlap so many times."""
    for number in range(count):
        overlapper.overlap(random.Random(f"{name} {seed} {number}"))


def prepare(inputs) -> None:
    """Write arrays to import."""
    write_arrays(inputs / "a.npz")
    write_arrays(inputs / "b.npz", seed=1)


def main() -> int:
    """Overlap what is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="overlaps of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    bad = False
    with warm.Warm() as one, warm.Warm() as two, tempfile.TemporaryDirectory() as scratch:
        prepare(one.inputs)
        for name in asked.kinds:
            begun = time.monotonic()
            found = Overlapper(KINDS[name], (one.run, two.run), one.inputs, Path(scratch))
            overlap(found, asked.count, asked.seed, name)
            figures = dict(sorted(found.found.items())) | {
                "wrong": len(found.wrong), "seconds": round(time.monotonic() - begun, 1),
            }  # fmt: skip
            print(name, figures, flush=True)  # noqa: T201 (it is a script)
            for line in found.wrong:
                print(f"  {line}"[:900], flush=True)  # noqa: T201
            bad |= bool(found.wrong)
            if asked.json:
                command = f"python tests/faults/overlap.py --count {asked.count}"
                report(asked.json, "overlap", f"{command} --seed {asked.seed}", {name: figures})
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
