"""Abstention and novelty: what is asked of heads in use."""

import numpy as np
from bad_inputs.makers import COUNTS, command, file, put, several
from bad_inputs.rows import Row

RISK = "analyze risk-coverage"
NEW = "analyze novelty feats.h5"
NAMES = np.array(list("abcdef"))


def others(**changes):
    """Features of the same width without a head."""
    return put("o.h5", weight=None, bias=None, **changes)


ABSTENTION = [
    Row("all handed over", f"{RISK} feats.h5 --budget 1", ["--budget: found 1", "0 to 0.99"]),
    Row("less than nothing handed over", f"{RISK} feats.h5 --budget -0.1", ["--budget", "-0.1"]),
    Row("a budget that is a word", f"{RISK} feats.h5 --budget few", ["--budget: found few"]),
    Row("no error wanted", f"{RISK} feats.h5 --risk 0", ["--risk: found 0", "above 0"]),
    Row("more than every error wanted", f"{RISK} feats.h5 --risk 2", ["--risk: found 2"]),
    Row("an error that is out of reach", f"{RISK} feats.h5 --risk 1e-9",
        ["--risk: found 1e-09, the balanced error is at least 0", "handed over"]),
    Row("budget and error", f"{RISK} feats.h5 --risk 0.1 --budget 0.1",
        ["--risk: found a budget, too"]),
    Row("rejector of no budget", f"{RISK} feats.h5 -o r.json",
        ["--output: found neither --budget nor --risk"]),
    Row("rejector in one fold", f"{RISK} feats.h5 --folds 1", ["--folds: found 1"]),
    Row("rejector by no known rule", f"{RISK} feats.h5 --method best", ["--method"]),
    Row("error of no known kind", f"{RISK} feats.h5 --risk 0.5 --of few", ["--of"]),
    Row("rejector without val", f"{RISK} b.h5",
        ["b.h5: val: absent or empty; there are: train, test"],
        put("b.h5", val_features=None, val_labels=None)),
    Row("rejector on a few images", f"{RISK} b.h5", ["b.h5: val: found 6 samples, expected 10"],
        put("b.h5", val_features=np.eye(6, 8, dtype=np.float32), val_labels=np.arange(6))),
    Row("rejector of one class", f"{RISK} b.h5", ["b.h5: found one class, expected two"],
        put("b.h5", train_labels=np.zeros(sum(COUNTS), int), val_labels=np.zeros(60, int),
            test_labels=np.zeros(120, int), weight=np.ones((1, 8)), bias=np.zeros(1))),
    Row("curves of no split", f"{RISK} feats.h5 --split dev", ["feats.h5: dev: absent or empty"]),
    Row("rejector over its features", f"{RISK} feats.h5 --budget 0.1 -o feats.h5 --overwrite",
        ["feats.h5"]),
    Row("rejector that is there", f"{RISK} feats.h5 --budget 0.1 -o r.json", ["r.json: exists"],
        file("r.json", "mine")),
    Row("curves that are there", f"{RISK} feats.h5 --csv c.csv", ["c.csv: exists"],
        file("c.csv", "mine")),
    Row("a run of no file", f"{RISK} feats.h5 --run rho=1", ["--run: found no --classifier"]),
    Row("one of several runs", f"{RISK} feats.h5 --classifier c.h5", ["tau", "--run"],
        command("posthoc tau-norm feats.h5 --sweep -o c.h5")),
    Row("rejector of a file that is none", f"{RISK} feats.h5 --classifier notes.txt",
        ["notes.txt"], file("notes.txt", "mine")),
    Row("rejector of another features' head", f"{RISK} feats.h5 --classifier c.h5",
        ["c.h5: fitted on features"],
        several(put("b.h5", bias=np.ones(6)), command("posthoc ncm b.h5 -o c.h5"))),
    Row("no image of a group to find a rejector on", f"{RISK} b.h5",
        ["note: no val sample of few classes: treated like the others"],
        put("b.h5", val_features=np.eye(12, 8, dtype=np.float32), val_labels=np.arange(12) % 4), 0),
    Row("a head that was chosen on val", f"{RISK} feats.h5 --classifier c.h5 --budget 0.2",
        ["note: c.h5 was chosen on val", "plug-in: hand over where"],
        command("posthoc logit-adjust feats.h5 -o c.h5"), 0),
]  # fmt: skip

