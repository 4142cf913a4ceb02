"""Methods that train several experts, each with what it cannot take."""

from bad_inputs.picture_makers import pictures
from bad_inputs.rows import DIGITS, RGB, Row

RIDE = f"{RGB.replace(' ce', ' ride', 1)} pics:val=none"
MANY = RIDE.replace("resnet20", "resnet8_3experts_reduced")
SADE, WEIGHTS = (MANY.replace(" ride", f" {name}") for name in ("sade", "expert-weights"))
WHOLE = f"{DIGITS.replace(' ce', ' ride-distilled', 1)} --epochs 1"

EXPERTS = [
    Row("one expert that should differ from others", RIDE, ["--experts: found a network of one"],
        pictures()),
    Row("experts of a network without such a form", f"{RIDE} --experts 3",
        ["--experts: resnet20 has 1, and no form with 3", "resnet8", "--arch"], pictures()),
    Row("another number of experts than the network has", f"{MANY} --experts 4",
        ["--experts: resnet8_3experts_reduced has 3, and no form with 4"], pictures()),
    Row("experts of a network that nobody names",
        f"{DIGITS.replace(' ce', ' ride', 1).replace('--arch digits_net', '')} --experts 5",
        ["--experts: digits_net has 1, and no form with 5"]),
    Row("experts of cached features", "train ride feats.h5",
        ["METHOD ride: works on a whole network, found cached features"]),
    Row("number of experts of cached features", "train ce feats.h5 --experts 3",
        ["--experts: found a features file"]),
    Row("two experts for three losses", SADE.replace("_3", "_2"),
        ["--experts: found a network of 2, expected 3, one for each"], pictures()),
    Row("three losses of no weight",
        f"{SADE} --set softmax=0 --set balanced=0 --set inverse=0", ["softmax: found 0"],
        pictures()),
    Row("inverse prior to a power below 0", f"{SADE} --set tau=-1", ["tau: found -1"], pictures()),
    Row("weights of experts of nothing", f"{WEIGHTS} --set split=train",
        ["--keep-head: absent; expert-weights needs a trained network"], pictures()),
    Row("weights of one expert", f"{DIGITS.replace(' ce', ' expert-weights', 1)} --init m.pt "
        "--keep-head", ["--experts: found a network of one, which has nothing to weigh"]),
    Row("weights from images that are absent", f"{DIGITS.replace(' ce', ' expert-weights', 1)} "
        "--init m.pt --keep-head --set split=tset", ["no split tset; there are: train, val, test"]),
    Row("cosine head made of a linear one", f"{DIGITS} --init m.pt --keep-head --cosine",
        ["m.pt: --keep-head: found a linear head, expected a cosine one; leave cosine out"]),
    Row("head of an average of experts", "extract m.pt --data digits_lt --head weighted -o o.h5",
        ["found head.weight, the head of native checkpoints"]),
    Row("directions of a head whose rows have lengths",
        "export feats.h5 --to npz --directions -o o.npz",
        ["--directions: found --to, which holds rows as they are"]),
    Row("students of a recipe that no network has", f"{WHOLE} --set experts=5",
        ["--experts: digits_net has 1, and no form with 5"]),
    Row("class weights of a recipe after its end", f"{WHOLE} --set deferred=2",
        ["deferred: found 2", "from 0 to 1"]),
    Row("routers of a recipe that see nothing", f"{WHOLE} --set top=0", ["top: found 0"]),
    Row("number of experts of a recipe", f"{WHOLE} --experts 3",
        ["--experts: ride-distilled sets it for each of its stages"]),
    Row("diversity below 0", f"{MANY} --set diversity=-1", ["diversity: found -1"], pictures()),
    Row("spread of temperatures above 1", f"{MANY} --set spread=2", ["spread: found 2", "0 to 1"],
        pictures()),
    Row("temperature of a teacher of experts", f"{MANY} --set distill_temperature=0",
        ["distill_temperature: found 0"], pictures()),
    Row("margins of experts on a plain head's scale", f"{MANY} --set scale=-1",
        ["scale: found -1"], pictures()),
]  # fmt: skip
