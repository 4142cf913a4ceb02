"""Studies: their names, what they work on, and where they write."""

import numpy as np
from bad_inputs import makers
from bad_inputs.makers import file, folder, put, several
from bad_inputs.rows import Row

NO_FEW = put("b.h5", train_counts=np.array([*makers.COUNTS[:4], 200, 200]))

STUDIES = [
    Row("study that is none", "study theorem", ["theorem: unknown name", "theorems"]),
    Row("study without a name", "study", ["Missing argument 'NAME'", "ltkit study --help"]),
    Row("study of absent features", "study alphanet-appendix no.h5", ["no.h5"]),
    Row("study with features that it does not read", "study theorems feats.h5",
        ["found features, expected none"]),
    Row("study without images", "study toy-majority", ["needs images", "--data"]),
    Row("study with images that it does not read", "study theorems --data digits_lt",
        ["found images, expected none"]),
    Row("study of a long-tailed set", "study toy-minority --data digits_lt:ir=100",
        ["found a class of 1 training images"]),
    Row("study without a rare class", "study alphanet-appendix b.h5", ["no few-shot class"],
        NO_FEW),
    Row("study into a file", "study theorems -o f", ["f: is not a folder"], file("f", "mine")),
    Row("study into a folder of other files", "study theorems -o d --overwrite",
        ["d: found files but no points.json"], several(folder("d"), file("d/mine", "mine"))),
    Row("study into no folder", "study theorems -o no/such", ["no: no such folder"]),
    Row("study with points that are none", "study theorems -o d --resume",
        ["points.json", "not known to be"], several(folder("d"), file("d/points.json", "{"))),
    Row("shard before the first", "study theorems --shard 0/4", ["--shard: found 0/4", "i/n"]),
    Row("shard without a number", "study theorems --shard a/b", ["--shard: found a/b", "i/n"]),
    Row("shard that starts again", "study theorems --shard 1/2 --overwrite",
        ["--overwrite: a shard", "leave it out"]),
    Row("shard's points that are none", "study theorems -o d --shard 1/2",
        ["points.shard-2-of-2.json", "not known to be"],
        several(folder("d"), file("d/points.shard-2-of-2.json", "{"))),
    Row("shard of a command without parts", "evaluate feats.h5 --shard 1/2", ["--shard"]),
]  # fmt: skip
