"""``ltkit ensemble``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _inputs, _options, _output

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FEATS FEATS...", help="Features files of two networks or more."),
]
Out = Annotated[Path, typer.Option("--output", "-o", help="Output file.")]


def ensemble(
    files: Files,
    output: Out = Path("ensemble.h5"),
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write several networks as one features file: logits are the mean of theirs.

    Features stand side by side, each divided by its norm where its head does that; the head has an
    expert for each network, where all are equally wide. evaluate shows it as one row; posthoc and
    alphanet correct it as any other. Splits whose samples all networks have in common are kept;
    training counts are those of the first. A network with larger logits counts for more.

    Example: ltkit ensemble ce.h5 swrm.h5 -o both.h5

    Example: ltkit compare ce.h5 swrm.h5 both.h5
    """
    from ltkit.evaluation import networks
    from ltkit.evaluation.ensemble import write_ensemble
    from ltkit.files.atomic import check_output

    check_output(output, overwrite=overwrite, inputs=tuple(files))
    read = networks.named([_inputs.read_features(file, None, quiet) for file in files])
    progress = _output.Progress("rows", quiet, after=1.0)
    left = write_ensemble(read, output, command=_output.command_line(), report=progress)
    if left:
        _output.say(f"note: the networks have other samples in {', '.join(left)}: left out", quiet)
    _output.wrote(output, quiet)
