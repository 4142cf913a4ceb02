"""The choices and constants of commands: what each word of the command line can be."""

from collections.abc import Mapping
from typing import Any, Literal

Metric = Literal["euclidean", "cosine", "raw", "random", "random-once", "wordnet"]
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

AlphaNetAmp = Literal["off", "bf16"]
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
PriorEstimator = Literal["tail", "map-em", "em", "bbse"]
"""How the prior of samples without labels is found; see `ltkit.adaptation.estimators`."""
Auto = Literal["auto"]
"""A number that is chosen on the validation split."""

SetScore = Literal["softmax", "aps", "raps", "pas"]
SetThreshold = Literal["marginal", "class-wise", "clustered", "fuzzy", "interpolated"]
SetGoal = Literal["images", "groups", "classes"]
"""Of what the sets are to have the wanted coverage: all images together, those of each shot group,
or those of each class, which takes the largest sets."""

COVERAGE = 0.9
"""Of conformal sets."""

SET_FOLDS = 20
"""Parts of val that conformal sets are tried on: each class-wise threshold of 20 images is then
judged by one of 19, and of fewer parts by one that is much larger."""

SETS_FILE = "sets.json"
"""What follows the features' stem in the name of a file of conformal sets."""

Rejection = Literal["max-softmax", "plug-in"]
"""Which samples are handed over: those with a small max softmax, or by costs of shot groups."""

RiskOf = Literal["balanced", "all"]
"""Which error among the answered samples is limited."""

NOVELTY_NEIGHBORS = 10
"""Which nearest training sample tells how new a sample is. Sun et al. 2022 take 50 for CIFAR-10 and
more for more classes; in a long tail, whose classes have fewer images, that tells worse."""

KNOWN_KEPT = 0.95
"""Share of known samples that a novelty threshold keeps: the true positive rate of FPR95."""

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

REPLICATES_OF_PRIOR = 200
"""Bootstrap replicates of a prior, each of which is learned anew."""

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

FALSE_ALARM = 0.05
"""Chance that a check of a bundle fails though nothing has changed."""

RECOMMENDED_FILE = "recommended"
"""What follows the features' stem in the name of a recommendation's file."""

AHEAD = 0.25
"""Standard errors by which a method must be ahead of a simpler one to be recommended; more costs
accuracy, for within one error the better of two is mostly better (docs/recommend.md)."""

KEEP_OF_RARE = {"all": -0.5}
"""Limits, in points, where an objective of the rare classes alone is given none."""

ALPHANET_VARIANTS: dict[Variant, dict[str, str]] = {
    "paper": {"network_input": "neighbors", "few_biases": "learned"},
    "code": {"network_input": "own+neighbors", "few_biases": "frozen"},
}
ALPHANET_RECIPES = {"imagenet": dict[str, Any](), "cifar": {"epochs": 10, "epoch_choice": "last"}}
