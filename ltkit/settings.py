"""The settings of every command: the only place for their defaults and ranges.

Command-line options read their defaults and ranges here, and the settings are written whole into
each output file. This module imports nothing heavy, because the command line imports it to print
its help.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ltkit.errors import SettingError
from ltkit.numerals import Range

Metric = Literal["euclidean", "cosine", "raw", "random", "wordnet"]
AlphaNetRecipe = Literal["imagenet", "cifar"]
Variant = Literal["paper", "code"]
Schedule = Literal["step", "onecycle", "cosine"]
Amp = Literal["off", "bf16", "fp16"]
Augment = Literal[
    "none", "standard", "rotation", "cutout", "autoaugment", "autoaugment+cutout", "simclr"
]
Sampler = Literal[
    "instance", "class-balanced", "square-root", "progressive", "reversed", "undersample"
]
Freeze = Literal["backbone", "weights"]
Trained = Literal["all", "last-block"]
"""Which part of a network that starts from a checkpoint is trained."""

Activation = Literal["leaky_relu", "relu", "tanh"]
NetworkInput = Literal["neighbors", "own+neighbors"]
BaseSampling = Literal["class-balanced", "uniform"]
EpochChoice = Literal["best", "last"]
SHOT_GROUPS = ("few", "medium", "many")
GROUPS = (*SHOT_GROUPS, "all", "balanced")
"""Groups with accuracies; all is the mean over samples, balanced the mean over classes."""

METRICS = (
    "recall", "precision", "f1", "taken", "worst-class", "harmonic", "harmonic-groups", "auroc",
    "ap", "nll", "brier", "ece",
)  # fmt: skip
"""Figures beside accuracy that evaluation has a name for; see `ltkit.evaluation.measures`."""

OF_PREDICTIONS = METRICS[:7]
"""Those that need predictions only."""

Profile = Literal["exponential", "step", "pareto"]
"""How the counts of classes fall; see `ltkit.datasets.longtail`."""
Heads = Literal["best", "mean"]
"""Which head of several runs: the best on validation data, or the mean of the heads."""
Select = Literal["all", "balanced", "few", "harmonic"]
Objective = Literal["all", "balanced", "few", "harmonic", "worst-group", "worst-class"]
"""What a recommendation maximises."""
Counts = Literal["file", "estimate"]
"""Where a training prior is from."""
Auto = Literal["auto"]
"""A number that is chosen on the validation split."""

Fit = Literal["crop", "squeeze", "pad"]
"""How a picture is brought to a square: its centre, out of proportion, or with bars beside it."""
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
"""How a picture is scaled, by Pillow's names."""
Weights = Literal["ema", "raw", "best", "last"]
PathRule = Literal["path", "ancestor", "nltk"]
Stored = Literal["float32", "float16"]
Scores = Literal["auto", "features", "logits", "probabilities", "sigmoid"]
RowsOf = Literal["classes", "features"]
Init = Literal["head", "text", "ncm", "zeros"]

PROTOTYPES = 128
"""Prototypes of local vectors, for pictures like CIFAR's; 1000 suit ImageNet."""

BINS = (20, 100)
"""Shot groups by training count: many > 100, medium 20..100, few < 20 (Kang et al. 2020)."""

StoredBins = tuple[int, int] | Literal["auto"] | None
"""Shot groups that a features file keeps: the bounds of medium, or those that suit its classes."""

REPLICATES = 2000
"""Bootstrap replicates."""

RECOMMENDED = (
    "logit-adjust", "tau-norm", "group-bias", "bias", "vector-scaling", "ncm", "ridge", "lws",
    "marc", "crt", "weight-balancing", "blend", "alphanet-plus",
)  # fmt: skip
"""What a recommendation chooses among, the simplest first: one number, one a group, one or two a
class, a row a class from the class means, rows fitted anew, these combined with the head's, and
with those of neighbours."""

RECOMMENDED_ALPHANET: Mapping[str, Any] = {"rhos": (0.25, 0.5, 1.0, 2.0), "seeds": 5}
"""The runs of AlphaNet among them; the heads of a rho's seeds are averaged."""

