"""Parquet tables of other programs, their columns in plain .npy files; the other door to pyarrow.

Called in a child process (`ltkit.files.isolated`): its limits hold for what a file unpacks to.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.untrusted.texts import in_array

ROWS = 1024
"""Of a batch."""


def columns(path: Path) -> dict[str, Any]:
    """Return the number of rows, and name and kind of each column: number, text, list or other.

    Raises:
        InputError: when pyarrow is not installed.
        FormatError: when the file is no sound Parquet.
    """
    file, arrow = _opened(path)
    kinds = {}
    for field in file.schema_arrow:
        kind = field.type
        inner = getattr(kind, "value_type", None)
        if arrow.types.is_dictionary(kind):
            kind, inner = kind.value_type, None
        number = arrow.types.is_integer(kind) or arrow.types.is_floating(kind)
        text = arrow.types.is_string(kind) or arrow.types.is_large_string(kind)
        listed = inner is not None and (
            arrow.types.is_floating(inner) or arrow.types.is_integer(inner)
        )
        kinds[field.name] = (
            "number" if number else "text" if text else "list" if listed else "other"
        )  # fmt: skip
    return {"rows": file.metadata.num_rows, "columns": kinds}


def copy(path: Path, names: list[str], kind: str, target: str) -> list[int]:
    """Write columns into an .npy file: numbers side by side, a list a row, or texts.

    Returns:
        The shape of what was written.

    Raises:
        InputError: for a row without a value, or lists of several lengths.
        FormatError: when the file is damaged.
    """
    file, arrow = _opened(path)
    try:
        batches = file.iter_batches(ROWS, columns=names, use_threads=False)
        parts = _stacked(path, batches, names, kind)
        if kind == "text":
            texts = [text for part in parts for text in part]
            np.save(target, in_array(texts, str(path)))
            return [len(texts)]
        return _write(target, parts, file.metadata.num_rows)
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _write(target: str, parts: Iterator[NDArray[Any]], rows: int) -> list[int]:
    """Write blocks of rows one after the other into an .npy file."""
    first = next(parts, np.zeros((0, 1)))
    shape = (rows, *first.shape[1:])
    with Path(target).open("wb") as out:
        descr = np.lib.format.dtype_to_descr(first.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(out, header)
        for part in chain([first], parts):
            out.write(np.ascontiguousarray(part, first.dtype).tobytes())
    return list(shape)


def _stacked(
    path: Path, batches: Iterable[Any], names: list[str], kind: str
) -> Iterator[NDArray[Any]]:
    """Yield the values of batches of rows, columns side by side; lists have one length."""
    done, width = 0, -1
    for batch in batches:
        parts = [_values(path, batch, name, kind, done) for name in names]
        values = parts[0] if len(parts) == 1 else np.stack(parts, axis=1).astype(np.float64)
        if values.ndim > 1 and values.shape[1] != (
            width := values.shape[1] if done == 0 else width
        ):
            raise InputError(
                f"{path}: {names[0]}: row {done}: found lists of {values.shape[1]} values after "
                f"{width}, expected one length"
            )
        done += len(batch)
        yield values


def _values(path: Path, batch: Any, name: str, kind: str, done: int) -> NDArray[Any]:
    column = batch.column(batch.schema.get_field_index(name))
    if column.null_count:
        row = done + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"{path}: {name}: row {row}: found no value, expected one; fill it in")
    if kind == "text":
        return np.array([str(value) for value in column.to_pylist()], object)
    if kind == "list":
        return _lists(path, column, name, done)
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _lists(path: Path, column: Any, name: str, done: int) -> NDArray[Any]:
    lengths = np.array([len(row) for row in column])
    if len(lengths) and (lengths != lengths[0]).any():
        row = done + int((lengths != lengths[0]).argmax())
        raise InputError(
            f"{path}: {name}: row {row}: found a list of another length, expected {lengths[0]}"
        )
    flat = column.flatten()
    if flat.null_count:
        raise InputError(f"{path}: {name}: found lists without some values, expected all of them")
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values.reshape(len(lengths), -1)


def _opened(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path}: Parquet is read by pyarrow, which is not installed; pip install "
            "'ltkit[parquet]', or save it as CSV or .npz"
        ) from error
    arrow.set_memory_pool(arrow.system_memory_pool())
    arrow.set_cpu_count(1)
    try:
        return parquet.ParquetFile(path, pre_buffer=False), arrow
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> FormatError:
    said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return FormatError(f"{path}: not sound Parquet ({said}); write it again, or as .npz")
