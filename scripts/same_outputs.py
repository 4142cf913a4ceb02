"""Run a chain of commands on the bundled features and keep all that they print and write.

Kept before a change and after it, the two folders show what the change did to anyone's output:

    python scripts/same_outputs.py keep before      # in the old checkout
    python scripts/same_outputs.py keep after       # in the new one
    python scripts/same_outputs.py compare before after
"""

import argparse
import difflib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SPEED = re.compile(r"[\d.]+ (samples|images)/s, \d+ s left")
CHANGING = (".jsonl", ".safetensors")
"""Files with speeds in them, and with metadata whose order is drawn."""

DEMO = Path(__file__).parents[1] / "ltkit" / "data" / "demo"

CHAIN = (
    "inspect feats.h5",
    "inspect feats.h5 --json",
    "inspect resnet32.safetensors",
    "validate feats.h5",
    "neighbors feats.h5 --k 3",
    "neighbors feats.h5 --k 3 --metric cosine --json",
    "neighbors feats.h5 --k 2 --metric wordnet -o w.neighbors.h5",
    "alphanet fit feats.h5 --k 5 --rho 0.5,1 --seeds 2 --epochs 5 --device cpu",
    "alphanet fit feats.h5 --k 2 --rho 1 --epochs 3 --variant code --device cpu -o code.h5",
    "alphanet show feats.h5 feats.alphanet.h5 --rho 1 --class 99",
    "alphanet show feats.h5 code.h5 --class 99 --json",
    "alphanet sweep feats.h5 --k 2,3 --rho 0.5,1 --seeds 2 --epochs 3 --device cpu --select few"
    " --csv sweep.csv",
    "posthoc tau-norm feats.h5",
    "posthoc logit-adjust feats.h5",
    "posthoc blend feats.h5 --quiet",
    "posthoc ncm feats.h5",
    "posthoc crt feats.h5 --set epochs=2",
    "posthoc logit-adjust feats.h5 --sweep -o grid.h5",
    "posthoc logit-adjust feats.h5 --from feats.blend.h5 -o both.h5 --set tau=0.5",
    "train balanced-softmax feats.h5 --epochs 2 --device cpu -o own.h5",
    "evaluate feats.h5",
    "evaluate feats.h5 --group wordnet --json",
    "evaluate feats.h5 --classifier feats.tau-norm.h5 --per-class classes.csv --topk 1,5",
    "evaluate feats.h5 --split val --group coarse --fail-under few=0.9 --classifier both.h5",
    "compare feats.h5 feats.blend.h5 feats.logit-adjust.h5 --replicates 200",
    "compare feats.h5 feats.alphanet.h5 feats.tau-norm.h5 --against baseline --replicates 200"
    " --json --csv pairs.csv",
    "analyze distance feats.h5 feats.alphanet.h5 --csv distance.csv",
    "analyze flows feats.h5 feats.logit-adjust.h5 --json",
    "analyze deltas feats.h5 feats.alphanet.h5 --csv deltas.csv",
    "export feats.logit-adjust.h5 --into resnet32.safetensors -o fixed.safetensors",
    "export feats.blend.h5 --to npz -o head.npz",
    "export feats.tau-norm.h5 --to csv -o head.csv",
    "report feats.h5 -o report.html",
    "data list",
    "posthoc --list",
    "train --list",
    "posthoc no-such-method feats.h5",
    "evaluate none.h5",
    "posthoc ncm feats.h5",
)
"""Without ``ltkit``; the last ones are refused."""


def keep(folder: Path) -> None:
    """Run the chain in a scratch folder; keep streams, exit codes and digests in a new folder."""
    folder.mkdir(parents=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("feats.h5", "resnet32.safetensors"):
            shutil.copy(DEMO / name, scratch)
        for number, command in enumerate(CHAIN):
            done = subprocess.run(
                [sys.executable, "-m", "ltkit", *shlex.split(command)],
                cwd=scratch, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            print(f"{done.returncode} ltkit {command}", flush=True)
            said = SPEED.sub("(speed)", done.stderr)
            kept = f"$ ltkit {command}\n{done.stdout}--- stderr\n{said}--- {done.returncode}\n"
            (folder / f"{number:02}.txt").write_text(kept, encoding="utf-8")
        files = sorted(path for path in Path(scratch).iterdir() if path.suffix not in CHANGING)
        lines = [f"{_digest(path)}  {path.name}" for path in files]
    (folder / "files.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compare(before: Path, after: Path) -> int:
    """Print the differences of two kept folders; return how many files differ."""
    differ = 0
    for name in sorted({path.name for folder in (before, after) for path in folder.iterdir()}):
        old, new = ((folder / name).read_text(encoding="utf-8").splitlines()
                    if (folder / name).exists() else [] for folder in (before, after))  # fmt: skip
        if old != new:
            differ += 1
            print("\n".join(difflib.unified_diff(old, new, f"{before}/{name}", f"{after}/{name}",
                                                 lineterm="")))  # fmt: skip
    print(f"{differ} of {len(CHAIN) + 1} outputs differ")
    return differ


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("keep").add_argument("folder", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    asked = parser.parse_args()
    if asked.command == "keep":
        keep(asked.folder)
    else:
        sys.exit(min(compare(asked.before, asked.after), 1))


if __name__ == "__main__":
    main()
