"""Lay anything under the names that commands use beside their output: nothing of it may be lost.

    python tests/fuzz/fuzz_scratch.py --count 10000 --seed 0 [--command import ...]
        [--json OUT] [--keep FOLDER]

Under each name (OUT.journal, OUT.partial, OUT.parts, OUT.jsonl, the lock's) lies nothing, something
of a stranger's (text, bytes, files of other kinds, finished files of ltkit, a folder with files, a
link to a file or a folder, a link to nowhere, a pipe), or what an interrupted run of ltkit has left
(of the same run, of another one, damaged, of another version, with a stranger's file in it). Then a
command runs, with or without --resume and --overwrite.

Outcomes: ok (with the right result) and refused (one line) are right, when everything of a
stranger's is as it was, the files outside that links lead to as well. Otherwise the outcome is
lost; what a link to nowhere leads to is made: executed.
"""

import contextlib
import hashlib
import io
import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from fuzzing import Target, main
from own_files import problem

from ltkit.cli import app
from ltkit.files import scratch
from ltkit.files.features_writer import FeaturesWriter
from ltkit.files.opening import MAGIC
from ltkit.sources.arrays import import_arrays

STEP = "--epochs 2 --device cpu --quiet"
MODEL = f"train ce --data digits_lt:ir=20 --arch digits_net {STEP} -o m.pt"


@dataclass(frozen=True)
class Command:
    """A command line that writes ``o.h5`` or ``o.pt``.

    resumes: whether it has --resume.
    share: of the mutants.
    """

    words: str
    output: str = "o.h5"
    resumes: bool = True
    share: float = 0.2


COMMANDS = {
    "import": Command("import a.npz --quiet", resumes=False, share=0.5),
    "extract": Command("extract m.pt --data digits_lt:ir=20 --device cpu --quiet", share=0.05),
    "sweep": Command(
        "alphanet sweep feats.h5 --k 1,2 --rho 1 --seeds 1 --epochs 1 --device cpu --quiet",
        share=0.15,
    ),
    "head": Command(f"train ce feats.h5 {STEP}", share=0.15),
    "train": Command(
        f"train ce --data digits_lt:ir=20 --arch digits_net {STEP}", "o.pt", share=0.15
    ),
}  # fmt: skip

INPUTS = ("a.npz", "feats.h5", "m.pt")
THEIRS = "theirs/precious"


class Stopped(Exception):
    """An interruption."""


def interrupted(folder, words, owner, name, after):
    """Return the files that a command leaves which stops at a call of a function."""
    calls, was = [], getattr(owner, name)

    def stopping(*given, **named):
        calls.append(1)
        if len(calls) == after:
            raise Stopped
        return was(*given, **named)

    before = {path.name for path in folder.iterdir()}
    setattr(owner, name, stopping)
    try:
        with contextlib.suppress(Stopped), contextlib.chdir(folder):
            app(words.split(), standalone_mode=False)
    finally:
        setattr(owner, name, was)
    left = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in before
    }
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.relative_to(folder).parts[0] not in before:
            path.rmdir() if path.is_dir() else path.unlink()
    return left


