"""Adapting to a prior that has changed."""

import numpy as np
from bad_inputs.makers import COUNTS, arrays, command, file, put, several
from bad_inputs.rows import Row

ADAPT = "posthoc adapt feats.h5 --to"
SHIFTED = put("b.h5", test_features=3 * arrays()["test_features"])
NAMES = np.array([f"c{n}" for n in range(6)])

ADAPTATION = [
    Row("adapting to nothing", "posthoc adapt feats.h5", ["--to: absent", "prod.h5:test"]),
    Row("features from the field of another method", "posthoc ncm feats.h5 --to feats.h5",
        ["--to and --anyway: are of adapt, found ncm"]),
    Row("insisting with another method", "posthoc ncm feats.h5 --anyway", ["found ncm"]),
    Row("a sweep of adapt", f"{ADAPT} feats.h5 --sweep", ["--sweep: adapt has none"]),
    Row("seeds of adapt", f"{ADAPT} feats.h5 --seeds 2", ["--seeds: adapt has none"]),
    Row("estimated counts of adapt", f"{ADAPT} feats.h5 --counts estimate",
        ["--counts: adapt has none"]),
    Row("adapting to no file", f"{ADAPT} none.h5", ["none.h5"]),
    Row("adapting to a text", f"{ADAPT} notes.h5", ["notes.h5"], file("notes.h5", "mine")),
    Row("adapting to val", f"{ADAPT} feats.h5:val", ["feats.h5: val: is what", "calibrated on"]),
    Row("adapting to no split", f"{ADAPT} b.h5:test", ["b.h5: no split test", "train, val"],
        put("b.h5", test_features=None, test_labels=None)),
    Row("adapting to another model", f"{ADAPT} b.h5", ["b.h5: head: found", "another model"],
        put("b.h5", weight=np.ones((6, 8)))),
    Row("adapting to other classes", f"{ADAPT} b.h5", ["b.h5: found 7 classes of 8 features"],
        put("b.h5", train_counts=np.array([*COUNTS, 5]), weight=np.ones((7, 8)),
            bias=np.zeros(7))),
    Row("adapting to classes of other names", "posthoc adapt b.h5 --to c.h5",
        ["c.h5: class names: found 0 of the 6 of b.h5", "--classes"],
        several(put("b.h5", class_names=NAMES), put("c.h5", class_names=np.char.upper(NAMES)))),
    Row("estimator that is none", f"{ADAPT} feats.h5 --set estimator=ems",
        ["estimator: found 'ems'", "em"]),
    Row("parameter that adapt has not", f"{ADAPT} feats.h5 --set tau=1", ["--set tau", "adapt"]),
    Row("strength below 0", f"{ADAPT} feats.h5 --set strength=-1", ["strength: found -1"]),
    Row("level of 1", f"{ADAPT} feats.h5 --set significance=1", ["significance: found 1"]),
    Row("few draws of a prior", f"{ADAPT} feats.h5 --set replicates=9", ["replicates: found 9"]),
    Row("adapting without val", "posthoc adapt b.h5 --to b.h5", ["no val split"],
        put("b.h5", val_features=None, val_labels=None)),
    Row("adapting one class", "posthoc adapt b.h5 --to b.h5", ["val: found samples of 1 class"],
        put("b.h5", val_labels=np.zeros(60, int))),
    Row("adapting to another shift", f"{ADAPT} b.h5",
        ["--to: b.h5:test: differs in more than how often"], SHIFTED),
    Row("adapting to another shift all the same", f"{ADAPT} b.h5 --anyway",
        ["adapted all the same", "wrote feats.adapt.h5"], SHIFTED, 0),
    Row("an adapted classifier that is there", f"{ADAPT} feats.h5", ["feats.adapt.h5: exists"],
        command(f"{ADAPT} feats.h5")),
    Row("adapting over the field's features", f"{ADAPT} b.h5 -o b.h5 --overwrite", ["b.h5"],
        put("b.h5")),
]  # fmt: skip
