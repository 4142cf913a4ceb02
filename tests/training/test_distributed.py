"""Two processes, as torchrun starts them, against one; this file is what they run, too."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from contrastive import built
from made import refused
from torch import nn
from trained import dataset_of, fit, recipe_of

from ltkit import architectures, cli
from ltkit.datasets.unlabelled import UNLABELLED
from ltkit.files import classifiers
from ltkit.losses import balanced_softmax, ce, dyswrm, elm, seesaw
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, ImageSplit
from ltkit.settings import HeadSettings, TrainPlan, TrainSettings
from ltkit.training import distributed, heads
from ltkit.training.augment import ImageStore
from ltkit.training.in_stages import train_in_stages
from ltkit.training.job import seeded
from ltkit.training.mixing.cmo import CMO
from ltkit.training.runs import train_networks
from ltkit.training.schedules import Stage
from ltkit.training.starts import start_of
from ltkit.training.teachers import Teacher

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [40, 21, 9, 5]
LOSSES = {
    "ce": ce.loss,
    "elm": elm.loss(torch.tensor(COUNTS)),  # compares the samples of a batch
    "seesaw": seesaw.loss(torch.tensor(COUNTS)),  # counts them
    "dyswrm": dyswrm.loss(torch.tensor(COUNTS), window=3, start=0.0),  # has parameters
}
IMAGES = TrainSettings(epochs=2, batch_size=9, warmup_epochs=0, learning_rate=0.05, steps=())
METHODS = {
    "paco": {"queue": 18, "size": 4, "second_view": "standard"}, "supcon": {}, "ssp": {},
    "simsiam": {}, "byol": {}, "lifted": {"per_class": 3}, "range": {"per_class": 3},
    "oltr": {"per_class": 3}, "tde": {},
    "lpa": {"queue": 0, "size": 4, "second_view": "standard", "prototypes": 4},
    "tsc": {"queue": 18, "size": 4, "temperature": 0.5, "second_view": "standard"},
}  # fmt: skip
"""Methods with their parameters: keys, two views, other images than those drawn."""

EXPERTS = ("ride", "sade", "router", "expert-weights")

NORMED = replace(IMAGES, epochs=1, batch_size=8, augment="none")


def features():
    """75 features of 4 classes."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(4), COUNTS)
    centres = rng.normal(size=(4, 6))
    x = (centres[labels] + rng.normal(size=(75, 6))).astype(np.float32)
    split = FeatureSplit(x, labels)
    return FeatureSet({"train": split, "val": split}, ClassTable(np.array(COUNTS)))


def without_batch_norm(*given, **options):
    network = original(*given, **options)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return network


original = architectures.build


def teacher():
    """A network that was never trained."""
    network = seeded(lambda: architectures.build("digits_net", 2), 1)
    found = SimpleNamespace(
        path=Path("t.pt"), digest="", arch="digits_net", mean=(0.4,), std=(0.3,), network=network
    )
    return Teacher(found, (0.5,), (0.5,))


def train_experts(dataset, folder):
    """Train what has several experts, and what learns about them, from a file that all read."""
    arch, cosine = "digits_net_3experts_reduced", {"cosine": True, "scale": 30.0}
    for name in ("ride", "sade"):
        method = built(name, [30, 13])
        fit(dataset, folder / f"{name}.pt", IMAGES, arch=arch, loss=method, **cosine)
    start, method = folder.parent / "experts.pt", built("ride", [30, 13])
    fit(dataset, start, IMAGES, arch=arch, loss=method, **cosine)
    distributed.wait()
    more = {"start": start_of(start, keep_head=True), **cosine}
    for name, method in (("router", built("router", [30, 13])),
                         ("expert-weights", built("expert-weights", [30, 13],
                                                  second_view="standard"))):  # fmt: skip
        fit(dataset, folder / f"{name}.pt", IMAGES, arch=arch, loss=method, **more)