NOVELTY = [
    Row("no outsiders", NEW, ["--outsiders: expected features of new classes"]),
    Row("outsiders of both kinds", f"{NEW} --outsiders o.h5 --hold-out 1",
        ["--outsiders: expected features of new classes"], others()),
    Row("outsiders that are not there", f"{NEW} --outsiders o.h5", ["o.h5"]),
    Row("outsiders in no features file", f"{NEW} --outsiders notes.txt", ["notes.txt"],
        file("notes.txt", "mine")),
    Row("outsiders of no split", f"{NEW} --outsiders o.h5:val", ["o.h5: no split val"],
        others(val_features=None, val_labels=None)),
    Row("outsiders of another width", f"{NEW} --outsiders o.h5",
        ["o.h5: found features of width 3, expected 8 as in feats.h5"],
        others(train_features=np.ones((sum(COUNTS), 3)), val_features=np.ones((60, 3)),
               test_features=np.ones((120, 3)))),
    Row("outsiders of another head", f"{NEW} --outsiders o.h5",
        ["o.h5: is of the network", "extract it with the same checkpoint"],
        put("o.h5", bias=np.ones(6, np.float32))),
    Row("outsiders that are known", "analyze novelty b.h5 --outsiders o.h5",
        ["o.h5: test: found samples of known classes alone"],
        several(put("b.h5", class_names=NAMES), others(class_names=NAMES))),
    Row("some outsiders that are known", "analyze novelty b.h5 --outsiders o.h5",
        ["note: 20 outsiders of known classes left out: f"],
        several(put("b.h5", class_names=NAMES), others(class_names=np.array(list("fghijk")))), 0),
    Row("outsiders without a name", f"{NEW} --outsiders o.h5",
        ["note: nothing says that o.h5 is of the network", "note: classes without names"],
        others(), 0),
    Row("no class held out", f"{NEW} --hold-out ,", ["--hold-out"]),
    Row("a class held out that is none", f"{NEW} --hold-out 6", ["--hold-out: found 6", "0 to 5"]),
    Row("a class held out twice", f"{NEW} --hold-out 1,1", ["--hold-out", "twice"]),
    Row("a name held out", f"{NEW} --hold-out cat", ["--hold-out: found 'cat'"]),
    Row("all but one class held out", f"{NEW} --hold-out 0,1,2,3,4",
        ["--hold-out: found 0, 1, 2, 3, 4", "all but two classes"]),
    Row("news among what was learned", f"{NEW} --hold-out 0 --split train",
        ["--split: found train", "name val or test"]),
    Row("news without train", "analyze novelty b.h5 --hold-out 0", ["b.h5: no split train"],
        put("b.h5", train_features=None, train_labels=None, train_counts=np.array(COUNTS))),
    Row("news by no nearest image", f"{NEW} --hold-out 0 --k 0", ["--k: found 0"]),
    Row("every image kept", f"{NEW} --hold-out 0 --kept 1", ["--kept: found 1", "0.5 to 0.999"]),
    Row("news of few replicates", f"{NEW} --hold-out 0 --replicates 9", ["--replicates: found 9"]),
    Row("news that are there", f"{NEW} --hold-out 0 --csv c.csv", ["c.csv: exists"],
        file("c.csv", "mine")),
    Row("news beside classes of one image each", "analyze novelty b.h5 --hold-out 0",
        ["train: found no spread within the classes"],
        put("b.h5", train_features=np.eye(6, 8, dtype=np.float32), train_labels=np.arange(6),
            train_counts=np.array(COUNTS))),
]  # fmt: skip
