"""What commands exchange: features, heads, classifiers, neighbours, corrections, images.

Dimension key, used in every docstring and comment:
`N` samples, `B` block or batch, `D` feature size, `C` classes, `F` few-shot classes,
`K` neighbours, `E` experts, `R` changed rows of a classifier, `S` runs (seed x rho x k).

Records check their shapes once, on construction; inside, code trusts them.
"""

from ltkit.records.arrays import (
    BLOCK_BYTES,
    CACHED_BYTES,
    STREAM_BLOCKS,
    WIDE_BYTES,
    Floats,
    Ints,
    Rows,
    block_rows,
    blocks,
    lengths,
    products,
    shifted,
    unit_rows,
)
from ltkit.records.by_class import values_by_class
from ltkit.records.features import (
    SPLITS,
    Base,
    ClassTable,
    FeatureSet,
    FeatureSplit,
    Neighbors,
    wide_rows,
)
from ltkit.records.folds import stratified_folds
from ltkit.records.groups import (
    ShotGroups,
    automatic_bins,
    members,
    note_of_bins,
    shot_groups,
    stored_bins,
)
from ltkit.records.heads import (
    LEARNED,
    NEVER,
    Classifier,
    Correction,
    Head,
    Normalize,
    joined,
)
from ltkit.records.images import (
    Dataset,
    Images,
    ImageSplit,
    ImageView,
)
from ltkit.records.present import Present, never_predicted, note_of_left_out
from ltkit.records.priors import class_prior
from ltkit.records.rules import Rule, classifier_digest

__all__ = [
    "BLOCK_BYTES",
    "CACHED_BYTES",
    "LEARNED",
    "NEVER",
    "SPLITS",
    "STREAM_BLOCKS",
    "WIDE_BYTES",
    "Base",
    "ClassTable",
    "Classifier",
    "Correction",
    "Dataset",
    "FeatureSet",
    "FeatureSplit",
    "Floats",
    "Head",
    "ImageSplit",
    "ImageView",
    "Images",
    "Ints",
    "Neighbors",
    "Normalize",
    "Present",
    "Rows",
    "Rule",
    "ShotGroups",
    "automatic_bins",
    "block_rows",
    "blocks",
    "class_prior",
    "classifier_digest",
    "joined",
    "lengths",
    "members",
    "never_predicted",
    "note_of_bins",
    "note_of_left_out",
    "products",
    "shifted",
    "shot_groups",
    "stored_bins",
    "stratified_folds",
    "unit_rows",
    "values_by_class",
    "wide_rows",
]
