"""``ltkit import``."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from ltkit.cli import _options, _output
from ltkit.settings import ImportSettings, RowsOf, Scores, Stored

Arrays = Annotated[
    Path | None,
    typer.Argument(metavar="[ARRAYS]", help="File with the arrays; see below.", show_default=False),
]
Train = Annotated[
    str | None,
    typer.Option(
        metavar="X[,Y]",
        help="Files of the training split: features and labels, or one with both.",
        show_default=False,
    ),
]
Val = Annotated[
    str | None,
    typer.Option(metavar="X[,Y]", help="Likewise, of the validation split.", show_default=False),
]
Test = Annotated[
    str | None,
    typer.Option(metavar="X[,Y]", help="Likewise, of the test split.", show_default=False),
]
HeadFile = Annotated[
    Path | None,
    typer.Option("--head", help="File with the last layer's weight and bias.", show_default=False),
]
TextFeatures = Annotated[
    Path | None,
    typer.Option(
        help="File with an embedding of each class (C, D): a cosine head, the zero-shot one.",
        show_default=False,
    ),
]
Scale = Annotated[float, _options.setting("scale", "Scale of that cosine head.")]
Names = Annotated[
    Path | None, typer.Option(help="Text file with a class name a line.", show_default=False)
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=KEY",
        help="What an array is called in the file, as train_features=emb/train; may be repeated.",
        show_default=False,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="The column of labels in a table. Default: the one called label, target, class or y.",
        show_default=False,
    ),
]
Ignore = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Columns of a table that are left out.", show_default=False
    ),
]  # fmt: skip
What = Annotated[
    Scores,
    typer.Option(
        help="What features without a head are that are as many as the classes; auto takes the log "
        "of probabilities, and others as logits."
    ),
]
FirstLabel = Annotated[
    int | None,
    _options.setting(
        "first_label", "What labels count from. Default: as they look.", show_default=False
    ),
]
WeightRows = Annotated[
    RowsOf | None,
    typer.Option(help="What a square weight has a row for.", show_default=False),
]
Dtype = Annotated[str, typer.Option(help="float32 or float16.")]


def import_(
    arrays: Arrays = None,
    train: Train = None,
    val: Val = None,
    test: Test = None,
    head: HeadFile = None,
    text_features: TextFeatures = None,
    scale: Scale = ImportSettings.scale,
    names: Names = None,
    keys: Keys = None,
    label: Label = None,
    ignore: Ignore = None,
    scores: What = ImportSettings.scores,
    first_label: FirstLabel = None,
    weight_rows: WeightRows = None,
    bins: _options.StoredBins = None,
    output: _options.Output = None,
    dtype: Dtype = ImportSettings.dtype,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write features made elsewhere into a features file; no images are needed.

    Reads .npz, .npy, CSV, Parquet, HDF5, safetensors and .pt. Names in the file: train_features
    (N, D), train_labels (N,), likewise val_ and test_, or X_train, y_train, emb/train; weight
    (C, D), bias (C,), or coef_, intercept_; optional train_ids, class_names, wnids, train_counts.

    Example: ltkit import arrays.npz -o feats.h5

    Example: ltkit import --train x.npy,y.npy --test xt.npy,yt.npy --text-features classes.npy
    """
    from ltkit.errors import InputError
    from ltkit.files.atomic import check_output
    from ltkit.sources.arrays import import_arrays, read_names

    splits = {
        split: [Path(word) for word in _options.words(text, f"--{split}")]
        for split, text in (("train", train), ("val", val), ("test", test))
        if text is not None
    }
    files = [file for several in splits.values() for file in several]
    files = files if arrays is None else [arrays, *files]
    if not files:
        raise InputError("ARRAYS: absent, expected a file with arrays, or --train X.npy,y.npy")
    output = output or files[0].parent / f"{files[0].stem}.h5"
    settings = ImportSettings(
        dtype=cast(Stored, _options.one_of(dtype, get_args(Stored), "--dtype")), scores=scores,
        first_label=first_label, weight_rows=weight_rows, scale=scale,
        keys=dict(_options.pairs(keys or [], "--keys", "NAME=KEY")), label=label,
        ignore=tuple(_options.words(ignore, "--ignore")) if ignore else (),
        bins=_options.stored_bins(bins),
    )  # fmt: skip
    beside = [file for file in (head, text_features, names) if file is not None]
    check_output(output, overwrite=overwrite, inputs=(*files, *beside))
    _, notes = import_arrays(
        arrays, output, splits=splits, head=head, text_features=text_features,
        names=None if names is None else read_names(names), settings=settings,
        command=_output.command_line(),
    )  # fmt: skip
    for note in notes:
        _output.say(f"note: {note}", quiet)
    _output.wrote(output, quiet)
