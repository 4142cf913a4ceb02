"""``ltkit import``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output


def import_(
    arrays: Annotated[
        Path, typer.Argument(metavar="ARRAYS.npz", help="Archive of arrays; see below.")
    ],
    names: Annotated[
        Path | None,
        typer.Option(help="Text file with one class name per line.", show_default=False),
    ] = None,
    output: _options.Output = None,
    dtype: Annotated[str, typer.Option(help="Stored type: float32 or float16.")] = "float32",
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write features made elsewhere into a features file; no images are needed.

    Keys of the archive: train_features (N, D), train_labels (N,), likewise val_ and test_;
    weight (C, D), bias (C,); optional train_ids, class_names, wnids, train_counts.

    Example: ltkit import arrays.npz -o feats.h5
    """
    from ltkit.files.atomic import check_output
    from ltkit.sources.arrays import import_arrays, read_names

    output = output or arrays.parent / f"{arrays.stem}.h5"
    _options.one_of(dtype, ("float32", "float16"), "--dtype")
    check_output(output, overwrite=overwrite, inputs=(arrays,))
    _, notes = import_arrays(
        arrays, output, names=None if names is None else read_names(names), dtype=dtype,
        command=_output.command_line(),
    )  # fmt: skip
    for note in notes:
        _output.say(note, quiet)
    _output.wrote(output, quiet)
