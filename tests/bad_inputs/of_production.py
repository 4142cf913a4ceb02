"""Sets of classes: what is asked for, and what they are calibrated on."""

import numpy as np
from bad_inputs.makers import command, file, put, several
from bad_inputs.rows import Row

ONE = "--score softmax --threshold marginal"
SETS = f"conformal feats.h5 {ONE}"
NO_VAL = put("b.h5", val_features=None, val_labels=None)
FEW = put("b.h5", val_features=np.eye(6, 8, dtype=np.float32)[[0, 1, 2, 3, 4, 5, 0]],
          val_labels=np.array([0, 1, 2, 3, 4, 5, 0]))  # fmt: skip
ONE_CLASS = put("b.h5", val_features=np.eye(3, 8, dtype=np.float32), val_labels=np.full(3, 4))

PRODUCTION = [
    Row("coverage of all", f"{SETS} --coverage 1", ["--coverage: found 1", "0.01 to 0.999"]),
    Row("coverage of none", f"{SETS} --coverage 0", ["--coverage: found 0"]),
    Row("coverage in percent", f"{SETS} --coverage 90", ["--coverage: found 90"]),
    Row("score that is none", "conformal feats.h5 --score lac", ["--score", "lac"]),
    Row("threshold that is none", "conformal feats.h5 --threshold class", ["--threshold"]),
    Row("goal that is none", "conformal feats.h5 --goal rare", ["--goal", "rare"]),
    Row("share beyond one", f"{SETS} --share 2", ["--share: found 2"]),
    Row("sets in one fold", f"{SETS} --folds 1", ["--folds: found 1"]),
    Row("sets of train", f"{SETS} --split train",
        ["--split: found train, expected val, by cross-fitting, or test"]),
    Row("sets without val", f"conformal b.h5 {ONE}",
        ["b.h5: val: absent or empty; there are: train, test", "extract val"], NO_VAL),
    Row("sets of one class", f"conformal b.h5 {ONE}",
        ["b.h5: val: found images of class 4 alone"], ONE_CLASS),
    Row("sets of few images", "conformal b.h5 --score softmax --threshold class-wise",
        ["6 of 6 classes have fewer than the 9 val images", "in every set"], FEW, 0),
    Row("sets without test", f"conformal b.h5 {ONE} --split test", ["b.h5: test: absent or empty"],
        put("b.h5", test_features=None, test_labels=None)),
    Row("sets recalibrated on no file", f"{SETS} --recalibrate-on none.h5", ["none.h5"]),
    Row("sets recalibrated on no split", f"{SETS} --recalibrate-on b.h5:val", ["no split val"],
        NO_VAL),
    Row("sets that are there", SETS, ["feats.sets.json: exists"], command(SETS)),
    Row("sets over their features", f"{SETS} -o feats.h5 --overwrite", ["feats.h5"]),
    Row("run of no classifier", f"{SETS} --run tau=1", ["--run: found no --classifier"]),
    Row("sets of two classifiers", f"conformal a.h5 --classifier c.h5 {ONE}",
        ["a.h5: is a classifier file, and so is c.h5"],
        several(command("posthoc ncm feats.h5 -o a.h5"), command("posthoc ncm feats.h5 -o c.h5"))),
    Row("sets of no run", f"conformal c.h5 --run tau=9 {ONE}", ["--run: found 0 of"],
        command("posthoc tau-norm feats.h5 --sweep -o c.h5")),
    Row("sets of a head learned from val", f"conformal c.h5 {ONE}",
        ["bias learned from val: each fold is scored by a head fitted without it", "not proven"],
        command("posthoc bias feats.h5 --set penalty=1 -o c.h5"), 0),
    Row("sets of a classifier of others", f"{SETS} --classifier c.h5", ["c.h5: fitted on features"],
        several(put("b.h5", weight=np.ones((6, 8), np.float32)),
                command("posthoc ncm b.h5 -o c.h5"))),
    Row("sets of a text", f"{SETS} --classifier notes.txt", ["notes.txt"],
        file("notes.txt", "mine")),
]  # fmt: skip
