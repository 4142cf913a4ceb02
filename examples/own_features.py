"""The library on one's own arrays: features, labels and a last layer, no files in between.

A made-up long-tailed problem stands for your features. Run: python examples/own_features.py
"""

import numpy as np

from ltkit import alphanet
from ltkit.evaluation import Entry, evaluate
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.posthoc import logit_adjust
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Head, shot_groups
from ltkit.settings import AlphaNetSettings, NeighborSettings

rng = np.random.default_rng(0)
counts = (300 * 0.01 ** (np.arange(20) / 19)).astype(int)  # 300 down to 3 training images
centres = rng.normal(size=(20, 32))


def split(images: np.ndarray) -> FeatureSplit:
    """Draw features around their class's centre."""
    labels = np.repeat(np.arange(20), images)
    noise = 1.5 * rng.normal(size=(len(labels), 32))
    return FeatureSplit((centres[labels] + noise).astype(np.float32), labels)


features = FeatureSet(
    {"train": split(counts), "val": split(np.full(20, 20)), "test": split(np.full(20, 50))},
    ClassTable(counts),
    Head(centres.astype(np.float32), np.log(counts).astype(np.float32)),  # a head with a bias
)
groups, base = shot_groups(counts), features.classifier()

means, _ = class_means(features.split("train"), len(counts))
near = nearest(means, groups.few, groups.base, NeighborSettings(k=5))
runs = [AlphaNetSettings(rho=0.5, seed=seed) for seed in range(3)]
learned = alphanet.fit(base, near, features.split("train"), features.split("val"), runs)
adjusted = logit_adjust.fit(base, None, counts, tau=1.0)

document, _ = evaluate(
    features,
    "test",
    [
        Entry("alphanet", "", learned),
        Entry("logit-adjust", "", Correction.whole("logit-adjust", adjusted, {"tau": 1.0})),
    ],
)
for row in document["rows"]:
    figures = ", ".join(
        f"{name} {100 * row['accuracy'][name]:.1f}" for name in ("few", "many", "all")
    )
    print(f"{row['name']}: {figures}")
