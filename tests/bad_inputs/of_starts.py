"""Starts from a checkpoint, and contrastive methods, each with what it cannot take."""

from contextlib import suppress
from pathlib import Path

import torch
from bad_inputs import torch_makers
from bad_inputs.makers import nothing
from bad_inputs.picture_makers import pictures
from bad_inputs.rows import DIGITS, OWN, RGB, Row
from PIL import Image

from ltkit import architectures, datasets
from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training import runs

ONE = f"{DIGITS} --epochs 1"
DISTILL, SSD, SCALES = (ONE.replace("ce", name, 1) for name in ("distill", "ssd", "learned-scales"))
PACO, LIFTED, OLTR = (ONE.replace("ce", name, 1) for name in ("paco", "lifted", "oltr"))
TDE = ONE.replace("ce", "tde", 1)
LPA = ONE.replace("ce", "lpa", 1) + " --set queue=0"


def deeper():
    """Write ``bad.pt``: the weights of another network."""
    torch.save(architectures.build("resnet20", 10).state_dict(), "bad.pt")


def fewer():
    """Write ``bad.pt``: a network of other classes."""
    torch.save(
        torch_makers.content(num_classes=7)
        | {"state_dict": architectures.build("digits_net", 7).state_dict()},
        "bad.pt",
    )


def alone():
    """Write ``bad.pt``: a backbone without a head."""
    torch.save(architectures.build("resnet20", 1).backbone.state_dict(), "bad.pt")


def singles():
    """Make two classes of one picture each."""
    for name in ("ant", "bee"):
        Path("pics", name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (len(name), 0, 0)).save(f"pics/{name}/0.png")


def stopped():
    """Leave the state of a run with another queue at ``o.pt.partial``."""

    def stop(progress):
        raise KeyboardInterrupt

    digits = datasets.load("digits_lt", val="holdout")
    settings = TrainSettings(epochs=1)
    plan = TrainPlan("paco", {"queue": 150})
    with suppress(KeyboardInterrupt):
        runs.train_networks(
            digits, plan, settings, Path("o.pt"), arch="digits_net", report=lambda path: stop
        )