COMPOSED_SCALES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
COMPOSED_OFFSETS = tuple(-0.5 + 0.25 * step for step in range(11))
"""Parts of AlphaNet's correction, and prior offsets, -0.5 to 2, that ``auto`` chooses from."""

FOLDS, REPEATS = 5, 10
"""Parts of the validation split, and how often it is divided anew to recommend."""

CONFIDENCE = 0.8
"""With which a limit on what a correction may cost must hold."""

RECOMMENDED_FILE = "recommended"
"""What follows the features' stem in the name of a recommendation's file."""

AHEAD = 0.25
"""Standard errors by which a method must be ahead of a simpler one to be recommended; more costs
accuracy, for within one error the better of two is mostly better (docs/recommend.md)."""

KEEP_OF_RARE = {"all": -0.5}
"""Limits, in points, where an objective of the rare classes alone is given none."""

RANGES: Mapping[str, Range] = {
    "alpha_scale": Range(0, 10),
    "batch_size": Range(1, 1 << 20, whole=True),
    "at_most_loss": Range(0, 100),
    "bins": Range(1, 10**15, whole=True),
    "confidence": Range(0.5, 0.999),
    "crop": Range(1, 4096, whole=True),
    "decay_every": Range(1, 100_000, whole=True),
    "decay_factor": Range(0, 1, above=True),
    "drw": Range(0, 100_000, whole=True),
    "epochs": Range(1, 100_000, whole=True),
    "experts": Range(2, 6, whole=True),
    "first_label": Range(0, 1, whole=True),
    "folds": Range(2, 100, whole=True),
    "from_epoch": Range(0, 100_000, whole=True),
    "hidden": Range(1, 65_536, whole=True),
    "image_size": Range(1, 4096, whole=True),
    "imbalance": Range(1, 10**6),
    "k": Range(1, 100_000, whole=True),
    "keep": Range(-100, 100),
    "learning_rate": Range(0, 1000, above=True),
    "level": Range(0, 100, whole=True),
    "local": Range(1, 65_536, whole=True),
    "logit_scale": Range(0, 1e30, above=True),
    "min_epochs": Range(1, 100_000, whole=True),
    "momentum": Range(0, 1),
    "most": Range(0, 10**6, whole=True),
    "repeats": Range(1, 1000, whole=True),
    "prior_offset": Range(-1, 10),
    "replicates": Range(100, 1_000_000, whole=True),
    "resize": Range(1, 4096, whole=True),
    "rho": Range(0, 100, above=True),
    "scale": Range(0, 1e6, above=True),
    "seed": Range(0, 2**32 - 1, whole=True),
    "seeds": Range(1, 1000, whole=True),
    "step_factor": Range(0, 1, above=True),
    "steps": Range(0, 1),
    "tau": Range(-1, 10),
    "test_images": Range(0, 100_000, whole=True),
    "topk": Range(1, 100_000, whole=True),
    "val_images": Range(0, 100_000, whole=True),
    "warmup_epochs": Range(0, 100_000, whole=True),
    "weight_decay": Range(0, 1000),
    "workers": Range(1, 256, whole=True),
}
"""The allowed numbers of each setting; for lists, of each item.

What a value costs is another matter: `ltkit.alphanet` estimates it before it starts.
"""

FLAGS = {
    "learning_rate": "--lr", "parameters": "--set", "dataset": "--data", "mixing": "--mix",
    "features": "FEATS", "method": "METHOD", "momentum": "momentum",
    "target": "target",
}  # fmt: skip
"""Settings whose command-line name differs from their own."""


def flag(name: str) -> str:
    """Return a setting's name on the command line; anything after a space is kept.

    Example:
        >>> flag("learning_rate"), flag("batch_size"), flag("parameters tau")
        ('--lr', '--batch-size', '--set tau')
    """
    word, space, rest = name.partition(" ")
    return FLAGS.get(word, f"--{word.replace('_', '-')}") + space + rest


def check(settings: Any) -> None:
    """Reject settings out of their ranges.

    Args:
        settings: one of the dataclasses here.

    Raises:
        SettingError: naming the first such setting.

    Example:
        >>> check(NeighborSettings(k=0))
        Traceback (most recent call last):
        ...
        ltkit.errors.SettingError: k: found 0, expected a whole number from 1 to 100000
    """
    for name, value in asdict(settings).items():
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None and name in RANGES and item not in RANGES[name]:
                raise SettingError(name, f"found {item}, expected {RANGES[name]}")


