"""Methods that train several experts, each with what it cannot take."""

from bad_inputs.picture_makers import pictures
from bad_inputs.rows import DIGITS, RGB, Row

RIDE = f"{RGB.replace(' ce', ' ride', 1)} pics:val=none"
MANY = RIDE.replace("resnet20", "resnet8_3experts_reduced")

EXPERTS = [
    Row("one expert that should differ from others", RIDE, ["--experts: found a network of one"],
        pictures()),
    Row("experts of a network without such a form", f"{RIDE} --experts 3",
        ["--experts: resnet20 has 1, and no form with 3", "resnet8", "--arch"], pictures()),
    Row("another number of experts than the network has", f"{MANY} --experts 4",
        ["--experts: resnet8_3experts_reduced has 3, and no form with 4"], pictures()),
    Row("experts of grey pictures", f"{DIGITS.replace(' ce', ' ride', 1)}".replace(
        "--arch digits_net", ""), ["--experts: digits_net has 1, and no form with 3"]),
    Row("experts of cached features", "train ride feats.h5",
        ["METHOD ride: trains the features, found cached features"]),
    Row("number of experts of cached features", "train ce feats.h5 --experts 3",
        ["--experts: found a features file"]),
    Row("diversity below 0", f"{MANY} --set diversity=-1", ["diversity: found -1"], pictures()),
    Row("spread of temperatures above 1", f"{MANY} --set spread=2", ["spread: found 2", "0 to 1"],
        pictures()),
    Row("temperature of a teacher of experts", f"{MANY} --set distill_temperature=0",
        ["distill_temperature: found 0"], pictures()),
    Row("margins of experts on a plain head's scale", f"{MANY} --set scale=-1",
        ["scale: found -1"], pictures()),
]  # fmt: skip
