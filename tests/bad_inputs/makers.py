"""How the inputs of the catalogue are made, in the working folder.

Each function returns a maker: called with nothing, it writes files beside ``feats.h5`` (six classes
with 300 to 5 training samples, 8 features, a head) and ``m.pt`` (a digits_net of ten classes).
"""

import hashlib
import json
import os
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import payloads
import torch

from ltkit import architectures, datasets
from ltkit.files import classifiers, features, hdf5, neighbors, scratch, strict_json
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.posthoc import ncm
from ltkit.records import ClassTable, Correction, Neighbors
from ltkit.settings import AlphaNetSettings, as_json
from ltkit.sources.arrays import import_arrays
from ltkit.training import checkpoint

COUNTS = (300, 150, 60, 30, 10, 5)

Maker = Callable[[], object]


def arrays(**changes):
    """Return well-formed arrays of a small long-tailed problem; None takes one away."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    content = {"weight": centres.astype(np.float32), "bias": np.zeros(6, np.float32)}
    for split, counts in (("train", COUNTS), ("val", (10,) * 6), ("test", (20,) * 6)):
        labels = np.repeat(np.arange(6), counts)
        values = centres[labels] + rng.normal(size=(len(labels), 8))
        content |= {f"{split}_features": values.astype(np.float32), f"{split}_labels": labels}
    content |= changes
    return {name: value for name, value in content.items() if value is not None}


def nothing():
    """Make no other input."""


def several(*makers: Maker) -> Maker:
    """Run makers one after another."""
    return lambda: [make() for make in makers]


def command(line: str) -> Maker:
    """Run a command, which must end well."""

    def make() -> None:
        from typer.testing import CliRunner

        from ltkit.cli import app

        done = CliRunner().invoke(app, line.split())
        assert done.exit_code == 0, done.output

    return make


def file(name: str, content: bytes | str = b"") -> Maker:
    """Write a file."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda: Path(name).write_bytes(raw)


def folder(name: str) -> Maker:
    """Make a folder, those above it too."""
    return lambda: Path(name).mkdir(parents=True)


def gone(name: str) -> Maker:
    """Take a file away."""
    return lambda: Path(name).unlink()


def link(name: str, target: str) -> Maker:
    """Make a symbolic link."""
    return lambda: Path(name).symlink_to(target)


def variable(name: str, value: str, make: Maker) -> Maker:
    """Set a variable of the environment, which a test takes back, and run another maker."""

    def set_it():
        os.environ[name] = value
        make()

    return set_it


def npz(**changes) -> Maker:
    """Write ``bad.npz``."""
    return lambda: np.savez("bad.npz", **arrays(**changes))


def put(name: str, **changes) -> Maker:
    """Import arrays as another features file."""

    def make():
        np.savez("made.npz", **arrays(**changes))
        import_arrays(Path("made.npz"), Path(name))
        Path("made.npz").unlink()

    return make


def test_only(name: str, **changes) -> Maker:
    """Import a features file that has no other split."""
    absent = dict.fromkeys(
        f"{s}_{part}" for s in ("train", "val") for part in ("features", "labels")
    )
    return put(name, **absent, train_counts=np.array(COUNTS), **changes)


def corrected(
    name: str = "feats.ncm.h5", path: str = "feats.h5", counts: Sequence[int] = COUNTS
) -> Maker:
    """Correct a features file by its class means, as ``ltkit posthoc ncm`` does."""

    def make():
        found = features.read(Path(path))
        base, train = found.classifier(), found.split("train")
        correction = Correction.whole("ncm", ncm.fit(base, train, np.array(counts)))
        inputs = {"features": found.digest}
        classifiers.write(Path(name), correction, settings={}, inputs=inputs, command="made")

    return make


