"""The settings of every command as dataclasses, with their defaults."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ltkit.settings.choices import (
    REPLICATES_OF_PRIOR,
    Activation,
    AlphaNetAmp,
    Amp,
    Augment,
    Auto,
    BaseSampling,
    EpochChoice,
    Fit,
    Freeze,
    Init,
    Interpolation,
    Metric,
    NetworkInput,
    PriorEstimator,
    Profile,
    RowsOf,
    Sampler,
    Schedule,
    Scores,
    Stored,
    StoredBins,
    Trained,
    Weights,
)

LATER = {"later": True}
"""Of a setting that came later: files made without it have the bytes that they had before."""


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


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """How a classifier is adapted to the prior of samples without labels.

    estimator: of the prior; see `ltkit.adaptation.estimators` for why ``tail`` is the default.
    strength: samples that the Dirichlet prior of ``map-em`` counts as, for each class.
    significance: of the test of the shift; a p below it is refused.
    replicates: draws of the samples, and of the validation samples.
    seed: of the draws.
    """

    estimator: PriorEstimator = "tail"
    strength: float = 2.0
    significance: float = 0.01
    replicates: int = REPLICATES_OF_PRIOR
    seed: int = 0


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
    factor of all logits in training, for heads whose logits are small. `amp`: whether the first
    layer's products are in bfloat16, which some processors are several times faster at.
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
    amp: AlphaNetAmp = field(default="off", metadata=LATER)


@dataclass(frozen=True)
class ConformalSettings:
    """How thresholds of conformal sets are found.

    share: of ``interpolated``, the part of a class's own threshold; the rest is the marginal one.
    bandwidth: of ``fuzzy``, in units of the log of training counts: classes with 1.6 times as many
        images, or as few, count by exp(-1/2).
    rank_penalty, free_ranks: of ``raps``, the price of each class beyond the most likely ones.
    seed: of the halves that ``clustered`` and ``fuzzy`` need.
    """

    share: float = 0.5
    bandwidth: float = 0.5
    rank_penalty: float = 0.01
    free_ranks: int = 5
    seed: int = 0


def as_json(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as a plain dictionary for a file's ``settings`` attribute.

    Settings that are `LATER` are left out where they have their default.
    """
    later = {f.name: f.default for f in fields(settings) if f.metadata.get("later")}
    return {n: v for n, v in asdict(settings).items() if n not in later or v != later[n]}
