"""What classifier files say of their runs, damaged with right digests, for all that reads them.

Only the checks of the values stand between such a file and the commands. Each mutant lies beside
features and a sound classifier, and must be one thing to all of them: a file that ``validate``
calls sound, and that fits the features, is read by every command; of any other each says what is
wrong with it, and a command that was not asked for it goes on without it.
"""

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from fuzzing import Target

from ltkit.files import classifiers, hdf5, strict_json
from ltkit.records import Correction
from ltkit.settings import AlphaNetSettings, as_json
from ltkit.sources.arrays import import_arrays

CLASSES, SIZE = 5, 6

RAW = (
    "NaN", "-Infinity", "1e400", "-1e400", "1" + 400 * "0", "9223372036854775808", "-0", "1e308",
    "5e-324", "0", "-1", "1", "2", "1.5", "true", "null", '""', '"x"', '"2"', '"\\ud800"',
    '"\\u0000"', '"euclidean"', '"random"', '"wordnet"', '"tanh"', '"own+neighbors"', "[]", "[1]",
    "[32, NaN]", "[[1]]", '["a", null]', "{}", '{"a": 1}', 60 * "[" + 60 * "]",
    5000 * "[" + 5000 * "]", '"' + 9000 * "y" + '"', '"<script>"', '"=cmd"', '"\\u001b[2J"', "",
    "{", "'x'", "١",
)  # fmt: skip
"""Values as text: JSON, and what some readers take for it."""

NAMES = (
    "rho", "tau", "k", "seed", "metric", "activation", "network_input", "hidden", "epochs", "note",
    "", "a" * 300, "\u00e9", "<b>", "\\ud800", "few", "target",
)  # fmt: skip

NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 1e-30, 0.0, -1.0, 1.0, 99.0)
IDS = (-1, 0, 1, 4, 5, 99, 1 << 40, -(1 << 62))
TYPES = ("<f2", "<f8", ">f4", "<i8", "<i2", "<u8", "|S3")


