"""Checkpoints of several containers that the tests make, and what they look at."""

import warnings
import zipfile

import numpy as np
import torch
from family_files import C, backbone, randn
from torch import nn

from ltkit import architectures, checkpoints
from ltkit.exports.checkpoint import export_into
from ltkit.records import Correction
from ltkit.settings import LoadSettings

TRUSTED = LoadSettings(trust_code=True)


def published(prefix="", head="fc", seed=0):
    """The tensors of a CIFAR ResNet-20 with a linear head, as others write them."""
    state = {f"{prefix}{n}": t.clone() for n, t in backbone("resnet20", seed).state_dict().items()}
    return state | {f"{head}.weight": randn(C, 64), f"{head}.bias": randn(C, seed=2)}


def logits_of(state, images, prefix="", head="fc"):
    """The published network's logits from its raw tensors."""
    body = architectures.build("resnet20", 1).backbone.eval()
    own = body.state_dict()
    body.load_state_dict({name: state[prefix + name].to(own[name].dtype) for name in own})
    return body(images) @ state[f"{head}.weight"].float().T + state[f"{head}.bias"].float()


def correction(base, free=True):
    """New rows for the last two classes; where the head has no bias, without one."""
    rng, rows = np.random.default_rng(0), np.array([C - 2, C - 1])
    weight = rng.normal(size=(1, 2, base.feature_size)).astype(np.float32)
    bias = rng.normal(size=(1, 2)).astype(np.float32) if free else np.zeros((1, 2), np.float32)
    return Correction("made", rows, weight, bias, ({},))


def export(path, output, wanted=None, free=True):
    """Write a correction into a checkpoint; return the corrected linear classifier."""
    model = checkpoints.load(path, wanted)
    base = model.head.fold()
    new = correction(base, free)
    export_into(path, new, 0, output, made_from=model.digest, wanted=wanted)
    return new.classifier(base, 0)


def reproduced(model, classifier, images):
    features, logits = model.network.features_and_logits(images)
    expected = classifier.logits(features.detach().numpy())
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-4 * np.abs(expected).max())


def rezip(path, change, compress=zipfile.ZIP_STORED):
    """Write a zip again; `change` takes a member's name and bytes and gives new ones, or None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in members.items():
            if (new := change(name, content)) is not None:
                archive.writestr(name, new)


# Programs.


class Small(nn.Module):
    """A small network whose end is written in different ways; `head` has the (C, 6) weight."""

    def __init__(self, end="linear", channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.end = end
        self.drop = nn.Dropout(0.5)
        bias = not end.endswith("without bias")
        if "convolution" in end:
            self.head = nn.Conv2d(6, C, 1, bias=bias)
        elif end != "columns":
            self.head = nn.Linear(6, C, bias=bias)
        else:
            self.weight, self.shift = nn.Parameter(randn(6, C)), nn.Parameter(randn(C))
        self.eval()

    def features(self, images):
        return torch.relu(self.bn(self.conv(images))).mean((2, 3))

    def forward(self, images):
        f = self.drop(self.features(images))
        if "convolution" in self.end:
            return self.head(f[:, :, None, None]).flatten(1)
        if self.end == "columns":
            return self.shift + f @ self.weight
        if self.end == "addmm":
            return torch.addmm(self.head.bias, f, self.head.weight.t())
        if self.end == "matmul":
            return torch.matmul(f, self.head.weight.t()) + self.head.bias
        if self.end == "probabilities":
            return self.head(f).softmax(1)
        if self.end == "tuple":
            return self.head(f), f
        if self.end == "dictionary":
            return {"logits": self.head(f), "features": f}
        return self.head(f)

    def logits(self, images):
        weight = self.weight.T if self.end == "columns" else self.head.weight.flatten(1)
        bias = self.shift if self.end == "columns" else self.head.bias
        return self.features(images) @ weight.T + (0 if bias is None else bias)


ENDS = (
    "linear", "linear without bias", "addmm", "matmul", "columns", "convolution",
    "convolution without bias", "probabilities", "tuple", "dictionary",
)  # fmt: skip


def small(end="linear", half=False, channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Small(end, channels)
        for tensor in (net.bn.running_mean, net.bn.bias):
            tensor.data.normal_()
    return net.half() if half else net


def quietly(make):
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        return make()


def torchscript(net, path, frozen=False, size=16):
    """Trace, since a script does not take the names of ends."""
    example = torch.zeros(2, net.conv.in_channels, size, size, dtype=net.conv.weight.dtype)

    def make():
        program = torch.jit.trace(net, example, strict=False)
        torch.jit.save(torch.jit.freeze(program) if frozen else program, path,
                       _extra_files={"labels.txt": b"cat"})  # fmt: skip

    quietly(make)


def exported(net, path, batch=None, size=16):
    images = torch.zeros(batch or 2, net.conv.in_channels, size, size, dtype=net.conv.weight.dtype)
    varying = None if batch else ({0: torch.export.Dim("batch")},)
    quietly(
        lambda: torch.export.save(torch.export.export(net, (images,), dynamic_shapes=varying), path)
    )


MAKERS = {"torchscript": torchscript, "torch-export": exported}