def fitted(
    name: str = "feats.alphanet.h5",
    run: dict | str | None = None,
    settings: dict | str | None = None,
    runs: int = 2,
    method: object = "alphanet",
    inputs: dict | None = None,
    **datasets,
) -> Maker:
    """Write a small file as ``ltkit alphanet fit`` does, with changes that it would not write.

    Args:
        name: of the file.
        run: what is different in every run's record, ... to take it away; or the text of the last.
        settings: in place of those of the file; or their text.
        runs: how many there are, which differ in rho.
        method: its name.
        inputs: in place of the features' digest.
        **datasets: in place of others, None takes one away; ``__`` stands for ``/``.
    """

    def make():
        rng = np.random.default_rng(0)
        shapes = {"weight": (2, 8), "bias": (2,), "extra/alpha": (2, 2)}
        shapes |= {"extra/network.0": (3, 16), "extra/network.1": (3,)}
        shapes |= {"extra/network.2": (2, 3), "extra/network.3": (2,)}
        content = {n: rng.normal(size=(runs, *s)).astype(np.float32) for n, s in shapes.items()}
        content["class_id"] = np.array([4, 5])
        content["extra/neighbor"] = np.tile(np.array([[0, 1], [2, 0]]), (runs, 1, 1))
        usual = as_json(AlphaNetSettings()) | {"k": 2, "metric": "euclidean"}
        records = [usual | {"rho": 1.0 + number} for number in range(runs)]
        if isinstance(run, dict):
            records = [{k: v for k, v in (r | run).items() if v is not ...} for r in records]
        texts = [json.dumps(record) for record in records]
        if isinstance(run, str):
            texts[-1] = run
        content["runs"] = np.array([text.encode() for text in texts], dtype=bytes)
        content |= {name.replace("__", "/"): values for name, values in datasets.items()}
        content = {name: values for name, values in content.items() if values is not None}
        digest = hdf5.header(Path("feats.h5"))["digest"]
        with mock.patch.object(
            strict_json, "dumps", lambda v: v if isinstance(v, str) else json.dumps(v)
        ):
            hdf5.write(
                Path(name), hdf5.CLASSIFIER, content,
                {"/": {"method": method, "normalize_features": 0}},
                settings={"bins": "20,100"} if settings is None else settings,
                inputs={"features": digest} if inputs is None else inputs, command="made",
            )  # fmt: skip

    return make


def neighbors_file(name: str) -> Maker:
    """Write a neighbours file."""
    near = Neighbors(np.array([4]), np.array([[0, 1]]), np.ones((1, 2), np.float32))
    return lambda: neighbors.write(Path(name), near, settings={}, inputs={}, command="made")


def changed(change: Callable[[bytearray], bytes], name: str = "feats.h5") -> Maker:
    """Change the bytes of a file."""
    return lambda: Path(name).write_bytes(change(bytearray(Path(name).read_bytes())))


def flipped(content: bytearray) -> bytearray:
    """Flip one bit of the test features."""
    at = content.find(arrays()["test_features"].tobytes()[:64])
    content[at + 400] ^= 1
    return content


def opened(change: Callable[[h5py.File], object], name: str = "feats.h5") -> Maker:
    """Change a file through h5py."""

    def make():
        with h5py.File(name, "r+") as content:
            change(content)

    return make


def attribute(key: str, value: object) -> Maker:
    """Set a root attribute of feats.h5, or take it away with None."""
    return opened(lambda f: f.attrs.pop(key) if value is None else f.attrs.create(key, value))