def beside(dataset):
    """The dataset with images whose labels are not known."""
    images = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    split = ImageSplit(images, np.full(20, -1), np.arange(20).astype(str))
    record = {**dataset.record, UNLABELLED: {"spec": "made"}}
    return replace(dataset, splits=dataset.splits | {UNLABELLED: split}, record=record)


def work(folder, file):
    """Train all that is compared; the first process gives the results, another one writes none."""
    words = ["train", "balanced-softmax", str(file), "--epochs", "3", "--seeds", "2", "--quiet"]
    sys.argv = ["ltkit", *words, "--batch-size", "10", "-o", str(folder / "cli.h5")]
    with distributed.group("cpu") as device:
        with suppress(SystemExit):
            cli.main()
        number, of = distributed.rank(), distributed.processes()
        folder = folder / f"process{number}"
        folder.mkdir()
        results = {"of": of, "device": device}
        rows = torch.arange(14.0).reshape(7, 2).requires_grad_()
        whole = distributed.whole(2 * rows[distributed.part(7)], 7)
        (whole * torch.arange(1.0, 8.0)[:, None]).sum().backward()
        results |= {"whole": whole.detach(), "gradient": distributed.summed(rows.grad)}
        for name, loss in LOSSES.items():
            settings = HeadSettings(epochs=2, batch_size=8, learning_rate=0.1)
            recipe = recipe_of(deepcopy(loss), settings, name, sampler="square-root")
            head = heads.train(features(), recipe, folder / name)
            results[name] = torch.from_numpy(head.weight)
        dataset = dataset_of([30, 13], val=[5, 5])
        with patch.object(architectures, "build", without_batch_norm):
            mixing = CMO(probability=0.5)
            fit(dataset, folder / "images.pt", IMAGES, mixing=mixing)
            for name, parameters in METHODS.items():
                method = built(name, [30, 13], **parameters)
                fit(dataset, folder / f"{name}.pt", IMAGES, loss=method)
            distill = built("distill", [30, 13])
            fit(dataset, folder / "distill.pt", IMAGES, loss=distill, teacher=teacher())
            pictures = dataset_of([30, 13], channels=3)
            two = "resnet8_two_branch"
            fit(pictures, folder / "bbn.pt", IMAGES, loss=built("bbn", [30, 13]), arch=two)
            train_experts(dataset, folder)
            shared = folder.parent / "ssd.pt"
            small = {"queue": 18, "size": 4, "second_view": "standard"}
            train_in_stages(dataset, "ssd", small, IMAGES, shared, arch="digits_net")
            mislas = folder.parent / "mislas.pt"
            train_in_stages(dataset, "mislas", {"per_class": 3}, IMAGES, mislas, arch="digits_net")
            base = folder.parent / "base.pt"
            fit(dataset, base, IMAGES)
            distributed.wait()
            train_networks(
                beside(dataset), TrainPlan("ce"), IMAGES, folder.parent / "unlabelled.pt",
                arch="digits_net", teacher=base,
            )  # fmt: skip
            then = Stage(1, "ce", {}, "reversed", freeze="backbone")
            fit(dataset, folder / "stages.pt", IMAGES, then=then)
        dataset = dataset_of([30, 13], val=[500, 400])  # two slices, one for each process
        fit(dataset, folder / "normed.pt", NORMED, loss=balanced_softmax.loss)
        results["files"] = sorted(p.name for p in folder.iterdir())
        torch.save(results, folder / "results")


