"""Features files of several networks that do not belong together."""

import numpy as np
from bad_inputs.makers import arrays, corrected, put, several
from bad_inputs.rows import Row

FEWER = {
    "test_features": arrays()["test_features"][:-1],
    "test_labels": arrays()["test_labels"][:-1],
}
OTHER_LABELS = {"test_labels": arrays()["test_labels"][::-1].copy()}
FIVE = {
    "weight": np.zeros((7, 8), np.float32), "bias": np.zeros(7, np.float32),
    "train_counts": np.array([300, 150, 60, 30, 10, 5, 5]),
}  # fmt: skip
NAMED = {"class_names": np.array(list("abcdef"))}
IDS = {"test_ids": np.array([f"a{n}" for n in range(120)])}
OTHER_IDS = {"test_ids": np.array([f"b{n}" for n in range(120)])}

NETWORKS = [
    Row("network twice", "compare feats.h5 feats.h5", ["feats.h5: named twice", "leave one out"]),
    Row("network with fewer samples", "compare feats.h5 b.h5",
        ["b.h5: test: found other samples than in feats.h5", "extract both"], put("b.h5", **FEWER)),
    Row("network with other labels", "evaluate feats.h5 b.h5", ["b.h5: test: found other samples"],
        put("b.h5", **OTHER_LABELS)),
    Row("network with other ids", "report a.h5 b.h5", ["b.h5: test: found other samples than"],
        several(put("a.h5", **IDS), put("b.h5", **OTHER_IDS))),
    Row("network of more classes", "compare feats.h5 b.h5",
        ["b.h5: found 7 classes, expected the 6 of feats.h5"], put("b.h5", **FIVE)),
    Row("norms of more classes", "analyze norms feats.h5 b.h5", ["found 7 classes, expected the 6"],
        put("b.h5", **FIVE)),
    Row("classes in another order", "analyze confusion a.h5 b.h5",
        ["b.h5: found class 1 to be 'c', expected 'b' as in a.h5"],
        several(put("a.h5", **NAMED), put("b.h5", class_names=np.array(list("acbdef"))))),
    Row("network without the split", "compare feats.h5 b.h5 --split val", ["b.h5: no split val"],
        put("b.h5", val_features=None, val_labels=None)),
    Row("correction of no network", "compare feats.h5 a.h5 c.h5", ["c.h5: fitted on features"],
        several(put("a.h5", weight=np.ones((6, 8), np.float32)),
                put("b.h5", weight=np.zeros((6, 8), np.float32)), corrected("c.h5", "b.h5"))),
    Row("base of no network", "compare feats.h5 a.h5 --base c.h5", ["c.h5: fitted on features"],
        several(put("a.h5", weight=np.ones((6, 8), np.float32)),
                put("b.h5", weight=np.zeros((6, 8), np.float32)), corrected("c.h5", "b.h5"))),
    Row("network without a head", "compare feats.h5 b.h5", ["--base: absent, b.h5 has no head"],
        put("b.h5", weight=None, bias=None)),
    Row("networks in the place of fits", "analyze deltas feats.h5 b.h5",
        ["found a correction without rho"], put("b.h5", weight=np.ones((6, 8), np.float32))),
    Row("confusions of nobody", "analyze confusion feats.h5 --of me",
        ["--of: found 'me', expected one of the settings", "baseline"]),
    Row("no confusions", "analyze confusion feats.h5 --count 0", ["--count: found 0"]),
    Row("norms onto the features", "analyze norms feats.h5 --csv feats.h5 --overwrite",
        ["feats.h5", "input"]),
    Row("ensemble of one", "ensemble feats.h5 -o o.h5", ["found one network, expected two"]),
    Row("ensemble of a network twice", "ensemble feats.h5 feats.h5 -o o.h5", ["named twice"]),
    Row("ensemble with a classifier", "ensemble feats.h5 c.h5 -o o.h5",
        ["c.h5: format: found ltkit-classifier"], corrected("c.h5")),
    Row("ensemble of other samples", "ensemble a.h5 b.h5 -o o.h5", ["a.h5: found no split with"],
        several(put("a.h5", train_features=None, train_labels=None, val_features=None,
                    val_labels=None, train_counts=np.array([300, 150, 60, 30, 10, 5])),
                put("b.h5", **OTHER_LABELS))),
    Row("ensemble of more classes", "ensemble feats.h5 b.h5 -o o.h5", ["found 7 classes"],
        put("b.h5", **FIVE)),
    Row("ensemble onto a network", "ensemble feats.h5 b.h5 -o b.h5 --overwrite", ["b.h5", "input"],
        put("b.h5")),
]  # fmt: skip