class Records(Target):
    """A fit of AlphaNet, in the parts that a file is written of."""

    def sound(self):
        """Two fits: of several rho, and of several seeds with another method beside."""
        rng = np.random.default_rng(0)
        arrays = {"weight": rng.normal(size=(CLASSES, SIZE)), "bias": np.zeros(CLASSES)}
        for split, counts in (
            ("train", (120, 40, 30, 6, 4)),
            ("val", (4,) * 5),
            ("test", (6,) * 5),
        ):
            labels = np.repeat(np.arange(CLASSES), counts)
            arrays[f"{split}_labels"] = labels
            arrays[f"{split}_features"] = rng.normal(size=(len(labels), SIZE)).astype(np.float32)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / "a.npz", **arrays)
            import_arrays(folder / "a.npz", folder / "feats.h5")
            digest = hdf5.header(folder / "feats.h5")["digest"]
            rows = rng.normal(size=(1, 2, SIZE)).astype(np.float32)
            beside = Correction("ridge", np.array([1, 3]), rows, rows[:, :, 0], ({"penalty": 1.0},))
            classifiers.write(
                folder / "feats.ridge.h5", beside, settings={}, inputs={"features": digest},
                command="x",
            )  # fmt: skip
            (folder / "a.npz").unlink()
            found = []
            for differs in ({"rho": 0.5}, {"seed": 1}):
                self._write(folder / "fit.h5", self._fit(rng, differs), digest)
                found.append({p.name: p.read_bytes() for p in folder.iterdir()})
        return found

    @staticmethod
    def _fit(rng, differs):
        """Return the parts of a fit: texts of runs, attributes, arrays."""
        shapes = {"weight": (2, SIZE), "bias": (2,), "extra/alpha": (2, 2)}
        shapes |= {"extra/network.0": (3, 2 * SIZE), "extra/network.1": (3,)}
        shapes |= {"extra/network.2": (2, 3), "extra/network.3": (2,)}
        arrays = {n: rng.normal(size=(2, *s)).astype(np.float32) for n, s in shapes.items()}
        arrays["class_id"] = np.array([3, 4])
        arrays["extra/neighbor"] = np.tile(np.array([[0, 1], [2, 0]]), (2, 1, 1))
        arrays["extra/epoch"] = np.array([3, 5])
        run = as_json(AlphaNetSettings()) | {"k": 2, "metric": "euclidean"}
        return {
            "runs": [json.dumps(run), json.dumps(run | differs)],
            "settings": json.dumps(run | {"bins": "20,100"}), "method": "alphanet", "normalize": 0,
            "arrays": arrays,
        }  # fmt: skip

    @staticmethod
    def _write(path, parts, digest):
        """Write them as they are, with the digest that fits."""
        runs = [run if isinstance(run, bytes) else run.encode() for run in parts["runs"]]
        arrays = {**parts["arrays"], "runs": np.array(runs, dtype=bytes if runs else "S1")}
        inputs = parts.get("inputs", json.dumps({"features": digest}))
        with mock.patch.object(strict_json, "dumps", lambda value: value):
            hdf5.write(
                path, hdf5.CLASSIFIER, arrays,
                {"/": {"method": parts["method"], "normalize_features": parts["normalize"]}},
                settings=parts["settings"], inputs=inputs, command="x",
            )  # fmt: skip

    def mutant(self, files, seeds, rng, canary):
        """Change one part or several, and write the file anew."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "f.h5"
            path.write_bytes(files["feats.h5"])
            digest = hdf5.header(path)["digest"]
            differs = {"rho": 0.5} if files is seeds[0] else {"seed": 1}
            parts = self._fit(np.random.default_rng(rng.randrange(9)), differs)
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                rng.choice(CHANGES)(parts, rng)
            try:
                self._write(path, parts, digest)
            except (TypeError, ValueError, OverflowError):  # HDF5 has no such thing
                return files, 0
            return {**files, "fit.h5": path.read_bytes()}, 0

    def read(self, watched, folder, files, note, number, **limits):
        """Let all commands read it."""
        found = watched.run("records_file", folder=folder, writes=folder, **limits)
        if found.kind == "executed":  # it was imports
            found = watched.run("records_file", folder=folder, writes=folder, **limits)
        if note is None and found.kind != "ok":
            raise ValueError(f"{self.name}: a sound one, {number}, was {found}")
        return found


def a_value(parts, rng):
    """Exchange a value of a run, or of all; as text, so that what is not JSON can stand there."""
    key, raw = rng.choice(NAMES), rng.choice(RAW)
    rows = range(len(parts["runs"])) if rng.random() < 0.6 else [rng.randrange(2)]
    for row in rows:
        if row < len(parts["runs"]) and isinstance(parts["runs"][row], str):
            parts["runs"][row] = with_value(parts["runs"][row], key, raw)


def content_of(text):
    """Return the object that a text is; None for any other."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def with_value(text, key, raw):
    """Return an object's text with a value in the place of a key's."""
    content, mark = content_of(text), "@value@"
    if content is None:
        return text
    return json.dumps(content | {key: mark}).replace(f'"{mark}"', raw)


def a_key(parts, rng):
    """Take a key away, of a run or of all, or have one twice."""
    key, twice, every = rng.choice(NAMES[:8]), rng.random() < 0.3, rng.random() < 0.5
    for row, text in enumerate(parts["runs"]):
        if not isinstance(text, str) or (row and not every):
            continue
        if twice:
            parts["runs"][row] = f'{{"{key}": {rng.choice(RAW)}, {text[1:]}'
            continue
        content = content_of(text) or {}
        content.pop(key, None)
        parts["runs"][row] = json.dumps(content)


def a_text(parts, rng):
    """Damage the text of a run or of the settings."""
    where = rng.choice(("runs", "settings"))
    text = parts["settings"] if where == "settings" else rng.choice(parts["runs"] or [""])
    if not isinstance(text, str) or not text:
        return
    at, kind = rng.randrange(len(text)), rng.randrange(5)
    new = (
        text[:at], text[at:], text[:at] + rng.choice(RAW) + text[at:],
        text[:at] + rng.choice('{}[],:"0aé\\ \0') + text[at + 1 :], rng.choice(RAW),
    )[kind]  # fmt: skip
    if where == "settings":
        parts["settings"] = new
    else:
        parts["runs"][rng.randrange(len(parts["runs"]))] = new


def the_settings(parts, rng):
    """Exchange a value of the settings."""
    key = rng.choice((*NAMES, "bins"))
    parts["settings"] = with_value(parts["settings"], key, rng.choice(RAW))


