"""Files that `import` reads of other programs: how they are read and damaged; see `foreign`."""

import re
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import foreign
import h5py
from array_files import craft_array
from damage import members, mutate_safetensors, zipped
from damage_hdf5 import CRAFTS, any_dataset
from own_files import isolated
from plain_target import Plain, bytes_damaged, text_damaged

from ltkit.files import hdf5


class Foreign(Plain):
    """Arrays and tables of other programs; all kinds together have a reader's mutants."""

    share = 1 / len(foreign.WORDS)
    own_words = re.compile(r"H5\w+: ")

    def sound(self):
        """See `foreign`."""
        return foreign.sound(self.kind)

    @property
    def kind(self):
        """The form of the files."""
        return self.name.removeprefix("import-")

    def command(self, folder, files):
        """Import them."""
        words = [
            ",".join(str(folder / name) for name in word.split(",")) if "." in word else word
            for word in foreign.WORDS[self.kind]
        ]
        output = folder / "o.hdf5"
        more = ["-o", str(output), "--overwrite", "--quiet"]
        return "imported", {"words": ["import", *words, *more], "output": output}

    def read(self, watched, folder, files, note, number, **limits):
        """Where it hangs or crashes the library, read it as a user does, in its own process."""
        found = super().read(watched, folder, files, note, number, **limits)
        if found.kind in ("hang", "crash") and self.kind in ("hdf5", "parquet"):
            return isolated(*self.command(folder, files)[1]["words"], sound="ok")
        return found

    def damage(self, name, raw, others, rng, canary):
        """Damage bytes, or what such a file is made of."""
        if rng.random() < 0.4:
            return bytes_damaged(raw, others, rng), False
        match name.rpartition(".")[2]:
            case "csv":
                return text_damaged(raw, rng), False
            case "npy":
                return craft_array(name, raw, rng, canary), False
            case "npz":
                entries = members(raw)
                at = rng.randrange(len(entries))
                entries[at] = entries[at][0], craft_array(*entries[at], rng, canary)
                return zipped(entries), False
            case "safetensors":
                return mutate_safetensors(raw, rng), False
            case "pt":
                return foreign.pickled(raw, rng, canary), False
            case "parquet":
                return foreign.table(rng), False
        return crafted(raw, rng), False


def crafted(raw, rng):
    """Change a file of HDF5 with the library."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        path.write_bytes(raw)
        try:
            with (
                warnings.catch_warnings(action="ignore"),
                mock.patch("sys.unraisablehook"),
                h5py.File(path, "r+") as file,
            ):
                name = any_dataset(file, rng)
                if name is not None:
                    rng.choice(CRAFTS)(file, name, rng)
        except (*hdf5.DAMAGED, KeyError):
            return raw  # this change cannot be made here
        return path.read_bytes()
