"""How each kind of file is read in the child: as a command does; a digest of all of it is printed.

Each is a function of paths that ends as a command ends, and is run by `watched`.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
from unittest import mock

import made
import numpy as np
import torch
import typer
from PIL import Image

from ltkit import architectures, records
from ltkit.cli import alphanet, analyze, app, compare, data, evaluate, export, import_, validate
from ltkit.datasets.images import ImageFiles
from ltkit.errors import FormatError, InputError, LtkitError
from ltkit.files import classifiers, features, hdf5, isolated, scratch, soundness
from ltkit.files.blocks import StoredRows
from ltkit.files.features_writer import FeaturesWriter
from ltkit.files.soundness import READERS
from ltkit.neighbors import wordnet
from ltkit.records import ImageView
from ltkit.training import beside, checkpoint

NAMES = ("cat", "dog", "größe", "tench, Tinca tinca", "4")
"""The classes of a file of groups."""

BLOCK_BYTES, COUNTS_BYTES = 256, 1 << 12
"""Bytes of a block; more where a label may stand for millions of classes, each with a count."""

COMMANDS = typer.main.get_command(app)
"""Made once: that compiles, and `watched` puts another app in the place of this one."""

RECIPE = {"arch": "digits_net", "epochs": 3}


def prepare():
    """Import what is imported on the way; have small files with many blocks."""
    Image.init()
    records.arrays.BLOCK_BYTES = BLOCK_BYTES


def show(*things):
    """Print a digest of arrays, records and what else there is."""
    digest = hashlib.sha256()

    def add(thing):
        if isinstance(thing, StoredRows):
            thing = thing[:]
        if isinstance(thing, torch.Tensor):
            thing = thing.numpy()
        if dataclasses.is_dataclass(thing):
            thing = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
        if isinstance(thing, dict):
            thing = [part for key in sorted(thing, key=str) for part in (key, thing[key])]
        if isinstance(thing, np.ndarray):
            digest.update(f"{thing.dtype} {thing.shape}".encode() + thing.tobytes())
        elif isinstance(thing, list | tuple):
            digest.update(f"{len(thing)}".encode())
            for part in thing:
                add(part)
        else:
            digest.update(repr(thing).encode())

    add(things)
    print(digest.hexdigest())


def ltkit_file(path):
    """Validate a file and read it whole."""
    validate.validate([path], isolate=False)
    contents = hdf5.read(path, *hdf5.KINDS.values())
    show(contents.settings, contents.inputs, READERS[contents.kind.name](path))


def records_file(folder):
    """Have every command read a classifier file; it must be the same to all of them.

    Its structure is sound, and takes the most time: each file is opened once for all of them.
    """
    opened, read = {}, hdf5.read

    def once(path, *kinds):
        key = path, *(kind.name for kind in kinds)
        if key not in opened:
            opened[key] = read(path, *kinds)
        return opened[key]

    with mock.patch.object(hdf5, "read", once):
        read_by_all(folder)


def read_by_all(folder):
    """Have every command read ``fit.h5`` beside ``feats.h5``."""
    feats, fit = folder / "feats.h5", folder / "fit.h5"
    found = features.read(feats)
    wrong = soundness.problems(fit)
    try:
        correction, inputs = classifiers.read(fit)
        usable = not correction.misfit(len(found.classes), found.feature_size)
        usable &= inputs.get("features") == found.digest
    except LtkitError:
        hold(wrong, "validate calls it sound")
        usable = False
    else:
        hold(not wrong, "validate calls it unsound")
    few = {"quiet": True, "json": True}
    named = {
        "evaluate": lambda: evaluate.evaluate(
            [str(feats)], classifier=[fit], replicates=100, **few
        ),
        "compare": lambda: compare.compare([str(feats), str(fit)], replicates=100, **few),
        "flows": lambda: analyze.flows([str(feats), str(fit)], by="features", k=1, **few),
        "show": lambda: alphanet.show([str(feats), str(fit)], **few),
        "export": lambda: export.export(
            fit, to="npz", output=folder / "o.npz", overwrite=True, quiet=True
        ),
    }
    said = ""
    for name, command in named.items():
        try:
            command()
        except LtkitError as error:
            asked = isinstance(error, InputError) and name in ("show", "export")
            hold(not usable or asked, f"{name}: {error}")
            said = said or str(error)
        else:
            hold(usable, f"{name} takes it")
    evaluate.evaluate([str(feats)], replicates=100, **few)  # with what can be used beside it
    try:
        alphanet.apply(fit, str(feats), of="2", output=folder / "o.h5", overwrite=True, quiet=True)
    except LtkitError as error:
        asked = isinstance(error, InputError) or "bins" in str(error)
        hold(wrong or asked, f"apply: {error}")
    else:
        hold(not wrong, "apply takes it")
        hold(not soundness.problems(folder / "o.h5"), "what apply wrote is not sound")
    if wrong or not usable:
        raise FormatError((wrong or [said])[0])


def hold(right, otherwise):
    """End with an error of this text where something is not right."""
    if not right:
        raise AssertionError(otherwise)


def resumed(folder):
    """Go on with an interrupted features file."""
    path, plan = folder / "f.h5", made.plan()
    with FeaturesWriter(path, plan, command="ltkit extract x", resume=True) as writer:
        made.append(writer, plan)
        writer.finish()
    show(path.read_bytes())


def sweep(folder):
    """Go on with an interrupted sweep."""
    with mock.patch.object(scratch.Parts, "remove"):
        alphanet.sweep(
            str(folder / "feats.h5"), k="1,2", rho="1", metric="euclidean", seeds=1, epochs=1,
            bins="20,100", device="cpu", output=folder / "out.h5", resume=True, overwrite=True,
            quiet=True, json=True,
        )  # fmt: skip
    show((folder / "out.h5").read_bytes())


def line(words, output):
    """Run a command line that writes; show what it wrote."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):  # paths are written as bytes
        COMMANDS.main(words, standalone_mode=False)
    digest = hdf5.header(output).get("digest")
    show(digest or torch.load(output, weights_only=True)["state_dict"])


