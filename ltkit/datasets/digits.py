"""scikit-learn's bundled 8x8 digits, long-tailed: real images without a download."""

import numpy as np

from ltkit.datasets import longtail
from ltkit.records import ClassTable, Dataset, ImageSplit, Ints

NUM_CLASSES = 10
TEST_IMAGES = 40
MAX_COUNT = 114
"""The rarest digit has 174 images: 40 for test, 20 for validation, 114 left for training."""

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load(
    *, ir: float, seed: int, val: longtail.ValRule, profile: longtail.Profile = "exponential"
) -> Dataset:
    """Load the digits: 40 test images per class, then an exponential profile from 114 images.

    Args:
        ir: imbalance factor n_max / n_min.
        seed: seed of the test split and of the draw.
        val: see `longtail.draw`.
        profile: see `longtail.profile_counts`.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    labels = digits.target.astype(np.int64)

    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in range(NUM_CLASSES)]
    test = np.concatenate([order[:TEST_IMAGES] for order in by_class])
    rest = np.sort(np.concatenate([order[TEST_IMAGES:] for order in by_class]))
    counts = longtail.profile_counts(profile, NUM_CLASSES, MAX_COUNT, ir)
    drawn = longtail.draw(labels[rest], counts, seed, val)

    def split(positions: Ints) -> ImageSplit:
        ids = np.array([f"digit/{i:04d}" for i in positions])
        return ImageSplit(images[positions], labels[positions], ids)

    splits = {"train": split(rest[drawn.train])}
    if drawn.val is not None:
        splits["val"] = split(rest[drawn.val])
    splits["test"] = split(test)
    return Dataset(
        splits,
        ClassTable(np.bincount(splits["train"].labels, minlength=NUM_CLASSES), NAMES),
        mean=(0.3053,),
        std=(0.3764,),
        crop_padding=1,
        flip=False,
        record={"index_digest": longtail.index_digest(drawn.train, drawn.val, test)},
    )
