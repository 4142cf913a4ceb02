"""The loop of a fuzzer, and its report."""

import argparse
import datetime
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import torch

sys.path.append(str(Path(__file__).parents[1]))
from watched import SECONDS, Watched

IMPORTS = 100
"""Seconds that the first reading of a kind may take."""

RIGHT = ("ok", "refused")


class Target:
    """One kind of file: sound ones, how they are damaged, how they are read.

    share: of the mutants of a reader, where several kinds share one.
    """

    share = 1.0

    def __init__(self, name) -> None:
        """Take the kind's name."""
        self.name = name

    def sound(self):
        """Return sound ones, each as names of files to their bytes; text is where a link leads."""
        raise NotImplementedError

    def mutant(self, files, seeds, rng, canary):
        """Return a damaged one, and a note for `read`."""
        raise NotImplementedError

    def read(self, watched, folder, files, note, number, **limits):
        """Read what lies in a folder; return what became of it. Of a sound one the note is None."""
        raise NotImplementedError


def lay(folder, files):
    """Put files into a new folder; text is where a link leads, and None a pipe."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(path)
            continue
        path.symlink_to(content) if isinstance(content, str) else path.write_bytes(content)


def fuzz(target, count, seed, watched, keep=None):
    """Read mutants; return how often each outcome was, those that are wrong, and the longest time.

    Args:
        target: what is damaged.
        count: of mutants.
        seed: of the damage.
        watched: what reads them.
        keep: where wrong ones are kept.
    """
    seeds, outcomes, wrong, slowest = target.sound(), Counter(), [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        canaries = Path(scratch) / "canaries"
        canaries.mkdir()
        folder = Path(scratch) / "mutant"

        def read_sound():
            for number, files in enumerate(seeds):  # what is imported on the way takes its time
                lay(folder, files)
                target.read(watched, folder, files, None, number, seconds=IMPORTS)
                shutil.rmtree(folder)

        read_sound()
        for number in range(count):
            rng = random.Random(f"{target.name} {seed} {number}")
            files, note = target.mutant(rng.choice(seeds), seeds, rng, canaries / "canary")
            lay(folder, files)
            outcome = target.read(watched, folder, files, note, number)
            kind = "executed" if any(canaries.iterdir()) else outcome.kind
            outcomes[kind] += 1
            if outcome.isolated:
                outcomes["isolated"] += 1
            slowest = max(slowest, outcome.seconds)
            if kind not in RIGHT:
                wrong.append((number, kind, outcome))
                if keep is not None:
                    kept = keep / f"{target.name}-{number}"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(folder, kept, symlinks=True)
            shutil.rmtree(folder)
            for canary in canaries.iterdir():
                canary.unlink()
            if watched.child is None:
                read_sound()
    return outcomes, wrong, slowest


def main(description, command, targets, available, kinds):
    """Fuzz what is asked for on the command line; exit with 1 when anything is wrong.

    Args:
        description: of the script.
        command: how the script is called.
        targets: names to what can be damaged.
        available: the names of what can be damaged here.
        kinds: what the option is called that chooses among them.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="mutants of each reader, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(f"--{kinds}", nargs="+", choices=targets, default=available, dest="kinds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    found, bad = {}, False
    for name in asked.kinds:
        count = math.ceil(asked.count * targets[name].share)
        with Watched() as watched:
            begun = time.monotonic()
            outcomes, wrong, slowest = fuzz(targets[name], count, asked.seed, watched, asked.keep)
        bad |= bool(wrong)
        found[name] = {
            "mutants": count, **dict(sorted(outcomes.items())),
            "seconds": round(time.monotonic() - begun, 1), "slowest": round(slowest, 2),
        }  # fmt: skip
        print(name, found[name], flush=True)
        for number, kind, outcome in wrong:
            last = outcome.message.strip().splitlines()[:1]
            print(f"  {number} {kind} {last} {outcome.acts}"[:300], flush=True)
        if asked.json:
            report(asked.json, f"{command} --count {asked.count} --seed {asked.seed}", found)
    sys.exit(int(bad))


def report(path, command, found):
    """Write what was found; kinds of an earlier run that this one has not stay."""
    document = {
        "command": command,
        "date": f"{datetime.date.today()}",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "limit_seconds": SECONDS,
        "containers": found,
    }
    if path.exists():
        document["containers"] = json.loads(path.read_text())["containers"] | found
    path.write_text(json.dumps(document, indent=2) + "\n")