@dataclass(frozen=True)
class TrainSettings:
    """The reference schedule for CIFAR-LT of Cao et al. 2019.

    steps, step_factor: the parts of the run after each of which the ``step`` schedule multiplies
    the learning rate by the factor.
    """

    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    schedule: Schedule = "step"
    warmup_epochs: int = 5
    steps: tuple[float, ...] = (0.8, 0.9)
    step_factor: float = 0.01
    nesterov: bool = False
    augment: Augment = "standard"
    amp: Amp = "off"
    compile: bool = False
    seed: int = 0


@dataclass(frozen=True)
class HeadSettings(TrainSettings):
    """The defaults of a head on cached features: the cRT schedule of Kang et al. 2020.

    Their batches of 512 suit datasets with 100,000 images; smaller files need smaller ones.
    """

    epochs: int = 30
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    warmup_epochs: int = 0
    augment: Augment = "none"


@dataclass(frozen=True)
class TrainPlan:
    """What to train, except the data and the schedule; `training.recipe` makes a run of it.

    method: the loss's name.
    parameters: by name, as text or values; ``then.`` before the name says the second stage's loss,
        ``mix.`` the mixing.
    sampler: how often classes are drawn; ``instance`` is every image once.
    mixing: how images are mixed, a name.
    drw: class weights of the loss are deferred until so many epochs are finished.
    from_epoch: a second stage starts when so many epochs are finished; one of the four others says
        what it changes.
    then, then_sampler, then_lr: its loss, sampler and learning rate, which starts its own schedule.
    freeze: what of the backbone it does not train.
    cosine, scale: whether the head is a cosine head, and its factor.
    init: what a head on cached features starts from; None: rows drawn from the seed.
    train: what is trained of a network that starts from a checkpoint; its head always is.
    """

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sampler: Sampler = "instance"
    mixing: str | None = None
    drw: int | None = None
    from_epoch: int | None = None
    then: str | None = None
    then_sampler: Sampler | None = None
    then_lr: float | None = None
    freeze: Freeze | None = None
    cosine: bool = False
    scale: float = 30.0
    init: Init | None = None
    train: Trained = "all"


@dataclass(frozen=True)
class ImportSettings:
    """What a user says of arrays where they do not say so themselves.

    dtype: how features are stored.
    scores: what features are that are as many as the classes, without a head; ``auto`` takes the
        log of probabilities, and others as logits.
    first_label: 0 or 1, what labels count from; None: as they look.
    weight_rows: what a square weight has a row for.
    scale: of the cosine head that embeddings of the classes make; CLIP's learned scale ends at 100.
    keys: ltkit's names of arrays to those in the file.
    label: the column of labels in a table; None: the one that is called so.
    ignore: columns of a table that are left out.
    bins: of the shot groups, to be stored in the file; None: the usual ones, not stored.
    """

    dtype: Stored = "float32"
    scores: Scores = "auto"
    first_label: int | None = None
    weight_rows: RowsOf | None = None
    scale: float = 100.0
    keys: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    ignore: tuple[str, ...] = ()
    bins: StoredBins = None


SAID_ANEW = {"trust_code", "model", "model_args", "base_model"}
"""What no file may say of how a checkpoint is loaded: it runs code, or names other files."""