def instead(name: str, how: str) -> Maker:
    """Put something else in the place of a dataset of feats.h5."""

    def change(f):
        values = f[name][...]
        del f[name]
        if how == "link":
            f[name] = h5py.ExternalLink("other.h5", "/x")
        elif how == "soft link":
            f[name] = h5py.SoftLink("/train/labels")
        elif how == "storage":
            f.create_dataset(name, values.shape, values.dtype, external=[("raw.bin", 0, 1 << 20)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[...] = h5py.VirtualSource("other.h5", "x", values.shape)
            f.create_virtual_dataset(name, layout)
        elif how == "bomb":
            f.create_dataset(
                name, (1 << 40, 8), np.float32, chunks=(1 << 20, 8), compression="gzip"
            )
        elif how == "complex":
            f.create_dataset(name, data=values.astype(complex))
        elif how == "text":
            f.create_dataset(name, data=np.array(["a"] * len(values), dtype=object))
        elif how == "group":
            f.create_group(name)

    return opened(change)


def scalar_head(name: str, value: object) -> Maker:
    """Change an attribute of the head, with a digest that fits, so that only the check sees it."""

    def make():
        contents = hdf5.read(Path("feats.h5"), hdf5.FEATURES)
        attributes = {"head": {**contents.attributes["head"], name: value}}
        stored = {key: rows[:] for key, rows in contents.datasets.items()}
        hdf5.write(Path("bad.h5"), hdf5.FEATURES, stored, attributes,
                   settings={}, inputs={}, command="made")  # fmt: skip

    return make


def unfinished(name: str) -> Maker:
    """Leave what an interrupted run with other inputs leaves."""

    def make():
        split = SplitPlan(np.zeros(3, np.int64), None)
        plan = Plan(8, "float32", {"train": split}, ClassTable(np.array([3])),
                             None, {})  # fmt: skip
        FeaturesWriter(Path(name), plan, command="made", resume=False).close()

    return make


def network(num_classes: int = 10, arch: str = "digits_net"):
    """Return a network with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build(arch, num_classes, cosine=False, scale=1.0)


def native(name: str, num_classes: int = 10, **changes) -> Maker:
    """Write a checkpoint as ``ltkit train`` does; entries changed, None takes one away."""

    def make():
        recipe = {"arch": "digits_net", "cosine": False, "scale": 1.0, "dataset": {}}
        checkpoint.save(Path(name), recipe, 1, network(num_classes), datasets.load("digits_lt"))
        if changes:
            content = torch.load(name, weights_only=True) | changes
            torch.save({k: v for k, v in content.items() if v is not None}, name)

    return make


def weights(change: Callable[[dict], object] = lambda state: None, arch: str = "digits_net",
            num_classes: int = 10) -> Maker:  # fmt: skip
    """Write the bare weights of a network to ``bad.pt``, changed."""

    def make():
        state = {
            name: value.clone() for name, value in network(num_classes, arch).state_dict().items()
        }
        state = change(state) or state
        torch.save(state, "bad.pt")

    return make


def filled(name: str, value: float) -> Callable[[dict], object]:
    """Set the first value of a tensor."""
    return lambda state: state[name].view(-1)[:1].fill_(value) and None


def saved(content: object) -> Maker:
    """Write anything to ``bad.pt`` with torch."""
    return lambda: torch.save(content() if callable(content) else content, "bad.pt")


def with_namespace():
    """Return a checkpoint that has its training options in an object."""
    return torch.load("m.pt", weights_only=True) | {"args": Namespace(lr=0.1)}


def scripted():
    """Write a TorchScript program to ``bad.pt``."""
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        traced = torch.jit.trace(network().eval(), torch.zeros(1, 1, 8, 8))
        torch.jit.save(traced, "bad.pt")


def hostile():
    """Write a pickle that would make the file ``owned``."""
    call = payloads.call(payloads.OS_SYSTEM, payloads.text("touch owned"))
    torch.save({"state_dict": {}, "mark": "@@@@@"}, "bad.pt")
    with zipfile.ZipFile("bad.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile("bad.pt", "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member.replace(payloads.text("@@@@@"), call))


def pipe(name: str) -> Maker:
    """Make a pipe that nobody writes to, in the place of what is there."""

    def make():
        Path(name).unlink(missing_ok=True)
        os.mkfifo(name)

    return make


def lightning(count: int) -> Maker:
    """Write a small file of Lightning's with so many attributes, of ten numbers each."""

    def make():
        state = {f"a{i}.b{j}": torch.zeros(()) for i in range(count) for j in range(10)}
        torch.save({"pytorch-lightning_version": "2.0.0", "state_dict": state}, "bad.pt")

    return make


def scaled(factor: float) -> Maker:
    """Write ``bad.npz`` with features so many times as large."""
    names = [f"{s}_features" for s in ("train", "val", "test")]
    return lambda: npz(**{n: arrays()[n].astype(float) * factor for n in names})()


def lock(name: str, content: str | None) -> Maker:
    """Put something under the name of the lock of an output: a file, or a link to feats.h5."""
    path = Path(f".ltkit-lock-{hashlib.sha256(name.encode()).hexdigest()[:16]}")
    return file(str(path), content) if content is not None else link(str(path), "feats.h5")


def parts(name: str) -> Maker:
    """Leave a finished fit of an interrupted sweep."""

    def make() -> None:
        run = {"seed": 5}
        kept = scratch.Parts(Path(name), run, resume=False)
        kept.begin()
        weight, bias = np.zeros((1, 1, 8), np.float32), np.zeros((1, 1), np.float32)
        fit = Correction("alphanet", np.array([5]), weight, bias, ({"rho": 1.0, "seed": 5},))
        classifiers.write(kept.path("euclidean-2"), fit, settings=run, inputs={}, command="")

    return make