class Names(Target):
    """A command beside names that are taken."""

    def __init__(self, name) -> None:
        """Nothing is known of the sound result yet."""
        super().__init__(name)
        self.wanted, self.result = COMMANDS[name], None
        self.share = self.wanted.share

    def sound(self):
        """Return the inputs; look at what an interrupted run of each kind leaves."""
        from ltkit.training import checkpoint

        with tempfile.TemporaryDirectory() as scratched:
            folder = Path(scratched)
            np.savez(folder / "a.npz", **problem())
            import_arrays(folder / "a.npz", folder / "feats.h5")
            with (
                contextlib.chdir(folder),
                contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())),
            ):
                app(MODEL.split(), standalone_mode=False)
            (folder / "m.pt.jsonl").unlink()
            self.inputs = {name: (folder / name).read_bytes() for name in INPUTS}
            stops = {
                "import": (FeaturesWriter, "finish", 1), "extract": (FeaturesWriter, "finish", 1),
                "sweep": (scratch.Parts, "has", 2),
                "head": (checkpoint, "save_partial", 2), "train": (checkpoint, "save_partial", 2),
            }  # fmt: skip
            self.left = []
            for name, command in COMMANDS.items():
                for more in (
                    "",
                    " --dtype float16" if name in ("import", "extract") else " --seed 3",
                ):
                    words = f"{command.words}{more} -o {self.wanted.output}"
                    if name == "import":  # an interrupted import leaves nothing
                        continue
                    left = interrupted(folder, words, *stops[name])
                    if not left:
                        raise ValueError(f"{words}: left nothing")
                    self.left.append((name, more == "", left))
        return [self.inputs]

    def mutant(self, files, seeds, rng, canary):
        """Lay something under each name; choose flags."""
        output, own, theirs = self.wanted.output, {}, {THEIRS: b"precious", "theirs/more": b"more"}
        if rng.random() < 0.6:
            _, _, left = rng.choice([x for x in self.left if x[0] == self.name] or self.left)
            if rng.random() < 0.3:
                _, _, left = rng.choice(self.left)
            own = {name: self.aged(raw, rng) for name, raw in left.items() if rng.random() < 0.9}
        digest = hashlib.sha256(output.encode()).hexdigest()[:16]
        names = [
            f"{output}.{end}" for end in ("journal", "partial", "parts", "jsonl", "partial.new")
        ]
        for name in [*names, f".ltkit-lock-{digest}"]:
            if rng.random() < 0.15:
                own = {n: raw for n, raw in own.items() if n.split("/")[0] != name}
                theirs |= self.strange(name, files, rng, canary)
        if rng.random() < 0.15 and any(name.startswith(f"{output}.parts/") for name in own):
            theirs |= {f"{output}.parts/{rng.choice(('notes.txt', 'euclidean-1.h5'))}": b"mine"}
            own = {n: raw for n, raw in own.items() if n not in theirs}
        flags = [f for f in ("--overwrite", "--resume") if rng.random() < 0.5]
        if not self.wanted.resumes:
            flags = [f for f in flags if f != "--resume"]
        if rng.random() < 0.15:
            (own if "--overwrite" in flags else theirs)[output] = b"before"
        return {**files, **own, **theirs}, (flags, theirs)

    def aged(self, raw, rng):
        """Return what a run has left, once in a while damaged, or as of another version."""
        kind = rng.random()
        if kind < 0.75 or not raw:
            return raw
        if kind < 0.8:
            return raw.replace(b"ltkit-journal 2", b"ltkit-journal 3")
        if kind < 0.85:
            return raw.removeprefix(b"ltkit-journal 2 ")
        if kind < 0.9:
            return raw[: rng.randrange(len(raw))]
        at = rng.randrange(min(len(raw), 3000))
        return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]

    def strange(self, name, files, rng, canary):
        """Return something of a stranger's."""
        line = json.dumps({"epoch": 2, "loss": 1.0}) + "\n"
        content = rng.choice((
            b"mine\n", rng.randbytes(rng.randrange(1, 300)), MAGIC + rng.randbytes(90),
            files["feats.h5"], files["m.pt"], b"%064x\n" % rng.getrandbits(256), line.encode(),
            b"[1]\n", b"ltkit-parts 1 x\n", b"ltkit-journal 2 " + rng.randbytes(40),
        ))  # fmt: skip
        kind = rng.randrange(9)
        if kind < 4:
            return {name: content}
        if kind == 4:
            inside = {"notes.txt": content, f"euclidean-{rng.randrange(3)}.h5": content}
            return {f"{name}/{n}": raw for n, raw in inside.items()}
        return {
            name: (THEIRS, "theirs", str(canary), None, "/dev/zero")[kind - 5 + rng.randrange(2)]
        }

    def read(self, watched, folder, files, note, number, *, again=True, **limits):
        """Run the command; see whether all of the strangers' is there."""
        flags, theirs = note or ([], {})
        output = folder / self.wanted.output
        words = [
            str(folder / word) if word in INPUTS else word for word in self.wanted.words.split()
        ]  # fmt: skip
        before = {name: seen(folder / name) for name in theirs}
        found = watched.run(
            "line",
            words=[*words, *flags, "-o", str(output)],
            output=output,
            writes=folder,
            **limits,
        )
        if note is None:
            if found.kind == "executed" and again:  # it was imports
                output.unlink()
                for path in folder.glob(f"{output.name}.*"):
                    path.unlink()
                return self.read(watched, folder, files, note, number, again=False, **limits)
            if found.kind != "ok":
                raise ValueError(f"{self.name}: alone, it was {found}")
            self.result = found.output
        after = {name: seen(folder / name) for name in theirs}
        if lost := [name for name in theirs if before[name] != after[name]]:
            return replace(found, kind="lost", message=f"{flags} {lost} {found.message}")
        if found.kind == "ok" and found.output != self.result:
            return replace(found, kind="changed", message=f"{flags} {found.message}")
        return found


def seen(path):
    """Return what lies at a name, links not followed."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)


TARGETS = {name: Names(name) for name in COMMANDS}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(__doc__, "python tests/fuzz/fuzz_scratch.py", TARGETS, list(TARGETS), "command")
