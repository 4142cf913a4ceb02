"""``ltkit demo``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output

STEPS: tuple[tuple[str, str], ...] = (
    (
        "ltkit inspect feats.h5",
        "A ResNet-32 trained with cross-entropy on CIFAR-100-LT (imbalance 100): features, head,"
        "\nand how many classes are rare. From here on neither images nor backbone are needed.",
    ),
    (
        "ltkit neighbors feats.h5 --k 3",
        "Each rare class with the frequent classes whose mean features are nearest."
        "\nRare classes tend to be mistaken for them.",
    ),
    (
        "ltkit alphanet fit feats.h5 --k 5 --rho 0.5,1,1.5 --seeds 10",
        "AlphaNet learns to add a little of the neighbours to each rare classifier."
        "\nThirty runs are fitted at once; rho sets how many frequent samples they learn from.",
    ),
    (
        "ltkit posthoc tau-norm feats.h5",
        "Rows divided by a power of their norm; tau is chosen on the validation split."
        "\nRare classes have short rows, so this lifts them.",
    ),
    (
        "ltkit posthoc logit-adjust feats.h5",
        "The log of the training frequency is subtracted, times a tau chosen on validation data."
        "\nOne line of arithmetic, and hard to beat.",
    ),
    (
        "ltkit posthoc blend feats.h5",
        "The head blended with one fitted to class-balanced features, and adjusted."
        "\nThe two err on different images, so the blend errs less than either.",
    ),
    (
        "ltkit posthoc alphanet-plus feats.h5",
        "AlphaNet's idea on the blend, without a network: each rare class is lent a part of the"
        "\nrows it is mistaken for. At equal overall accuracy rare classes gain most by it.",
    ),
    (
        "ltkit evaluate feats.h5 --group wordnet",
        "Everything side by side on the test split, with 95 % intervals and the gain over the"
        "\nbaseline. The lower part also counts a prediction that is near the truth in WordNet.",
    ),
    (
        "ltkit report feats.h5 -o report.html",
        "The same as one page with figures: classes, confusions, the trade-off, calibration."
        "\nIt opens in any browser, offline.",
    ),
)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to work in.")] = Path(
        "ltkit-demo"
    ),
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Run the whole workflow on bundled real features: no download, under a minute.

    Example: ltkit demo
    """
    import contextlib
    import os
    from importlib import resources

    from ltkit.cli import app
    from ltkit.errors import InputError
    from ltkit.files.atomic import check_output, write_bytes

    bundled = resources.files("ltkit") / "data" / "demo"
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, expected a folder to work in; choose another -o")
    output.mkdir(exist_ok=True)
    stale = [p for p in output.glob("feats.*.h5") if not overwrite]
    if stale:
        raise InputError(
            f"{stale[0]}: exists; pass --overwrite to replace it, or choose another -o"
        )
    for name in ("feats.h5", "resnet32.safetensors"):
        check_output(output / name, overwrite=overwrite)
        write_bytes(output / name, (bundled / name).read_bytes())
    _output.say(f"in {output}:", quiet)
    with contextlib.chdir(output):
        os.environ.pop("LTKIT_FEATURES", None)
        for command, explained in STEPS:
            typer.echo(f"\n$ {command}\n{explained}\n")
            words = [*shlex.split(command)[1:], *_flags(command, overwrite)]
            app(words, standalone_mode=False)
    typer.echo(
        f"\nThe files are in {output}; open {output / 'report.html'} in a browser. docs/ and "
        "ltkit --help describe the rest."
    )


def _flags(command: str, overwrite: bool) -> list[str]:
    writes = any(word in command.split() for word in ("fit", "posthoc", "report"))
    return ["--overwrite"] if overwrite and writes else []