if __name__ == "__main__":
    work(*map(Path, sys.argv[1:]))
    sys.exit()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where one process wrote, and where two."""
    from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan

    base = tmp_path_factory.mktemp("processes")
    made, file = features(), base / "feats.h5"
    plan = Plan(
        6, "float32", {name: SplitPlan(split.labels, None) for name, split in made.splits.items()},
        made.classes, None, settings={}, inputs={},
    )  # fmt: skip
    with FeaturesWriter(file, plan, command="made", resume=False) as writer:
        for name, split in made.splits.items():
            writer.append(name, split.features)
        writer.finish()
    one, two = base / "one", base / "two"
    one.mkdir()
    two.mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [*Path(__file__).parents[1:2], *sys.path]))
    command = [*launch, __file__, str(two), str(file)]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        with patch.object(sys, "argv", sys.argv):
            work(one, file)
        try:
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.terminate()  # the processes that it started, too
    assert process.returncode == 0, stderr
    assert stdout.count(str(two / "cli.h5")) == 1  # torch 2.10 prints there, too
    return one, two


def results(folder, number=0):
    return torch.load(folder / f"process{number}" / "results")


def losses(folder, name):
    lines = (folder / "process0" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_process_finds_its_place(folders):
    one, two = folders
    assert results(one)["of"] == 1
    assert [results(two, n)["of"] for n in (0, 1)] == [2, 2]


def test_parts_are_disjoint_and_all_there_is(monkeypatch):
    for of in (1, 2, 3, 5):
        monkeypatch.setattr(distributed, "processes", lambda of=of: of)
        for count in range(of, 20):
            rows = []
            for number in range(of):
                monkeypatch.setattr(distributed, "rank", lambda number=number: number)
                own = list(range(count))[distributed.part(count)]
                assert count // of <= len(own) <= -(-count // of)
                rows += own
            assert rows == list(range(count))


@pytest.mark.parametrize("number", [0, 1])
def test_every_process_sees_all_rows_and_has_the_gradients_of_its_own(folders, number):
    found = results(folders[1], number)
    assert torch.equal(found["whole"], torch.arange(14.0).reshape(7, 2) * 2)
    expected = 2 * torch.arange(1.0, 8.0)[:, None].expand(7, 2)
    assert torch.equal(found["gradient"], expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_head_of_two_processes_is_that_of_one(folders, name):
    one, two = folders
    assert losses(two, name) == pytest.approx(losses(one, name), rel=1e-5)
    for number in (0, 1):
        found = results(two, number)[name]
        torch.testing.assert_close(found, results(one)[name], rtol=1e-3, atol=1e-5)
        assert found.abs().max() > 0.05


@pytest.mark.parametrize("name", ["images", "stages", "distill", "bbn", *EXPERTS, *METHODS])
def test_a_network_of_two_processes_is_that_of_one(folders, name):
    one, two = folders
    name = f"{name}.pt"
    assert losses(two, name) == pytest.approx(losses(one, name), rel=1e-5)
    states = [torch.load(f / "process0" / name) for f in folders]
    for key in ("state_dict", "attributes"):
        found, expected = (state.get(key, {}) for state in states)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_the_stages_of_two_processes_are_those_of_one(folders):
    """Each starts or learns from what the first process wrote."""
    for name in ("ssd.stage1.pt", "ssd.stage2.pt", "ssd.pt", "mislas.stage1.pt", "mislas.pt",
                 "unlabelled.pt"):  # fmt: skip
        states = [torch.load(folder / name)["state_dict"] for folder in folders]
        torch.testing.assert_close(*states, rtol=1e-3, atol=1e-5)


def test_the_command_line_gives_the_same_heads(folders):
    first, second = (classifiers.read(folder / "cli.h5")[0] for folder in folders)
    np.testing.assert_allclose(first.weight, second.weight, rtol=1e-3, atol=1e-5)
    assert [run["seed"] for run in second.runs] == [0, 1]


def test_only_the_first_process_writes(folders):
    one, two = folders
    assert results(two, 1)["files"] == []
    assert results(two)["files"] == results(one)["files"]
    assert {"images.pt", "images.pt.jsonl", "ce.jsonl", "ce.partial"} <= {*results(one)["files"]}
    names = ["cli.h5", "cli.seed0.h5.jsonl", "cli.seed1.h5.jsonl"]
    assert sorted(p.name for p in two.glob("cli*")) == names


def test_batch_norm_is_of_the_own_part_and_its_statistics_of_the_first_process(folders):
    """Against a loop of one process that gives the parts to the network one after the other."""
    torch.manual_seed(NORMED.seed)
    network = original("digits_net", 2)
    dataset = dataset_of([30, 13])
    split, counts = dataset.split("train"), torch.tensor([30, 13])
    store = ImageStore(torch.from_numpy(split.images), dataset.mean, dataset.std, 1, False)
    optimizer = torch.optim.SGD(
        network.parameters(), NORMED.learning_rate, 0.9, weight_decay=NORMED.weight_decay
    )
    values = []
    order = torch.randperm(43, generator=torch.Generator().manual_seed(NORMED.seed))
    for batch in order.split(8)[:-1]:  # 3 are left, too few for two and two
        half = len(batch) // 2
        labels = torch.from_numpy(split.labels)[batch]
        first = network(store.plain(batch[:half]))
        statistics = {k: v.clone() for k, v in network.named_buffers()}
        logits = torch.cat([first, network(store.plain(batch[half:]))])
        value = balanced_softmax.loss(logits, labels, counts)
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        network.load_state_dict(statistics, strict=False)
    _, two = folders
    assert losses(two, "normed.pt") == pytest.approx([np.mean(values)], rel=1e-5)
    found = torch.load(two / "process0" / "normed.pt")["state_dict"]
    torch.testing.assert_close(found, network.state_dict(), rtol=1e-3, atol=1e-5)


def test_both_processes_evaluate_with_the_statistics_of_the_first(folders):
    output = folders[1] / "process0" / "normed.pt"
    network = original("digits_net", 2).eval()
    network.load_state_dict(torch.load(output)["state_dict"])
    split = dataset_of([30, 13], val=[500, 400]).split("val")
    pixels = (torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        right = network(pixels).argmax(dim=1).numpy() == split.labels
    expected = (right[:500].mean() + right[500:].mean()) / 2
    line = json.loads(output.with_name("normed.pt.jsonl").read_text())
    assert line["val"]["balanced"] == pytest.approx(expected)
    assert 0.1 < right[:500].mean() < 0.9


def test_alone_there_is_no_group(monkeypatch):
    for name in distributed.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with distributed.group("cuda:3") as device:
        assert device == "cuda:3"
        assert not torch.distributed.is_initialized()
    monkeypatch.setenv("RANK", "0")  # of another launcher's
    with distributed.group("cpu") as device:
        assert device == "cpu"
        assert not torch.distributed.is_initialized()


def test_an_environment_in_part(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    refused(distributed.group("cpu").__enter__, "LOCAL_RANK: absent, expected all that torchrun")


@pytest.mark.parametrize("number", ["x", "", "1_0", "-1", "99999999999"])
def test_an_environment_without_numbers(monkeypatch, number):
    for name in distributed.VARIABLES:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("LOCAL_RANK", number)
    refused(distributed.group("cpu").__enter__, "LOCAL_RANK: found ", "a whole number from 0 to")


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 1), ("cuda:1", 4)])
def test_processes_that_would_share_a_gpu(monkeypatch, device, gpus):
    for name in distributed.VARIABLES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    message = f"device {device}: found process 1 of this machine and {gpus} GPUs"
    refused(distributed.group(device).__enter__, message)


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        (7, [9, 9], "batch_size: found 7, expected at least 8 for 4 processes"),
        (8, [4, 3], "training images: found 7, expected at least 8 for 4 processes"),
    ],
)
def test_too_few_samples_for_the_processes(monkeypatch, tmp_path, size, counts, message):
    monkeypatch.setattr(distributed, "processes", lambda: 4)
    settings = replace(IMAGES, batch_size=size)
    refused(lambda: fit(dataset_of(counts), tmp_path / "net.pt", settings), message)
