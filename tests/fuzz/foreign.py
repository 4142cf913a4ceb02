"""Sound files of other programs for `import`, in every form that it reads, and damage to each.

A kind is a command line and the files that it names. Rows are few, so that a mutant is quick.
"""

import io

import h5py
import numpy as np
import torch
from damage import exchange, mutate_pickle, mutate_zip
from safetensors.numpy import save as save_safetensors

PAIRS = ["--train", "x.npy,y.npy", "--test", "v.npy,w.npy"]
WORDS = {
    "npz": ["a.npz"],
    "npy": [*PAIRS, "--head", "h.npz"],
    "csv": ["--train", "a.csv", "--test", "b.csv"],
    "parquet": ["--train", "a.parquet", "--test", "b.parquet"],
    "hdf5": ["a.h5"],
    "safetensors": ["a.safetensors"],
    "pt": ["a.pt"],
    "scores": ["a.npz"],
    "texts": [*PAIRS, "--text-features", "t.npy"],
}
"""Each kind's arguments of ``ltkit import``; words with a dot are names of files."""


SPLITS = ("train", "test")


def arrays(labels=None):
    """Return features and labels of two splits, of six classes, and a head."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 8)).astype(np.float32)
    found = {"weight": centres, "bias": np.linspace(-1, 1, 6, dtype=np.float32)}
    for split, counts in (("train", (12, 9, 7, 4, 3, 2)), ("test", (2,) * 6)):
        y = np.repeat(np.arange(6), counts)
        x = (centres[y] + rng.normal(size=(len(y), 8))).astype(np.float32)
        found |= {f"{split}_features": x, f"{split}_labels": y if labels is None else labels[y]}
    return found


def npy(values):
    """Return an array's file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(values):
    """Return an archive of arrays."""
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def pairs(found):
    """Return an array a file."""
    names = ("train_features", "train_labels", "test_features", "test_labels")
    return {f"{f}.npy": npy(found[n]) for f, n in zip("xyvw", names, strict=True)}


def rows(found, split):
    """Return a table's columns: numbers, and labels."""
    x, y = found[f"{split}_features"], found[f"{split}_labels"]
    return {f"f{i}": column for i, column in enumerate(x.T)} | {"label": y}


def csv(columns):
    """Return a table as text."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(),
                                                                         strict=True))]  # fmt: skip
    return "\n".join(lines).encode() + b"\n"


def parquet(columns):
    """Return a table of Parquet."""
    import pyarrow
    from pyarrow import parquet as writer

    file = io.BytesIO()
    writer.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def hdf5(found, **how):
    """Return groups and datasets as other programs write them."""
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, values in found.items():
            out.create_dataset(name.replace("_", "/", 1), data=values, **how)
    return file.getvalue()


def saved(found):
    """Return tensors in torch's file."""
    file = io.BytesIO()
    torch.save({name: torch.from_numpy(values) for name, values in found.items()}, file)
    return file.getvalue()


def scores(found):
    """Return probabilities of classes as features, without a head."""
    out = {}
    for split in ("train", "test"):
        x = found[f"{split}_features"] @ found["weight"].T
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        out[f"{split}_features"] = powers / powers.sum(axis=1, keepdims=True)
        out[f"{split}_labels"] = found[f"{split}_labels"]
    return out


def sound(kind):
    """Return sound files of a kind, each as names of files to their bytes."""
    found, names = arrays(), np.array(["ant", "bee", "größe", "d", "e e", "f"])
    named = arrays(names)
    head = npz({"coef_": found["weight"], "intercept_": found["bias"]})
    match kind:
        case "npz":
            wild = {"X_train": found["train_features"], "y_train": named["train_labels"]}
            return [{"a.npz": npz(found)}, {"a.npz": npz(wild | {"coef_": found["weight"].T})}]
        case "npy":
            return [pairs(found) | {"h.npz": head}, pairs(named) | {"h.npz": head}]
        case "csv":
            return [{f"{f}.csv": csv(rows(of, s)) for f, s in zip("ab", SPLITS, strict=True)}
                    for of in (found, named)]  # fmt: skip
        case "parquet":
            return [{f"{f}.parquet": parquet(rows(of, split))
                     for f, split in zip("ab", SPLITS, strict=True)}
                    for of in (found, named)]  # fmt: skip
        case "hdf5":
            return [{"a.h5": hdf5(found)}, {"a.h5": hdf5(found, chunks=True, compression="gzip")}]
        case "safetensors":
            return [{"a.safetensors": save_safetensors(found)}]
        case "pt":
            return [{"a.pt": saved(found)}]
        case "scores":
            out = scores(found)
            logits = {n: np.log(v) if n.endswith("features") else v for n, v in out.items()}
            return [{"a.npz": npz(out)}, {"a.npz": npz(logits)}]
    return [pairs(found) | {"t.npy": npy(found["weight"])}]


STRANGE = (
    lambda rng: np.full(37, np.nan), lambda rng: np.full(37, 1e300), lambda rng: np.arange(37) % 6,
    lambda rng: np.arange(37) + 2**62, lambda rng: np.array(["x" * 9000] * 37, object),
    lambda rng: [None] * 37, lambda rng: [b"\xff"] * 37, lambda rng: [True] * 37,
    lambda rng: [[1.0, 2.0]] * 37, lambda rng: [[1.0] * (i % 3) for i in range(37)],
    lambda rng: np.arange(37).astype("M8[s]"), lambda rng: [{"a": 1}] * 37,
    lambda rng: rng.choice(([0.5], [-1], ["\ud7ff"], [1e-50])) * 37,
)  # fmt: skip


def table(rng):
    """Return a Parquet table with a column of another kind."""
    columns = dict(rows(arrays(), "train"))
    name = rng.choice((*columns, "more", ""))
    try:
        return parquet(columns | {name: rng.choice(STRANGE)(rng)})
    except (TypeError, ValueError, NotImplementedError):  # that, pyarrow cannot write
        return parquet(columns | {name: [None] * 37})


def pickled(raw, rng, canary):
    """Damage torch's file: its zip, its pickle, or what was saved."""
    kind = rng.randrange(3)
    if kind == 0:
        return mutate_zip(raw, rng, canary)
    if kind == 1:
        file = io.BytesIO()
        torch.save(torch.load(io.BytesIO(raw), weights_only=True), file,
                   _use_new_zipfile_serialization=False)  # fmt: skip
        return mutate_pickle(file.getvalue(), rng, canary)
    file = io.BytesIO()
    held = {n: t.tolist() for n, t in torch.load(io.BytesIO(raw), weights_only=True).items()}
    strange = (torch.zeros(0), torch.zeros(3, 4), torch.tensor(1e-50, dtype=torch.float64),
               torch.full((37, 8), torch.nan), torch.zeros(37, 8, dtype=torch.complex64), "x", None,
               -1, 1e400, [], {})  # fmt: skip
    torch.save(exchange(held, rng, lambda rng: rng.choice(strange)), file)
    return file.getvalue()