@dataclass(frozen=True)
class LoadSettings:
    """What a user says about a checkpoint that does not say so itself.

    arch: a key of `ltkit.architectures.CATALOGUE`, or ``library:name`` of an optional library.
    head: the last layer's name in the file.
    weights: which of several weights: ema, raw, best or last.
    scale: the factor of a cosine head, which the field keeps in its losses.
    linear: whether a head without a bias is a linear one.
    mean, std: per channel, of pixel values in 0..1.
    trust_code: whether a file's own program may run; said anew each time, never kept in a file.
    model, model_args: what builds the network, as ``package.module:Name``, and its ``name=value``
        arguments; the user's own code, which is said anew each time, too.
    class_names: of the dataset, for zero-shot heads, () where it has none; None without a dataset.
    base_model: the folder of the network that a LoRA adapter changes.
    """

    arch: str | None = None
    head: str | None = None
    weights: Weights | None = None
    scale: float | None = None
    linear: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    trust_code: bool = False
    class_names: tuple[str, ...] | None = None
    model: str | None = None
    model_args: tuple[str, ...] = ()
    base_model: str | None = None

    def kept(self) -> dict[str, Any]:
        """Return what files keep: all that is said, but for what runs code or names files."""
        return {k: v for k, v in asdict(self).items() if v and k not in SAID_ANEW}

    @classmethod
    def from_json(cls, said: Mapping[str, Any], **anew: Any) -> "LoadSettings":
        """Return the settings that `kept` gave, after a file held them.

        Nothing that runs code is taken from a file, whatever it says; the user says it `anew`.
        """
        known = {field.name for field in fields(cls)} - SAID_ANEW
        kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return cls(**{k: v for k, v in kept.items() if k in known} | anew)


@dataclass(frozen=True)
class ExtractSettings:
    """How features are extracted.

    bins: of the shot groups, to be stored in the file; None: the usual ones, not stored.
    no_head: whether the model's last layer is left out, since it is for other classes.
    local: prototypes of local vectors, in which each image's shares are stored, too: how many are
        fitted to the train split; ``auto``: the checkpoint's own, else 128; None: none are.
    """

    batch_size: int = 256
    workers: int = 2
    dtype: Literal["float32", "float16"] = "float32"
    amp: Amp = "off"
    on_error: Literal["fail", "skip"] = "fail"
    bins: StoredBins = None
    no_head: bool = False
    local: int | Auto | None = None


@dataclass(frozen=True)
class ViewSettings:
    """What the user says of how pictures become what a network sees; None: it is found out.

    image_size: pixels of a side that the network gets; resize and crop, where these are not said.
    resize, crop, fit, window, interpolation: as in `ltkit.records.ImageView`.
    """

    image_size: int | None = None
    resize: int | None = None
    crop: int | None = None
    fit: Fit | None = None
    window: tuple[float, float] | None = None
    interpolation: Interpolation | None = None


@dataclass(frozen=True)
class LongTailSettings:
    """How a long-tailed subset is drawn of a balanced dataset.

    val_images, test_images: of each class, set aside first where the dataset has no such split.
    """

    imbalance: float = 100.0
    profile: Profile = "exponential"
    seed: int = 0
    val_images: int = 20
    test_images: int = 0


@dataclass(frozen=True)
class NeighborSettings:
    """How the neighbours of a class are found."""

    k: int = 5
    metric: Metric = "euclidean"
    seed: int = 0


@dataclass(frozen=True)
class AlphaNetSettings:
    """One run of AlphaNet (Chang et al., arXiv 2008.07073).

    `network_input` and `few_biases` are where the paper and the published code differ; `variant`
    on the command line sets both. `base_sampling`: whether base classes or base samples are equally
    likely to be drawn. `epoch_choice`: the best on validation data, or the last. `logit_scale`: a
    factor of all logits in training, for heads whose logits are small.
    """

    rho: float = 1.0
    seed: int = 0
    epochs: int = 25
    min_epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    decay_every: int = 10
    decay_factor: float = 0.1
    hidden: tuple[int, ...] = (32, 32, 32)
    network_input: NetworkInput = "neighbors"
    few_biases: Literal["learned", "frozen"] = "learned"
    activation: Activation = "leaky_relu"
    base_sampling: BaseSampling = "class-balanced"
    epoch_choice: EpochChoice = "best"
    logit_scale: float = 1.0


ALPHANET_VARIANTS: dict[Variant, dict[str, str]] = {
    "paper": {"network_input": "neighbors", "few_biases": "learned"},
    "code": {"network_input": "own+neighbors", "few_biases": "frozen"},
}
ALPHANET_RECIPES = {"imagenet": dict[str, Any](), "cifar": {"epochs": 10, "epoch_choice": "last"}}


def as_json(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as a plain dictionary for a file's ``settings`` attribute."""
    return asdict(settings)
