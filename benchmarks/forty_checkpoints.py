"""Forty checkpoints as people save them: five origins, eight ways, each extracted or refused.

Small networks of torchvision, timm, a module of one's own, a CIFAR ResNet and transformers, with
random weights, are saved in eight ways. Each file is given to ``ltkit extract`` first without any
option. What is refused must be refused in one line that names a way that works; that way is then
gone. In the end the features times the head must be the logits that the network itself gives for
the same pictures, prepared by its own library.

    python benchmarks/forty_checkpoints.py

It needs torchvision, timm and transformers, and writes benchmarks/results/forty_checkpoints.json,
from which docs/checkpoints.md has its table.
"""

import contextlib
import datetime
import io
import itertools
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from saved_networks import CLASSES, ORIGINS, OWN, SIDE, WAYS, Origin
from torch import Tensor, nn

from ltkit import cli
from ltkit.files import features as features_file

TARGET = Path(__file__).parent / "results" / "forty_checkpoints.json"
LONGEST = len("ltkit: ") + 300
"""Most characters of a line that refuses a file."""

SAVE_AGAIN = "torch.save(model.state_dict(), path)"

CLOSE = 1e-4
"""Greatest difference of logits, relative to the largest."""

PACKAGES = ("torch", "torchvision", "timm", "transformers", "safetensors")


def make_pictures(folder: Path) -> None:
    """Make pictures of a colour and a pattern a class, in folders."""
    rng = np.random.default_rng(0)
    for split, each in (("train", 2), ("test", 2)):
        for number, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 80, (SIDE, SIDE, 3))
                pixels[: 6 * number + 4, 4 * i :, number % 3] += 170
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")


def run(words: list[str]) -> tuple[int, str]:
    """Run the command line in this process; return its exit code and what it says on stderr."""
    before, err, out = sys.argv, io.StringIO(), io.TextIOWrapper(io.BytesIO())
    sys.argv = ["ltkit", *words]
    code = 0
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
            cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    return code, err.getvalue()


@dataclass
class Row:
    """What became of one checkpoint.

    steps: each command, and the line that refused it.
    options: what was said in the end.
    outcome: ``extracted``, ``saved again``, or ``wrong: ...``.
    difference: the greatest between features times head and the network's own logits.
    """

    origin: str
    way: str
    outcome: str = ""
    options: str = ""
    steps: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    difference: float | None = None


def row(name: str, way: str, number: int) -> Row:
    """Save a network of an origin in one way, and go the ways that the messages name."""
    torch.manual_seed(number)
    origin, found = ORIGINS[name], Row(name, way)
    model = with_statistics(origin.make())
    saved = WAYS[way](model, Path(f"model_{number}.pt"))
    if name == "transformers":
        origin.make().save_pretrained("config_folder")  # other values: those must not come out
    features = Path(f"feats_{number}.h5")
    if tried(found, origin, saved.path, features):
        found.difference = difference(features, saved.model, origin.prepare(model))
        if not found.difference <= CLOSE:
            found.outcome = f"wrong: logits differ by {found.difference:.2g}"
        elif saved.note and f"note: {saved.note}" not in found.notes:
            found.outcome = f"wrong: not said: {saved.note}"
    return found


def tried(found: Row, origin: Origin, path: Path, output: Path) -> bool:
    """Extract, and do what each refusal says, once; say whether features came out."""
    again, options = False, False
    while True:
        command = ["extract", str(path), "--data", "pics", *(origin.options if options else ())]
        command += ["-o", str(output)]
        code, said = run(command)
        found.steps.append({"command": shlex.join(["ltkit", *command])})
        if code == 0:
            found.outcome = "saved again" if again else "extracted"
            found.options = shlex.join(origin.options) if options else ""
            found.notes = [line for line in said.splitlines() if line.startswith(("note", "view"))]
            return True
        found.steps[-1]["refused"] = said.strip()
        if code != 2 or len(said.splitlines()) != 1 or len(said.strip()) > LONGEST:
            found.outcome = f"wrong: exit code {code}, {len(said)} characters"
            return False
        if SAVE_AGAIN in said and not again:
            found.steps.append({"command": SAVE_AGAIN})
            weights = torch.load(path, weights_only=False).state_dict()
            again, path = True, path.with_name(f"again_{path.name}")
            torch.save(weights, path)
        elif origin.options and origin.options[0] in said and not options:
            options = True
        else:
            found.outcome = "wrong: no way out"
            return False


@torch.no_grad()
def with_statistics(model: nn.Module) -> nn.Module:
    """Return the network with batch norm's statistics of some images, so that logits differ."""
    side = SIDE if hasattr(model, "vit") else 64
    model.train()
    for _ in range(3):
        model(torch.randn(16, 3, side, side))
    return model.eval()


@torch.inference_mode()
def difference(features: Path, model: nn.Module, prepare: Callable[[Image.Image], Tensor]) -> float:
    """Return the greatest difference of a file's logits from the network's, relative to them."""
    found, most = features_file.read(features), 0.0
    head = found.classifier()
    for name in ("train", "test"):
        split = found.split(name)
        images = [Image.open(Path("pics", str(i))).convert("RGB") for i in split.ids]
        logits = model.eval()(torch.stack([prepare(image) for image in images]))
        own = getattr(logits, "logits", logits).numpy()
        scale = max(float(np.abs(own).max()), 1.0)
        if own.std(axis=0).max() < 0.01 * scale:
            raise ValueError(f"{features}: the network gives nearly the same for all pictures")
        most = max(most, float(np.abs(head.logits(split.features[:]) - own).max()) / scale)
    return most


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """Work in a temporary folder with the pictures and one's own code."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            Path("own_net.py").write_text(OWN, encoding="utf-8")
            make_pictures(Path("pics"))
            yield
        finally:
            os.chdir(before)
            sys.path.remove(folder)
            sys.modules.pop("own_net", None)


def rows() -> Iterator[Row]:
    """Give what became of each of the forty."""
    with workplace():
        for number, (name, way) in enumerate(itertools.product(ORIGINS, WAYS)):
            yield row(name, way, number)


def main() -> int:
    """Go all ways, and write down what became of them."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = []
    for one in rows():
        found.append(vars(one))
        print(f"{one.origin:13} {one.way:50} {one.outcome} {one.options}")
        for step in one.steps:
            if "refused" in step:
                print(f"    {step['refused']}")
    versions = {name: metadata.version(name).partition("+")[0] for name in PACKAGES}
    document = {
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/forty_checkpoints.py",
        "versions": {"Python": platform.python_version(), **versions},
        "rows": found,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    TARGET.write_text(text + "\n", encoding="utf-8")
    return int(any(one["outcome"].startswith("wrong") for one in found))


if __name__ == "__main__":
    sys.exit(main())
