"""AlphaNet's correction on another head: numbers, heads and files that it cannot take."""

import numpy as np
from bad_inputs import makers
from bad_inputs.makers import command, corrected, file, fitted, put, several
from bad_inputs.rows import FIT, Row

ONTO = f"{FIT} --epochs 1 --onto onto.h5"
APPLY = "alphanet apply feats.alphanet.h5 feats.h5 --of 5"
NAMED = "evaluate feats.h5 --classifier feats.alphanet.h5"
IDS = np.array([[4, 5], [4, 5]])


def composed(more: str = "") -> makers.Maker:
    """Fit one of the two rare classes onto another head."""
    fit = f"alphanet fit feats.h5 --k 2 --epochs 1 --device cpu --leave-out 5 --scale 0.5 -q {more}"
    return several(corrected("onto.h5"), command(fit))


def stored(run: dict | None = None, **learned) -> makers.Maker:
    """Write a composition with changes; an array that is None is taken away."""
    alpha, near = np.full((2, 2, 2), 0.5, np.float32), np.tile([[0, 1], [2, 0]], (2, 1, 1))
    arrays = {"class_id": IDS, "alpha": alpha, "neighbor": near} | learned
    return fitted(
        run={"scale": 0.5, "prior_offset": 1.0, "onto": None} | (run or {}),
        extra__alpha=None, extra__neighbor=None,
        **{f"extra__network.{layer}": None for layer in range(4)},
        **{f"extra__learned__{name}": values for name, values in arrays.items()},
    )  # fmt: skip


COMPOSITION = [
    Row("scale below 0", f"{FIT} --scale -1", ["--scale: found -1", "auto, or", "from 0 to 10"]),
    Row("scale without bound", f"{FIT} --scale 11", ["--scale: found 11"]),
    Row("scale of a word", f"{FIT} --scale best", ["--scale: found best", "auto"]),
    Row("part NaN", f"{FIT} --scale nan", ["--scale: found nan"]),
    Row("no scale", f"{FIT} --scale=", ["--scale: found ''"]),
    Row("offset without bound", f"{FIT} --prior-offset 1e9", ["--prior-offset: found 1e9"]),
    Row("offset of a word", f"{FIT} --prior-offset x", ["--prior-offset: found x", "auto"]),
    Row("scale to choose without val", "alphanet fit b.h5 --k 2 --scale auto",
        ["--scale: auto", "val split", "b.h5", "give a number"],
        put("b.h5", val_features=None, val_labels=None)),
    Row("offset to choose without val", "alphanet fit b.h5 --k 2 --prior-offset auto",
        ["--prior-offset: auto", "val split"], put("b.h5", val_features=None, val_labels=None)),
    Row("scale to choose by absent classes",
        "alphanet fit b.h5 --k 2 --scale auto --select few", ["--select: few: no such class"],
        put("b.h5", val_labels=np.zeros(60, int))),
    Row("scale chosen by a word", f"{FIT} --scale auto --select best", ["--select", "best"]),
    Row("onto no file", ONTO, ["onto.h5: not found"]),
    Row("onto another kind of file", ONTO, ["onto.h5"], file("onto.h5", "weights")),
    Row("onto the features", f"{FIT} --onto feats.h5", ["feats.h5", "ltkit-features"]),
    Row("onto a head of other features", ONTO, ["onto.h5: fitted on features"],
        several(put("b.h5", bias=np.ones(6)), corrected("onto.h5", "b.h5"))),
    Row("onto several heads", ONTO, ["--onto: onto.h5: found 31 runs", "expected one"],
        command("posthoc logit-adjust feats.h5 --sweep -o onto.h5 -q")),
    Row("onto rows of some classes", ONTO, ["--onto: onto.h5: has rows of 2 of 6"],
        fitted("onto.h5")),
    Row("onto the output", f"{ONTO} -o onto.h5 --overwrite", ["onto.h5", "an input too"],
        corrected("onto.h5")),
    Row("offset of a class without images",
        "alphanet fit b.h5 --k 2 --epochs 1 --device cpu --prior-offset 1",
        ["note: 1 of 7 classes", "the prior offset leaves their logits as they are"],
        put("b.h5", train_counts=np.array([*makers.COUNTS, 0]), weight=np.ones((7, 8)),
            bias=np.zeros(7)), 0),
    Row("apply without its head", APPLY, ["--onto: absent", "feats.alphanet.h5", "name its file"],
        composed("--onto onto.h5")),
    Row("apply on another head", f"{APPLY} --onto b.h5", ["--onto: found the head", "expected"],
        several(composed("--onto onto.h5"),
                command("posthoc logit-adjust feats.h5 --set tau=1 -o b.h5 -q"))),
    Row("apply on a needless head", f"{APPLY} --onto onto.h5",
        ["--onto: feats.alphanet.h5 was composed with no other head"], composed()),
    Row("show a class that was not composed", "alphanet show feats.alphanet.h5 --class 5",
        ["among the 1 classes", "as 4"], composed("--onto onto.h5")),
    Row("a sound composition", "validate feats.alphanet.h5", ["sound"], stored(), 0),
    Row("composition without a scale", NAMED, ["runs: scale: found None"], stored({"scale": ...})),
    Row("composition of a word", NAMED, ["runs: prior_offset: found 'x'"],
        stored({"prior_offset": "x"})),
    Row("composition on a number", NAMED, ["runs: onto: found 3"], stored({"onto": 3})),
    Row("composition without coefficients", NAMED, ["extra/learned/alpha: found nothing"],
        stored(alpha=None)),
    Row("composition of other classes", NAMED, ["extra/learned/class_id", "corrected classes"],
        stored(class_id=IDS + 1)),
    Row("composition out of order", NAMED, ["extra/learned/class_id", "ascending"],
        stored(class_id=IDS[:, ::-1])),
    Row("composition of one class", NAMED, ["extra/learned/alpha: found (2, 2, 2)"],
        stored(class_id=IDS[:, :1])),
    Row("composition of NaN", NAMED, ["extra/learned/alpha", "finite"],
        stored(alpha=np.full((2, 2, 2), np.nan, np.float32))),
    Row("composition without bound", "alphanet show feats.h5 feats.alphanet.h5 --rho 1",
        ["finite coefficients"],
        stored({"scale": 1e308}, alpha=np.full((2, 2, 2), 1e30, np.float32))),
    Row("composition with class 99", "alphanet show feats.h5 feats.alphanet.h5 --rho 1",
        ["class ids up to 99"], stored(neighbor=np.full((2, 2, 2), 99))),
]  # fmt: skip
