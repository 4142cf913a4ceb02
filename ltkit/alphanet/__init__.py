"""AlphaNet: corrects rare classes with the classifiers of similar frequent classes.

`fit` and `apply` take a classifier and its neighbours. What the commands of ``ltkit alphanet`` do
with a features file is `fit_features`, `sweep_features` (in parts: `fit_shard`),
`apply_features` and `explain_fit`; `compose` adds a part of what a fit learned to another head.
"""

from ltkit.alphanet.application import apply, apply_features
from ltkit.alphanet.composition import Choice, compose, inputs_of
from ltkit.alphanet.explanation import explain_fit
from ltkit.alphanet.fitting import fit
from ltkit.alphanet.networks import combine
from ltkit.alphanet.study import fit_features
from ltkit.alphanet.sweep import fit_shard, sweep_features

__all__ = [
    "Choice",
    "apply",
    "apply_features",
    "combine",
    "compose",
    "explain_fit",
    "fit",
    "fit_features",
    "fit_shard",
    "inputs_of",
    "sweep_features",
]