STARTS = [
    Row("start that is absent", f"{ONE} --init absent.pt", ["absent.pt"]),
    Row("start of another network", f"{ONE} --init bad.pt",
        ["bad.pt: --init: found resnet20, expected the weights of digits_net", "--arch"], deeper),
    Row("start with a head of other classes", f"{ONE} --init bad.pt --keep-head",
        ["bad.pt: --keep-head: found a head of 7 classes, expected 10"], fewer),
    Row("head of a backbone alone", f"{ONE} --init bad.pt --keep-head",
        ["--keep-head: bad.pt: found a backbone without a head"], alone),
    Row("head of nothing", f"{ONE} --keep-head", ["--keep-head: found no checkpoint"]),
    Row("last block of nothing", f"{ONE} --train last-block",
        ["--train: last-block: found no checkpoint"]),
    Row("last block of none", f"{ONE} --init m.pt --train last-block",
        ["--train: last-block: digits_net has no residual blocks"]),
    Row("features file that starts from a checkpoint", "train ce feats.h5 --init m.pt",
        ["--init: found 'm.pt'", "goes with --data"]),
    Row("queue larger than the data", PACO, ["--set queue: found 1024", "the training images"]),
    Row("queue smaller than a batch", f"{PACO} --set queue=9",
        ["--set queue: found 9, expected from 128, the batch size"]),
    Row("queue restored with another size", f"{PACO} --set queue=200 --resume -o o.pt",
        ["o.pt.partial: --set: found {'queue': 150}, expected {'queue': 200}"], stopped),
    Row("temperature of a contrast", f"{PACO} --set temperature=-1", ["temperature: found -1"]),
    Row("projection too narrow for its predictor",
        f"{PACO.replace('paco', 'simsiam')} --set size=3", ["size: found 3", "at least 4"]),
    Row("queue of MoCo larger than the data", PACO.replace("paco", "moco"),
        ["--set queue: found 1024", "the training images"]),
    Row("momentum of BYOL", f"{PACO.replace('paco', 'byol')} --set momentum=1.5",
        ["momentum: found 1.5", "from 0 to 1"]),
    Row("targets that come after the run", f"{PACO.replace('paco', 'tsc')} --set start=1.5",
        ["start: found 1.5", "from 0 to 1"]),
    Row("distillation without a teacher", f"{DISTILL}",
        ["--teacher: absent; distill learns from a checkpoint"]),
    Row("teacher of a loss without one", f"{ONE} --teacher m.pt",
        ["--teacher: ce takes none; distill and ride do"]),
    Row("teacher of other classes", f"{DISTILL} --teacher bad.pt",
        ["bad.pt: --teacher: found a head of 7 classes, expected 10"], fewer),
    Row("teacher without a head", f"{DISTILL} --teacher bad.pt",
        ["bad.pt: --teacher: found a backbone without a head"], alone),
    Row("teacher of pictures in colour", f"{DISTILL} --teacher bad.pt",
        ["bad.pt: --teacher: found a network of 3 channels, the images have 1"], deeper),
    Row("teacher of cached features", "train ce feats.h5 --teacher m.pt",
        ["--teacher: found a features file"]),
    Row("nothing to distill", f"{DISTILL} --teacher m.pt --set soft=0",
        ["soft: found 0, and labels 0"]),
    Row("scales of nothing", f"{SCALES}",
        ["--keep-head: absent; learned-scales needs a trained network"]),
    Row("scales of a new head", f"{SCALES} --init m.pt",
        ["--keep-head: absent; learned-scales needs a trained network"]),
    Row("scales of a cosine head", f"{SCALES} --init m.pt --keep-head --cosine", ["cosine"]),
    Row("recipe and method", f"{ONE} --recipe ssd", ["--recipe: found METHOD ce and a recipe"]),
    Row("unknown recipe", f"{ONE.replace(' ce', '', 1)} --recipe sdd",
        ["--recipe: found 'sdd', unknown", "ssd"]),
    Row("recipe of cached features", "train ssd feats.h5",
        ["METHOD ssd: trains networks, found cached features"]),
    Row("recipe with an option of one run", f"{SSD} --sampler class-balanced",
        ["--sampler: ssd sets it for each of its stages"]),
    Row("unknown parameter of a recipe", f"{SSD} --set tau=1",
        ["--set tau: ssd has no parameter of that name"]),
    Row("queue of a recipe larger than the data", SSD,
        ["--set queue: found 1024", "the training images"]),
    Row("temperature of a recipe's last stage", f"{SSD} --set queue=200 --set temperature=0",
        ["temperature: found 0"]),
    Row("recipe resumed from nothing", f"{SSD} --set queue=200 --resume", ["nothing to resume"]),
    Row("statistics that are neither held nor shifted",
        f"{ONE.replace('ce', 'mislas', 1)} --set batch_norm=moved",
        ["batch_norm: found 'moved'", "shifted"]),
    Row("smoothing above all", f"{ONE.replace('ce', 'mislas', 1)} --set eps_head=2",
        ["eps_head: found 2", "from 0 to 1"]),
    Row("batches of a second stage that do not divide",
        f"{ONE.replace('ce', 'mislas', 1)} --set per_class=5", ["--set per_class: found 5"]),
    Row("mixing of a recipe", f"{ONE.replace('ce', 'mislas', 1)} --mix cutmix",
        ["--mix: mislas sets it for each of its stages"]),
    Row("unlabelled images without a teacher", f"{ONE} --unlabelled digits_lt:ir=1",
        ["--teacher: absent; unlabelled images take their labels from a checkpoint"]),
    Row("unlabelled images that are the dataset's own",
        f"{ONE} --unlabelled digits_lt --teacher m.pt",
        ["--unlabelled: digits_lt: found", "of them of the dataset itself", "expected others"]),
    Row("unlabelled images of nothing", f"{ONE} --unlabelled nowhere --teacher m.pt",
        ["nowhere: neither a dataset nor a path"]),
    Row("an empty folder of unlabelled images", f"{ONE} --unlabelled more --teacher m.pt",
        ["--unlabelled: more: found 0 images"], lambda: Path("more").mkdir()),
    Row("unlabelled images in colour", f"{ONE} --unlabelled pics --teacher m.pt",
        ["--unlabelled: found images of 8 x 8 pixels in 3 channels", "in 1 channel"], singles),
    Row("unlabelled images of a teacher of others",
        f"{ONE} --unlabelled digits_lt:ir=1 --teacher bad.pt",
        ["bad.pt: --teacher: found a head of 7 classes, expected 10"], fewer),
    Row("unlabelled images of cached features", "train ce feats.h5 --unlabelled digits_lt",
        ["--unlabelled: found a features file, expected --data"]),
    Row("unlabelled images of a recipe", f"{SSD} --unlabelled digits_lt:ir=1",
        ["--unlabelled: ssd sets it for each of its stages"]),
    Row("turns of cached features", "train ssp feats.h5",
        ["METHOD ssp: works on a whole network, found cached features", "train it on images"]),
    Row("unknown second view", f"{PACO} --set second_view=simcrl",
        ["second_view: found 'simcrl'", "simclr"]),
    Row("views of cached features", "train paco feats.h5",
        ["METHOD paco: sees further views of images", "train it on images"]),
    Row("images of a class that do not divide a batch", f"{LIFTED} --set per_class=5",
        ["--set per_class: found 5, expected from 2 to 64 images of a class, a divisor of 128"]),
    Row("a batch without two images of a class", f"{LIFTED} --set per_class=1",
        ["per_class: found 1", "at least 2"]),
    Row("a batch of one class", f"{LIFTED} --set per_class=128", ["--set per_class: found 128"]),
    Row("classes of one image each", f"{RGB} pics:val=none".replace("ce", "lifted", 1),
        ["training images: found no class with two", "another loss"], singles),
    Row("more distances than a class has", f"{LIFTED.replace('lifted', 'range')} --set k=7",
        ["--set k: found 7, expected at most 6, the pairs of 4 images of a class"]),
    Row("distances of cached features", "train range feats.h5",
        ["METHOD range: works on a whole network, found cached features", "train it on images"]),
    Row("no epoch for the memory", f"{LIFTED.replace('lifted', 'oltr')} --set plain=1",
        ["--set plain: found 1, which is 1 of 1 epochs"]),
    Row("memory of a cosine head", f"{OLTR} --cosine", ["--cosine: the hallucinator"]),
    Row("branches of a network without", ONE.replace("ce", "bbn", 1),
        ["--arch: bbn trains two branches", "expected resnet32_two_branch"]),
    Row("unknown strategy", f"{ONE.replace('ce', 'bbn', 1)} --set strategy=cubic",
        ["strategy: found 'cubic'", "cosine"]),
    Row("branches of cached features", "train bbn feats.h5",
        ["METHOD bbn: works on a whole network, found cached features"]),
    Row("parts that do not divide the features", f"{TDE} --set heads=3",
        ["--set heads: found 3, expected a divisor of 64"]),
    Row("causal head that is a cosine head", f"{TDE} --cosine",
        ["--cosine: tde has a head of its own"]),
    Row("causal head that starts from another", f"{TDE} --init m.pt --keep-head",
        ["--keep-head: tde has a head of its own"]),
    Row("memory of the mean without end", f"{TDE} --set mu=1", ["mu: found 1", "from 0 to"]),
    Row("causal head on cached features", "train tde feats.h5",
        ["METHOD tde: works on a whole network, found cached features"]),
    Row("effect taken off backwards", "posthoc tde feats.h5 --set alpha=-1", ["alpha: found -1"]),
    Row("effect without a mean", "posthoc tde feats.h5 --set alpha=1",
        ["note: no moving mean of the features in the file"], nothing, 0),
    Row("whole model of a plain one", f"{OWN} --head meta",
        ["--head meta: found head.weight", "leave --head out"]),
    Row("a warm-up that never ends", f"{LPA} --set warmup=1",
        ["--set warmup: found 1, expected fewer than the run's 1 epochs", "alpha=0"]),
    Row("more prototypes than local vectors", f"{LPA} --set warmup=0 --set prototypes=100000",
        ["prototypes: found 100000, expected from 1 to ", "set fewer"]),
    Row("attributes of a network of experts",
        "train lpa --data pics --arch resnet32_2experts --epochs 1 --device cpu --set queue=0 "
        "--set warmup=0", ["feature map already pooled", "resnet32"], pictures()),
    Row("what the contrast is on", f"{LPA} --set contrast_on=logits",
        ["contrast_on: found 'logits'", "projection"]),
    Row("mixing of views", f"{PACO} --set queue=200 --mix mixup", ["--mix: this loss"]),
]  # fmt: skip
