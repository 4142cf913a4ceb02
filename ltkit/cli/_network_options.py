"""The options about a network and the view of its images, which several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli._options import setting
from ltkit.settings import Fit, Interpolation, Weights

Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture, if the file does not name it; library:name for another library's.",
        show_default=False,
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option("--head", help="Name of the last layer in the file.", show_default=False),
]
WeightsKind = Annotated[
    Weights | None,
    typer.Option(help="Weights to use, if the file has several.", show_default=False),
]
Scale = Annotated[float | None, setting("scale", "Scale of a cosine head.", show_default=False)]
Linear = Annotated[bool, typer.Option("--linear", help="Treat a head without a bias as linear.")]
BaseModel = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The network that a LoRA adapter changes.", show_default=False
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Run the program in a TorchScript or torch.export file."),
]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PKG.MODULE:NAME",
        help="Your own class or function that builds the network; this runs your code.",
        show_default=False,
    ),
]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg", metavar="NAME=VALUE", help="An argument of --model; may be repeated."
    ),
]
Transform = Annotated[
    str | None,
    typer.Option(
        metavar="PKG.MODULE:NAME",
        help="Your own function from a PIL image to the tensor the network gets; this runs your "
        "code.",
        show_default=False,
    ),
]
ClassOrder = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="The names of the classes in the order of the head, one per line.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    setting("image_size", "Pixels of a side that the network gets.", show_default=False),
]
Resize = Annotated[
    int | None,
    setting("resize", "Pixels that the shorter side is scaled to.", show_default=False),
]
Crop = Annotated[
    int | None,
    setting("crop", "Pixels of a side that are cut out of the centre.", show_default=False),
]
FitKind = Annotated[
    Fit | None,
    typer.Option(
        "--fit",
        help="How a picture becomes square: crop takes its centre, squeeze changes its "
        "proportions, pad adds black bars.",
        show_default=False,
    ),
]
InterpolationKind = Annotated[
    Interpolation | None,
    typer.Option("--interpolation", help="How a picture is scaled.", show_default=False),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="Values that become black and white, of pictures with more than 8 bits.",
        show_default=False,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Channel means of pixel values in 0..1, e.g. 0.485,0.456,0.406.", show_default=False
    ),
]
Std = Annotated[
    str | None,
    typer.Option(help="Channel standard deviations of pixel values in 0..1.", show_default=False),
]
