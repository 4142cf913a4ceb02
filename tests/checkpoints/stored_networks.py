"""Networks stored in the ways of several programs."""

import json
from collections import OrderedDict

import safetensors.torch
import torch
import torch.hub

from ltkit import architectures, checkpoints, datasets
from ltkit.settings import LoadSettings


def network(arch="digits_net", cosine=False, scale=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build(arch, 10, cosine=cosine, scale=scale)


def recipe(cosine=False, scale=1.0):
    dataset = datasets.load("digits_lt")
    return {"arch": "digits_net", "cosine": cosine, "scale": scale, "dataset": dataset.record}


def load(path, arch=None, **wanted):
    return lambda: checkpoints.load(path, LoadSettings(arch, **wanted))


def as_safetensors(path, net, half=False, **changes):
    tensors = {k: v.half() if half and v.is_floating_point() else v
               for k, v in net.state_dict().items()}  # fmt: skip
    entries = {
        "format": "ltkit-checkpoint", "format_version": 1, **recipe(),
        "mean": [0.5], "std": [0.25], "recipe": {"dataset": {"spec": "x"}}, **changes,
    }  # fmt: skip
    safetensors.torch.save_file(tensors, path, {k: json.dumps(v) for k, v in entries.items()})


def published(prefix="", head="linear"):
    """The state dict of a CIFAR ResNet as others write it."""
    names = {"backbone.": "", "head.": f"{head}."}
    found = OrderedDict()
    for name, tensor in network("resnet20").state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                found[prefix + theirs + name.removeprefix(ours)] = tensor
    return found
