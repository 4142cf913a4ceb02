"""The files that arrays are in, told apart by their first bytes, and by their names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ltkit.errors import FormatError, InputError
from ltkit.files.opening import MAGIC
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import naming, npy, tables, tensors, unpacked
from ltkit.sources.arrays.stored import Stored
from ltkit.untrusted.budget import opened

WHAT = "arrays: .npz, .npy, CSV, Parquet, HDF5, safetensors or .pt"

Opened = tuple[dict[str, Stored], bool]
"""Arrays by the names in the file, and whether the file is an .npz, which holds no others."""


def arrays_of(path: Path, folder: Path, settings: ImportSettings) -> Opened:
    """Return the arrays of a file.

    Args:
        path: the file.
        folder: where copies of what cannot be read in place may go.
        settings: what is said of a table.

    Raises:
        InputError: when there is no such file, or a package that reads it is absent.
        FormatError: when it is damaged, or of no known kind.
    """
    with opened(path, WHAT) as file:
        start = file.read(512)
    _refuse_what_is_none(path, start)
    own = folder / str(len(list(folder.iterdir())))
    own.mkdir()
    kind = _kind(path, start)
    if kind in ("csv", "parquet"):
        read: Callable[..., dict[str, Stored]]
        read = tables.of_csv if kind == "csv" else tables.of_parquet
        return read(path, own, settings.label, settings.ignore), False
    if kind == "npy":
        return {"": npy.alone(path)}, False
    if kind == "hdf5":
        return unpacked.of_hdf5(path, own), False
    if kind == "safetensors":
        return tensors.of_safetensors(path), False
    if kind == "torch":
        return tensors.of_torch(path), False
    return npy.archive(path), True


def _refuse_what_is_none(path: Path, start: bytes) -> None:
    if not start:
        raise FormatError(f"{path}: is empty; make the file again")
    if start.startswith(b"version https://git-lfs"):
        raise FormatError(f"{path}: is a Git-LFS pointer; fetch the file itself with git lfs pull")


def _kind(path: Path, start: bytes) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if start.startswith(b"\x93NUMPY") and suffix != ".npz":
        return "npy"
    if start.startswith(MAGIC):
        return "hdf5"
    if start.startswith(b"PAR1") or suffix == ".parquet":
        return "parquet"
    if suffix == ".safetensors":
        return "safetensors"
    if suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        return "torch"
    if suffix in (".csv", ".tsv", ".txt"):
        return "csv"
    return "npz"


def named_arrays(
    path: Path | None,
    splits: Mapping[str, Sequence[Path]],
    head: Path | None,
    folder: Path,
    settings: ImportSettings,
    notes: list[str],
) -> dict[str, Stored]:
    """Return the arrays of all files by ltkit's names.

    Args:
        path: a file of several, or None.
        splits: the files of single splits: features and labels, or one of both.
        head: a file of weight and bias, or None.
        folder: as `arrays_of`.
        settings: how they are called, and what is said of tables.
        notes: takes what was assumed.

    Raises:
        InputError: for arrays that are not known, absent or there twice.
    """
    named = dict[str, Stored]()
    for file, keys in ((path, settings.keys), (head, {})):
        if file is None:
            continue
        found, strict = arrays_of(file, folder, settings)
        if list(found) == [""]:
            name = "weight" if file == head else None
            if name is None:
                raise InputError(
                    f"{file}: holds one array, expected features and labels; name both files with "
                    "--train X.npy,y.npy"
                )
            found[""].name = found[""].key = name
            found = {name: found[""]}
        _joined(named, naming.recognised(found, file, keys, notes, strict=strict))
    for split, files in splits.items():
        several = [arrays_of(file, folder, settings)[0] for file in files]
        _joined(named, naming.of_one_split(several, split, files))
    for name, stored in named.items():
        needed = f"{name.partition('_')[0]}_features"
        if name.endswith(("_labels", "_ids")) and needed not in named:
            raise InputError(f"{stored.where}: needs {needed}, which is absent")
    return named


def _joined(named: dict[str, Stored], more: Mapping[str, Stored]) -> None:
    for name, stored in more.items():
        if name in named:
            raise InputError(
                f"{stored.path}: {name}: found in {named[name].path} too; name it once"
            )
        named[name] = stored
