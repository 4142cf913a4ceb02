"""What every adapter's tests ask of a checkpoint: file to features to file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ltkit import checkpoints
from ltkit.datasets.view import SeenAs
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

C = 7
CLOSE = 1e-4


def shaken(model: nn.Module) -> nn.Module:
    """Return a network with statistics and last layers that are not those of a fresh one.

    Convolutions keep the size of what goes through them and no branch is multiplied by zero, so
    that logits depend on the images.
    """
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif len(tensor) == C if tensor.ndim else False:
            tensor.normal_(0, 0.05, generator=generator)
    return model.eval()


def dataset(size: int, train: int = 4, test: int = 3) -> Dataset:
    """Random images of a size, of C classes without names."""
    rng = np.random.default_rng(0)

    def split(count: int) -> ImageSplit:
        images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        return ImageSplit(images, np.arange(count) % C, np.array([str(i) for i in range(count)]))

    return Dataset(
        {"train": split(train), "test": split(test)}, ClassTable(np.full(C, 2)), (0.5,) * 3,
        (0.5,) * 3, 0, False, {"spec": "random", "index_digest": "x"},
    )  # fmt: skip


def normalised(images, mean, std) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(images[:])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (mean, std))
    return (values - mean) / std


def close(found, expected) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


@torch.no_grad()
def check(
    path: Path,
    logits: Callable[[torch.Tensor], torch.Tensor],
    read: Callable[[Path], dict[str, torch.Tensor]],
    reload: Callable[[dict[str, torch.Tensor]], Callable[[torch.Tensor], torch.Tensor]],
    wanted: LoadSettings | None = None,
    size: int | None = None,
) -> checkpoints.Recognised:
    """Check that features times head are the library's logits, before and after a correction.

    Args:
        path: the checkpoint.
        logits: the library's own, of normalised images.
        read: a checkpoint's tensors by name, without ltkit.
        reload: the library's own logits with such tensors.
        wanted: what the user says.
        size: of the images.
    """
    model = checkpoints.load(path, wanted)
    data, output = dataset(size or model.image_size), path.parent / "feats.h5"
    as_they_are = SeenAs(None, {})
    extraction.extract(model, data, ("train", "test"), output, ExtractSettings(), seen=as_they_are)
    found = features_file.read(output)
    for name in ("train", "test"):
        images = normalised(data.split(name).images, model.mean, model.std)
        own = logits(images)
        close(found.classifier().logits(found.split(name).features[:]), own)
        assert own.std(dim=0).max() > 0.01 * own.abs().max()  # images differ

    base, rng, rows = found.classifier(), np.random.default_rng(0), np.array([1, 5])
    bias = any(ours.endswith("bias") for ours in model.stored)
    change = 0.1 * rng.normal(size=(2, base.feature_size)).astype(np.float32)
    correction = Correction(
        "made", rows, (base.weight[rows] + change)[None],
        (base.bias[rows] + bias * np.float32([1, -2]))[None], ({},),
    )  # fmt: skip
    after = path.with_name(f"fixed{path.suffix}")
    export_into(path, correction, 0, after, made_from=model.digest, wanted=wanted)
    old, new = read(path), read(after)
    assert old.keys() == new.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {there.name for there in model.stored.values()}
    kept = [row for row in range(C) if row not in rows]
    assert all(torch.equal(old[name][kept], new[name][kept]) for name in changed)
    expected = correction.classifier(base, 0).logits(found.split("test").features[:])
    close(reload(new)(images), expected)
    return model
