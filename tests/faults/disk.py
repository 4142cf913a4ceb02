"""Full and broken disks: every call that changes a file fails once, for each command that writes.

    python tests/faults/disk.py --json benchmarks/results/faults.json

Kinds of faults, each at the n-th call for every n (a C compiler is needed, see `warm.py`):

- full: that call and all after it say that no space is left (ENOSPC); removing still works;
- broken: that call alone says that the device failed (EIO);
- short: writes from that call on take half of what they are given;
- interrupted: Ctrl-C (SIGINT) comes just before that call; terminated: SIGTERM.

And without the shim: limit, no file may be larger than so much (RLIMIT_FSIZE); tmpfs, a real file
system with so little space left, where mounting one is allowed.

A command ends with exit code 2 and one line (130 when interrupted), or with exit code 0 and the
right files: a call that failed is noticed, but for those in `FORGIVEN`. Under its final name lies
what was there before, or the right file whole; other files are as they were, and no temporary ones
are left, unless it was their removal that failed. What can be resumed is: then the result is the
right one. The exit code is 1 when anything is wrong.
"""

import argparse
import errno
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import warm
from kill import report
from warm import EXTRACT, TRAIN, Fault

from ltkit.files import hdf5

PREVIOUS = b"previous\n"
"""What lies at the outputs before."""

WHOLE = 8
"""Every so many calls the full disk is met by the libraries' own endings, too."""

REMOVING = ("unlink", "unlinkat")

FORGIVEN = {"full": REMOVING, "broken": ("open", "open64", "mkdir")}
"""Calls at which a fault may go unnoticed: removing, which works on a full disk; opening, where
zipfile tries another way; making a folder that is there."""