def arrays(folder):
    """Import arrays, then validate and read what came of them."""
    names = folder / "names.txt"
    with mock.patch.object(records.arrays, "BLOCK_BYTES", COUNTS_BYTES):
        import_.import_(
            folder / "a.npz", names=names if names.exists() else None, output=folder / "o.h5",
            overwrite=True,
            quiet=True,
        )  # fmt: skip
        contents = features.read(folder / "o.h5")
        validate.validate([folder / "o.h5"], isolate=False)
    show(contents.splits, contents.classes, contents.head)


def said(words, folder):
    """Run a command line in a folder."""
    os.chdir(folder)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        COMMANDS.main(words, standalone_mode=False)


def imported(words, output):
    """Import files of others, then validate and read what came of them.

    Libraries read in this process what they read in one of their own otherwise, which costs a start
    of Python each time.
    """

    def here(function, path, *more, **limits):
        return function(path, *more)

    with (
        mock.patch.object(isolated, "call", here),
        mock.patch.object(records.arrays, "BLOCK_BYTES", COUNTS_BYTES),
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())),
    ):
        COMMANDS.main(words, standalone_mode=False)
        contents = features.read(output)
        validate.validate([output], isolate=False)
    show(contents.splits, contents.classes, contents.head)


def headers(folder):
    """Read features, or import arrays: the numbers, in whatever type."""
    if not (folder / "f.h5").exists():
        return arrays(folder)
    validate.validate([folder / "f.h5"], isolate=False)
    contents = features.read(folder / "f.h5")
    for name, split in sorted(contents.splits.items()):
        show(name, split.features[:].astype(np.float64), split.labels, split.ids)
    return show(contents.classes, contents.head)


def dataset(spec, root):
    """Load a dataset."""
    data.info(str(spec), root, json=True)


def picture(path):
    """Decode an image."""
    show(ImageFiles([path], ImageView(32, 28)).decode(0))


def groups(path):
    """Read groups of classes."""
    show(wordnet.read_group_file(path, NAMES))


def state():
    """What an epoch of training leaves."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build("digits_net", 5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sum(weight.sum() for weight in network.parameters()).backward()
    optimizer.step()
    return network, optimizer, torch.Generator().manual_seed(1)


def training(folder):
    """Go on with an interrupted training."""
    network, optimizer, generator = state()
    path = folder / "m.pt.partial"
    epoch = checkpoint.load_partial(path, RECIPE, network, optimizer, generator)
    show(epoch, network.state_dict(), optimizer.state_dict(), generator.get_state())
    show(beside.log_lines(folder / "m.pt.jsonl"))
