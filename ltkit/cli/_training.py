"""The options of ``ltkit train``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options
from ltkit.settings import (
    Amp,
    Augment,
    Freeze,
    HeadSettings,
    Sampler,
    Schedule,
    Trained,
    TrainSettings,
)

STEPS = ",".join(map(str, TrainSettings.steps))


def _defaults(name: str) -> str:
    """Return the help of an option whose default depends on what is trained."""
    values = [getattr(kind, name) for kind in (TrainSettings, HeadSettings)]
    return "Default: {}; for a head on FEATS, {}.".format(*values)


Method = Annotated[
    str | None,
    typer.Argument(
        help="Training loss, or a recipe of several stages; see --list.",
        show_default=False,
        autocompletion=_options.begun("losses", "training.methods", "training.recipes"),
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="A recipe of several stages, as METHOD would name it.",
        show_default=False,
        autocompletion=_options.begun("training.recipes"),
    ),
]
Feats = Annotated[
    str | None,
    typer.Argument(
        metavar="[FEATS]",
        help="Features file: train a head on it; '-' reads its path from stdin.",
        show_default=False,
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        help="Dataset name, folder, list file or CSV: train a network on its images.",
        show_default=False,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(help="Architecture. Default: one that fits the pictures.", show_default=False),
]
Experts = Annotated[
    int | None,
    _options.setting(
        "experts",
        "Experts of the network: 3, 4 or 6 for ride, 3 for sade; 2, too, for others.",
        show_default=False,
    ),
]
Cosine = Annotated[
    bool, typer.Option("--cosine", help="Cosine head: normalised features and rows.")
]
Scale = Annotated[float, _options.setting("scale", "Scale of a cosine head.")]
Epochs = Annotated[
    int | None,
    _options.setting("epochs", f"Training epochs. {_defaults('epochs')}", show_default=False),
]
BatchSize = Annotated[
    int,
    _options.setting("batch_size", "Samples per batch; under torchrun, of all processes together."),
]
LearningRate = Annotated[float, _options.setting("learning_rate", "Base learning rate.")]
WeightDecay = Annotated[
    float | None,
    _options.setting(
        "weight_decay", f"Weight decay. {_defaults('weight_decay')}", show_default=False
    ),
]
ScheduleName = Annotated[
    Schedule | None,
    typer.Option(help=f"Learning rate schedule. {_defaults('schedule')}", show_default=False),
]
WarmupEpochs = Annotated[
    int | None,
    _options.setting(
        "warmup_epochs",
        f"Warm-up epochs, for step and cosine. {_defaults('warmup_epochs')}",
        show_default=False,
    ),
]
Steps = Annotated[
    str, typer.Option(help="Fractions of the run after which the step schedule lowers the rate.")
]
StepFactor = Annotated[
    float,
    _options.setting("step_factor", "Factor on the learning rate at each of the --steps."),
]
Nesterov = Annotated[
    bool, typer.Option("--nesterov", help="Nesterov's momentum, as RIDE and SADE have it.")
]
Augmentation = Annotated[
    Augment,
    typer.Option(help="Augmentation; standard (crop and flip) is part of the others but simclr."),
]
Mix = Annotated[
    str | None,
    typer.Option(
        help="Mix images: mixup, cutmix, cmo or remix; --set mix.alpha=1 sets a parameter.",
        show_default=False,
    ),
]
Precision = Annotated[Amp, typer.Option(help="Mixed precision.")]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network with torch.compile, with CUDA graphs: worthwhile on a GPU.",
    ),
]
SamplerName = Annotated[
    Sampler,
    typer.Option(
        help="How often classes are drawn; instance takes every image once, undersample as many "
        "of each class as the rarest has, others in each epoch."
    ),
]
Drw = Annotated[
    int | None,
    _options.setting(
        "drw",
        "Deferred re-weighting: use the loss's class weights after this many epochs, uniform "
        "weights before.",
        show_default=False,
    ),
]
FromEpoch = Annotated[
    int | None,
    _options.setting(
        "from_epoch",
        "Start a second stage after this many epochs.",
        show_default=False,
    ),
]
Then = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="The second stage's loss; --set then.beta=0.9 sets a parameter. Default: the "
        "first stage's loss.",
        show_default=False,
    ),
]
ThenSampler = Annotated[
    Sampler | None, typer.Option(help="The second stage's sampler.", show_default=False)
]
ThenLr = Annotated[
    float | None,
    _options.setting(
        "learning_rate",
        "The second stage's learning rate; each stage then has its own schedule. Default: one "
        "schedule for both.",
        called="--then-lr",
        show_default=False,
    ),
]
Freezing = Annotated[
    Freeze | None,
    typer.Option(
        help="Freeze the backbone in the second stage; weights still updates its batch norm "
        "statistics.",
        show_default=False,
    ),
]
ClassMeans = Annotated[
    Path | None,
    typer.Option(
        metavar="FEATS",
        help="Features file whose class means swrm uses instead of the network's own.",
        show_default=False,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="CKPT|head|text|ncm|zeros",
        help="The checkpoint that a network starts from. For a head on FEATS, the file's own head, "
        "that of --text-features, the class means, zeros. Default: weights drawn from the seed.",
        show_default=False,
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        metavar="CKPT",
        help="The checkpoint of the same classes that distill learns from, and that --unlabelled "
        "images take their labels from.",
        show_default=False,
    ),
]
Unlabelled = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC|FOLDER",
        help="Self-training: further training images, with the labels that the --teacher predicts; "
        "a dataset's, or those in a folder.",
        show_default=False,
    ),
]
KeepHead = Annotated[
    bool, typer.Option("--keep-head", help="Start from the head of the --init checkpoint, too.")
]
What = Annotated[
    Trained,
    typer.Option(
        "--train",
        help="What is trained of a network that starts from --init, beside its head: last-block "
        "holds the rest as it is.",
    ),
]


def _list(asked: bool) -> None:
    """Print the losses and the mixing methods, where this is asked, and exit."""
    if not asked:
        return
    from ltkit import losses
    from ltkit.registry import described
    from ltkit.training import methods, mixing, recipes

    of_stages = described(recipes, "stages")
    for line in sorted(described(losses, "loss") + described(methods, "loss") + of_stages):
        typer.echo(line)
    for line in described(mixing, "mix"):
        typer.echo(f"--mix {line}")
    raise typer.Exit


Listing = Annotated[
    bool,
    typer.Option(
        "--list",
        help="List the losses, recipes and mixings and exit.",
        callback=_list,
        is_eager=True,
    ),
]
Seeds = Annotated[
    int,
    _options.setting(
        "seeds",
        "Train with this many seeds, from --seed on: networks are written to <stem>.seed0.pt "
        "and so on, heads as runs of one file.",
    ),
]
KeepBest = Annotated[
    bool,
    typer.Option(
        "--keep-best",
        help="Also write the epoch with the best balanced val accuracy, to <stem>.best.pt.",
    ),
]
Tensorboard = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Also write each epoch's numbers for TensorBoard, one folder per run "
        "(pip install 'ltkit[tensorboard]').",
        show_default=False,
    ),
]