def the_inputs(parts, rng):
    """Say something else of the inputs."""
    role = rng.choice(("features", "fit", "x"))
    parts["inputs"] = rng.choice((f'{{"{role}": {rng.choice(RAW)}}}', "{}", rng.choice(RAW)))


def the_number_of_runs(parts, rng):
    """Have more or fewer runs, with their arrays or without."""
    count = rng.choice((0, 1, 3, 40))
    parts["runs"] = (parts["runs"] * 20)[:count]
    if rng.random() < 0.7:
        for name, values in parts["arrays"].items():
            if name != "class_id":
                parts["arrays"][name] = np.concatenate([values] * 20)[:count]


def other_bytes(parts, rng):
    """Put bytes that are no text into a run."""
    if parts["runs"]:
        parts["runs"][rng.randrange(len(parts["runs"]))] = rng.randbytes(rng.choice((1, 9, 200)))


def an_attribute(parts, rng):
    """Change the method's name, or whether features are normalised."""
    if rng.random() < 0.7:
        words = (
            "",
            "m" * 300,
            3,
            1.5,
            "\x1b[2J",
            "<script>",
            "größe",
            "=cmd",
            np.arange(2),
            b"\xff",
        )
        parts["method"] = rng.choice(words)
    else:
        parts["normalize"] = rng.choice((1, 2, -1, "yes", 1.0, np.nan, np.arange(2)))


def numbers(parts, rng):
    """Put numbers into an array."""
    name = rng.choice(sorted(parts["arrays"]))
    values = parts["arrays"][name] = parts["arrays"][name].copy()
    if not values.size or values.dtype.kind not in "fiu":
        return
    places = [rng.randrange(values.size)] if rng.random() < 0.6 else range(values.size)
    new = rng.choice(NUMBERS if values.dtype.kind == "f" else IDS)
    with np.errstate(all="ignore"):
        for place in places:
            values.reshape(-1)[place] = np.array(new).astype(values.dtype)


def a_shape(parts, rng):
    """Give an array another shape, or other classes and features to all."""
    name = rng.choice(sorted(parts["arrays"]))
    values, axis = parts["arrays"][name], rng.randrange(4)
    if rng.random() < 0.2:
        parts["arrays"]["weight"] = np.ones((2, 2, rng.choice((0, 1, 5, 7))), np.float32)
        return
    if axis >= values.ndim:
        parts["arrays"][name] = rng.choice((values[..., None], values.reshape(-1), values[None]))
    else:
        count = rng.choice((0, 1, values.shape[axis] + 1))
        parts["arrays"][name] = np.take(
            np.concatenate([values, values], axis=axis),
            range(min(count, 2 * values.shape[axis])),
            axis,
        )


def a_type(parts, rng):
    """Give an array another type."""
    name = rng.choice(sorted(parts["arrays"]))
    values = parts["arrays"][name]
    if values.dtype.kind == "S":  # of an earlier change
        values = values.astype(np.float64)
    with np.errstate(all="ignore"):
        parts["arrays"][name] = values.astype(rng.choice(TYPES))


def an_array(parts, rng):
    """Take an array away, rename one, or put one more there."""
    name, kind = rng.choice(sorted(parts["arrays"])), rng.randrange(3)
    new = rng.choice(
        ("extra/network.4", "extra/network.x", "extra/network", "extra/network.0/a", "extra/alpha",
         "extra/neighbor", "extra/log", "extra/a/b", "other", "extra/network.99")
    )  # fmt: skip
    if kind < 2:
        values = parts["arrays"].pop(name)
    else:
        values = np.ones(rng.choice(((2,), (2, 2), (2, 2, 2), (3,), (2, 0))), np.float32)
    if kind:
        parts["arrays"][new] = values


def the_classes(parts, rng):
    """Correct other classes."""
    ids = [rng.choice(IDS) for _ in range(rng.choice((0, 1, 2, 2, 2, 3)))]
    if rng.random() < 0.5:
        ids.sort()
    parts["arrays"]["class_id"] = np.array(ids, dtype=np.int64)


CHANGES = (
    a_value, a_value, a_value, a_value, a_key, a_text, the_settings, the_inputs,
    the_number_of_runs, other_bytes, an_attribute, numbers, numbers, a_shape, a_shape, a_type,
    an_array, the_classes,
)  # fmt: skip