FAULTS = {
    "full": ("on", errno.ENOSPC), "broken": ("once", errno.EIO), "short": ("short", 0),
    "interrupted": ("before", signal.SIGINT), "terminated": ("before", signal.SIGTERM),
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command that writes.

    outputs: the files that it writes; the first may be that to which stdout goes.
    inputs: those that it reads.
    resumes: whether it can be gone on with.
    stdout: whether the output is what it prints.
    """

    words: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ("f.h5",)
    resumes: bool = False
    stdout: bool = False

    @property
    def logs(self) -> tuple[str, ...]:
        """Files beside the output that tell of the way to it."""
        return tuple(f"{self.outputs[0]}.{end}" for end in ("jsonl", "partial", "journal", "parts"))


COMMANDS = {
    "extract": Command(f"{EXTRACT} -o o.h5", ("o.h5",), ("net.pt",), True),
    "train": Command(f"{TRAIN} -o o.pt", ("o.pt",), (), True),
    "train-head": Command(
        "train balanced-softmax f.h5 --epochs 2 --device cpu --quiet -o o.h5", ("o.h5",),
        resumes=True,
    ),
    "alphanet-fit": Command(
        "alphanet fit f.h5 --k 2 --bins 20,50 --epochs 1 --quiet -o o.h5", ("o.h5",)
    ),
    "alphanet-sweep": Command(
        "alphanet sweep f.h5 --k 1,2 --rho 1 --seeds 1 --epochs 1 --bins 20,50 --device cpu "
        "--quiet --csv o.csv -o o.h5", ("o.h5", "o.csv"), resumes=True,
    ),
    "posthoc": Command("posthoc logit-adjust f.h5 --quiet -o o.h5", ("o.h5",)),
    "neighbors": Command("neighbors f.h5 --k 2 --bins 20,50 --quiet -o o.h5", ("o.h5",)),
    "import": Command("import a.npz --quiet -o o.h5", ("o.h5",), ("a.npz",)),
    "evaluate-csv": Command(
        "evaluate f.h5 --classifier p.h5 --replicates 100 --quiet --per-class o.csv", ("o.csv",),
        ("f.h5", "p.h5"),
    ),
    "evaluate-json": Command(
        "evaluate f.h5 --classifier p.h5 --replicates 100 --quiet --json", ("o.json",),
        ("f.h5", "p.h5"), stdout=True,
    ),
    "evaluate-table": Command(
        "evaluate f.h5 --classifier p.h5 --replicates 100 --quiet", ("o.txt",), ("f.h5", "p.h5"),
        stdout=True,
    ),
    "compare-csv": Command(
        "compare f.h5 p.h5 --replicates 100 --quiet --csv o.csv", ("o.csv",), ("f.h5", "p.h5")
    ),
    "analyze-csv": Command(
        "analyze distance f.h5 p.h5 --bins 20,50 --quiet --csv o.csv", ("o.csv",),
        ("f.h5", "p.h5"),
    ),
    "report": Command(
        "report f.h5 --classifier p.h5 --replicates 100 --k 2 --bins 20,50 --quiet -o o.html",
        ("o.html",), ("f.h5", "p.h5"),
    ),
    "export-into": Command(
        "export p.h5 --into net.pt --quiet -o o.pt", ("o.pt",), ("f.h5", "p.h5", "net.pt")
    ),
    **{
        f"export-{form}": Command(
            f"export p.h5 --to {form} --quiet -o o.{suffix}", (f"o.{suffix}",), ("f.h5", "p.h5")
        )
        for form, suffix in (
            ("npz", "npz"), ("safetensors", "safetensors"), ("csv", "csv"),
            ("latex", "tex"), ("cleanlab", "npz"), ("fiftyone", "json"),
        )
    },
}  # fmt: skip


class Faulty:
    """Runs a command undisturbed once, then on a disk that fails."""

    def __init__(self, command, run, inputs, folder, inside=None) -> None:
        """Make the undisturbed result.

        Args:
            command: what is run.
            run: `warm.Warm.run`.
            inputs: the folder of all inputs.
            folder: an empty folder where it runs.
            inside: how the process names that folder, where it has another name for it.
        """
        self.command, self.start, self.inputs = command, run, inputs
        self.folder, self.inside = folder, inside or folder
        self.found, self.wrong, self.left = Counter(), [], None
        self.lay()
        ended = self.run()
        if ended.code:
            raise RuntimeError(f"ltkit {command.words}: exit code {ended.code}: {ended.err}")
        self.calls, self.seconds = ended.calls, ended.seconds
        self.whole = self.contents(command.outputs)
        self.names = self.listed()
        self.size = max(path.stat().st_size for path in self.folder.iterdir())

    def lay(self) -> None:
        """Put the inputs there, and files at the outputs."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in self.command.inputs:
            shutil.copy(self.inputs / name, self.folder)
        for name in self.command.outputs:
            (self.folder / name).write_bytes(PREVIOUS)
        if self.left is not None:
            ballast = shutil.disk_usage(self.folder).free - self.left
            (self.folder / "ballast").write_bytes(bytes(max(0, ballast)))

    def run(self, *words, **disturbance):
        """Run the command."""
        if self.command.stdout:
            disturbance["stdout"] = self.inside / self.command.outputs[0]
        else:
            words = (*words, "--overwrite")
        return self.start(self.inside, *self.command.words.split(), *words, **disturbance)

    def listed(self) -> set[str]:
        """Name what lies in the folder."""
        return {path.name for path in self.folder.iterdir()}

    def contents(self, names):
        """Return the bytes of files, by name; those that are not there are left out."""
        there = [name for name in names if (self.folder / name).is_file()]
        return {name: (self.folder / name).read_bytes() for name in there}

    def disturbed(self, kind, **disturbance) -> None:
        """Run the command with a fault and look at what became of it."""
        self.lay()
        sound = self.contents(self.command.inputs)
        ended = self.run(**disturbance)
        self.found[kind] += 1
        problem = self.ending(kind, ended) or self.lying(kind, ended, sound)
        if not problem and ended.code and self.command.resumes:
            problem = self.resumed()
        if problem:
            self.wrong.append(f"{self.command.words}: {kind} {disturbance}: {problem}")

    def ending(self, kind, ended) -> str:
        """Say what is wrong with how it ended."""
        if ended.code == 0:
            self.found[f"{kind}: finished"] += 1
            if kind in ("full", "broken") and ended.called not in FORGIVEN[kind]:
                return f"{ended.called} failed unnoticed"
            return "" if self.contents(self.command.outputs) == self.whole else "wrong files"
        if kind == "interrupted":
            quiet = "Traceback" not in ended.err and ended.err.count("\n") <= 2
            return "" if ended.code == 130 and quiet else f"{ended.code}: {ended.err[-1500:]}"
        if kind == "terminated":
            return "" if ended.code == -signal.SIGTERM else f"{ended.code}: {ended.err[-1500:]}"
        try:
            self.found[f"{kind}: refused"] += bool(ended.message)
        except ValueError as error:
            return str(error)
        return "short writes are no failure" if kind == "short" else ""

    def lying(self, kind, ended, sound) -> str:
        """Say what is wrong with the files that lie there."""
        there = self.contents(self.command.outputs)
        for name in self.command.outputs:
            printed = self.command.stdout and ended.code  # the shell has made room for it
            if there.get(name) not in (PREVIOUS, self.whole[name]) and not printed:
                return f"{name} is neither the old file nor the new one"
        if self.contents(self.command.inputs) != sound:
            return "an input has changed"
        known = {*self.names, *(self.command.logs if ended.code else ()), "ballast"}
        left = self.listed() - known
        stays = kind == "terminated" or (kind == "broken" and ended.called in REMOVING)
        return f"left: {sorted(left)}" if left and not stays else ""

    def resumed(self) -> str:
        """Go on with it; say what is wrong with the result."""
        (self.folder / "ballast").unlink(missing_ok=True)
        first = self.command.outputs[0]
        there = not self.listed().isdisjoint({f"{first}.partial", f"{first}.parts"})
        for name, old in self.contents(self.command.outputs).items():
            if old == PREVIOUS:  # --resume takes what is there for the finished one
                (self.folder / name).unlink()
        ended = self.run(*(["--resume"] if there else []))
        self.found["resumed" if there else "run anew"] += 1
        if ended.code:
            return f"gone on with: exit code {ended.code}: {ended.err[-1500:]}"
        found = self.contents(self.command.outputs)
        same = all(content(found[name]) == content(self.whole[name]) for name in self.whole)
        return "" if same else "gone on with: the result differs"

    def at_calls(self, kinds, stride=1) -> None:
        """Let each call go wrong in turn."""
        for kind in kinds:
            how, value = FAULTS[kind]
            for at in range(1, self.calls + 1, stride):
                whole = kind == "full" and at % WHOLE == 1
                self.disturbed(kind, fault=Fault(at, how, value), whole=whole)

    def limited(self, steps) -> None:
        """Let no file grow beyond a size, from none to just too small."""
        for step in range(steps):
            least = 1000  # so much for the message
            largest = least + (self.size - least - 1) * step // max(1, steps - 1)
            self.disturbed("limit", largest=largest)

    def filled(self, steps) -> None:
        """Leave little space on the file system, from none to enough.

        The folder is the whole of a file system of its own.
        """
        for step in range(steps):
            self.left = 3 * self.size * step // max(1, steps - 1)
            self.disturbed("tmpfs")
        self.left = None


def write_arrays(path, seed=0) -> None:
    """Write arrays to import."""
    rng = np.random.default_rng(seed)
    arrays = {"weight": rng.normal(size=(3, 4)), "bias": np.zeros(3)}
    for split, number in (("train", 90), ("val", 9), ("test", 9)):
        arrays[f"{split}_features"] = rng.normal(size=(number, 4)).astype(np.float32)
        arrays[f"{split}_labels"] = np.arange(number) % 3
    np.savez(path, **arrays)


def content(raw) -> bytes:
    """Return a file's bytes, but of those that keep the command their digest: it has --resume."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        return hdf5.header(Path(file.name)).get("digest", raw)


def mountable() -> bool:
    """Say whether a file system in memory may be mounted in a namespace of one's own."""
    if not shutil.which("unshare"):
        return False
    tried = ["unshare", "-r", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
    return not subprocess.run(tried, capture_output=True, check=False).returncode


def main() -> int:
    """Break what is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--stride", type=int, default=1, help="only every so many calls")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as scratch:
        folder, mount = Path(scratch) / "folder", Path(scratch) / "mount"
        for path in (folder, mount):
            path.mkdir()
        places = [("shim", None, folder)]
        if mountable():
            places.append(("tmpfs", mount, mount))
        found = {name: Counter() for name in asked.commands}
        for place, mounted, inside in places:
            with warm.Warm(mounted) as own:
                write_arrays(own.inputs / "a.npz")
                for name in asked.commands:
                    begun = time.monotonic()
                    outside = own.root(inside)
                    faulty = Faulty(COMMANDS[name], own.run, own.inputs, outside, inside)
                    if mounted is None:
                        faulty.at_calls(FAULTS, asked.stride)
                        faulty.limited(9)
                    elif not COMMANDS[name].stdout:
                        faulty.filled(25)
                    else:
                        continue
                    found[name].update(faulty.found)
                    found[name]["wrong"] += len(faulty.wrong)
                    found[name]["seconds"] += round(time.monotonic() - begun)
                    print(place, name, dict(found[name]), flush=True)  # noqa: T201
                    for line in faulty.wrong:
                        print(f"  {line}"[:1200], flush=True)  # noqa: T201
                    bad |= bool(faulty.wrong)
                    if asked.json:
                        stride = f" --stride {asked.stride}" if asked.stride > 1 else ""
                        figures = {name: dict(sorted(found[name].items()))}
                        report(asked.json, "disk", f"python tests/faults/disk.py{stride}", figures)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
