"""Small networks of five origins with random weights, and eight ways in which people save them.

Each origin has its own library's preparation of images beside it, so that what `ltkit` makes of a
file can be compared with something that shares nothing with it.
"""

import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

sys.path.append(str(Path(__file__).parents[1] / "tests" / "extras"))

import missing_operators  # noqa: F401 - lets torchvision be imported beside a torch for the CPU

CLASSES = ("ant", "bee", "cat", "dog", "elk")
SIDE = 32
"""Of the pictures, and of those that the CIFAR ResNet and the ViT take."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

OWN = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=5, width=12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 4, 2), nn.BatchNorm2d(width), nn.GELU())
        self.mix = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.answer = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.answer(torch.relu(self.norm(self.mix(self.stem(x)))).mean((2, 3)))
"""


class Block(nn.Module):
    """A block of a CIFAR ResNet, with the shortcut that has no weights."""

    def __init__(self, planes: int, width: int) -> None:
        """Make the two convolutions."""
        super().__init__()
        self.stride = width // planes
        self.conv1 = nn.Conv2d(planes, width, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways."""
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            more = x.shape[1] // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
        return functional.relu(out + x)


class CifarResNet20(nn.Module):
    """ResNet-20 for CIFAR after He et al. 2016, section 4.2, with the names that are usual."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        """Make three stages of three blocks."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32), *(Block(32, 32) for _ in range(2)))
        self.layer3 = nn.Sequential(Block(32, 64), *(Block(64, 64) for _ in range(2)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images of 32 pixels."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


@dataclass(frozen=True)
class Origin:
    """Where a network comes from.

    make: the network with random weights.
    prepare: a PIL image to its input, as its own library does it.
    options: what the user has to say where the file alone says too little; the line that refuses
        it has to name the first of them.
    """

    make: Callable[[], nn.Module]
    prepare: Callable[[nn.Module], Callable[[Image.Image], Tensor]]
    options: tuple[str, ...] = ()


def make_torchvision() -> nn.Module:
    """Return torchvision's ResNet-18."""
    from torchvision.models import resnet18

    return resnet18(num_classes=len(CLASSES))


def make_timm() -> nn.Module:
    """Return timm's ResNet-10-T."""
    import timm

    return timm.create_model("resnet10t", num_classes=len(CLASSES))


def make_own() -> nn.Module:
    """Return a network of one's own, from own_net.py in the current folder."""
    from own_net import Net

    return Net()


def make_transformers() -> nn.Module:
    """Return transformers' ViT with two layers."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=SIDE, patch_size=8, initializer_range=0.5,
        id2label=dict(enumerate(CLASSES)), label2id={n: i for i, n in enumerate(CLASSES)},
    )  # fmt: skip
    return ViTForImageClassification(config)


def usual(resize: int | None) -> Callable[[nn.Module], Callable[[Image.Image], Tensor]]:
    """Return torchvision's usual preparation; without a size of images as they are."""

    def made(model: nn.Module) -> Callable[[Image.Image], Tensor]:
        from torchvision import transforms as t

        steps = [] if resize is None else [t.Resize(resize), t.CenterCrop(224)]
        return t.Compose([*steps, t.ToTensor(), t.Normalize(*IMAGENET)])

    return made


def prepared_by_timm(model: nn.Module) -> Callable[[Image.Image], Tensor]:
    """Return timm's own preparation."""
    from timm.data import create_transform, resolve_data_config

    return create_transform(**resolve_data_config({}, model=model))


def prepared_by_transformers(model: nn.Module) -> Callable[[Image.Image], Tensor]:
    """Return transformers' own preparation."""
    return lambda image: processor()(image, return_tensors="pt")["pixel_values"][0]


def processor() -> Any:
    """Return transformers' processor for the ViT."""
    from transformers import ViTImageProcessor

    return ViTImageProcessor(size={"height": SIDE, "width": SIDE})


ORIGINS = {
    "torchvision": Origin(make_torchvision, usual(256)),
    "timm": Origin(make_timm, prepared_by_timm, ("--arch", "timm:resnet10t")),
    "own module": Origin(make_own, usual(256), ("--model", "own_net:Net")),
    "CIFAR ResNet": Origin(CifarResNet20, usual(None)),
    "transformers": Origin(
        make_transformers, prepared_by_transformers,
        ("--model", "transformers:ViTForImageClassification.from_pretrained",
         "--model-arg", "pretrained_model_name_or_path=config_folder",
         "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"),
    ),
}  # fmt: skip


@dataclass
class Saved:
    """A checkpoint: the file, and the network whose logits are to come out.

    note: what must be said of it, where something is left out.
    """

    path: Path
    model: nn.Module
    note: str = ""


def bare(model: nn.Module, path: Path) -> Saved:
    """Save the state dict."""
    torch.save(model.state_dict(), path)
    return Saved(path, model)


def with_optimizer(model: nn.Module, path: Path) -> Saved:
    """Save as torch's tutorial does, with the momentum of every weight."""
    optimizer = stepped(model)
    content = {"epoch": 3, "model_state_dict": model.state_dict(),
               "optimizer_state_dict": optimizer.state_dict(), "loss": 0.5}  # fmt: skip
    torch.save(content, path)
    return Saved(path, model)


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer with a state, whose step changed nothing."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return optimizer


def data_parallel(model: nn.Module, path: Path) -> Saved:
    """Save the state dict of a network in DataParallel."""
    torch.save({"state_dict": nn.DataParallel(model).state_dict(), "epoch": 3}, path)
    return Saved(path, model)


def compiled(model: nn.Module, path: Path) -> Saved:
    """Save the state dict of what torch.compile gives."""
    with warnings.catch_warnings():  # of Python, that its own torch.jit is old
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.save(torch.compile(model).state_dict(), path)
    return Saved(path, model)


def lightning(model: nn.Module, path: Path) -> Saved:
    """Save as Lightning does, the network under ``model``, and a loss with weights beside it."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    state["criterion.weight"] = torch.ones(len(CLASSES))
    path = path.with_suffix(".ckpt")
    content = {
        "epoch": 3, "global_step": 300, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "loops": {}, "callbacks": {}, "optimizer_states": [stepped(model).state_dict()],
        "lr_schedulers": [], "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "num_classes": len(CLASSES)},
    }  # fmt: skip
    torch.save(content, path)
    return Saved(path, model, "left out: 1 tensors of criterion")


def safetensors(model: nn.Module, path: Path) -> Saved:
    """Save the state dict as safetensors; transformers' networks as a folder, as they are."""
    from safetensors.torch import save_file

    if hasattr(model, "save_pretrained"):
        folder = path.with_suffix("")
        model.save_pretrained(folder)
        processor().save_pretrained(folder)
        return Saved(folder, model)
    path = path.with_suffix(".safetensors")
    save_file(model.state_dict(), path)
    return Saved(path, model)


def averaged(model: nn.Module, path: Path) -> Saved:
    """Save the averaged weights, which scripts evaluate with, beside the raw ones."""
    average = copy.deepcopy(model)
    for value in average.state_dict().values():
        if value.is_floating_point():
            value.mul_(0.9)
    torch.save({"model": model.state_dict(), "model_ema": average.state_dict(), "epoch": 3}, path)
    return Saved(path, average, "weights: ema taken; --weights raw takes others")


def whole(model: nn.Module, path: Path) -> Saved:
    """Save the module itself, which only its code can read."""
    torch.save(model, path)
    return Saved(path, model)


WAYS: dict[str, Callable[[nn.Module, Path], Saved]] = {
    "`torch.save(model.state_dict())`": bare,
    "`model_state_dict` beside `optimizer_state_dict`": with_optimizer,
    "`DataParallel`: `module.`": data_parallel,
    "`torch.compile`: `_orig_mod.`": compiled,
    "Lightning's `.ckpt`, with a loss": lightning,
    "safetensors": safetensors,
    "averaged and raw weights": averaged,
    "`torch.save(model)`": whole,
}
