"""Bundles and their checks."""

import numpy as np
from bad_inputs.makers import command, file, folder, put, several
from bad_inputs.rows import Row

BUNDLE = "posthoc bias feats.h5 -q"
SHIPPED = several(command(BUNDLE), command("export feats.bias.h5 --bundle shipped -q"))
EXPORT = "export feats.bias.h5"

SHIPPING = [
    Row("bundle where something is", f"{EXPORT} --bundle shipped",
        ["shipped: exists", "name another folder"], several(command(BUNDLE), folder("shipped"))),
    Row("bundle in no folder", f"{EXPORT} --bundle no/shipped", ["no: no such folder"],
        command(BUNDLE)),
    Row("bundle and a file", f"{EXPORT} --bundle shipped -o x.pt", ["--output: found --bundle"],
        command(BUNDLE)),
    Row("bundle and a form", f"{EXPORT} --bundle shipped --to npz", ["--bundle DIR"],
        command(BUNDLE)),
    Row("bundle of directions", f"{EXPORT} --bundle shipped --directions", ["--directions: found"],
        command(BUNDLE)),
    Row("rule without a bundle", f"{EXPORT} --to npz -o x.npz --rule r.json",
        ["--rule: goes into a bundle"], command(BUNDLE)),
    Row("rule that is none", f"{EXPORT} --bundle shipped --rule r.json",
        ["r.json: is not JSON"], several(command(BUNDLE), file("r.json", "not"))),
    Row("check of no bundle", "check shipped feats.h5", ["found no bundle.json"],
        folder("shipped")),
    Row("check of a changed bundle", "check shipped feats.h5", ["card.md: digest"],
        several(SHIPPED, file("shipped/card.md", "fine"))),
    Row("check on another model", "check shipped b.h5", ["b.h5: head: found"],
        several(SHIPPED, put("b.h5", bias=np.ones(6, np.float32)))),
    Row("check of no such figure", "check shipped feats.h5 --figure few",
        ["--figure: found few", "accuracy few"], SHIPPED),
    Row("check with alarms all the time", "check shipped feats.h5 --false-alarm 0.7",
        ["--false-alarm: found 0.7"], SHIPPED),
    Row("check on no split", "check shipped feats.h5 --split dev", ["no split dev"], SHIPPED),
]  # fmt: skip
