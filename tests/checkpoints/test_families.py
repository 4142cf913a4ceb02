"""Every checkpoint layout: recognised, its logits reproduced, the corrected head written back."""

import zipfile

import made
import numpy as np
import pytest
import torch
from family_files import (
    LAYOUTS,
    C,
    Layout,
    backbone,
    disalign,
    named,
    openmmlab,
    randn,
    ride,
    ssd,
    tde,
)

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=LAYOUTS)
def layout(request) -> Layout:
    return LAYOUTS[request.param]()


@pytest.fixture
def path(tmp_path, layout):
    torch.save(layout.content, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def dataset(size: int = 32) -> Dataset:
    """Random images: 14 to train on, 6 to test on."""
    rng = np.random.default_rng(0)

    def split(count: int) -> ImageSplit:
        images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        ids = np.array([str(i) for i in range(count)])
        return ImageSplit(images, np.arange(count) % C, ids)

    return Dataset(
        {"train": split(14), "test": split(6)}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3,
        0, False, {"spec": "random", "index_digest": "x"},
    )  # fmt: skip


def normalised(images, model) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(images[:])).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.mean, model.std))
    return (values - mean) / std


def test_it_is_recognised_by_one_family_alone(layout, path):
    model = checkpoints.load(path, layout.wanted)
    assert (model.family, model.arch) == (layout.family, layout.arch)
    assert (model.head.num_classes, model.head.experts) == (C, layout.experts)
    assert model.notes == layout.notes
    content = checkpoints.read(path)
    special = [m for m in checkpoints.families.in_order() if not getattr(m, "GENERAL", False)]
    matching = [m.__name__ for m in special if m.matches(content, layout.wanted)]
    own = f"ltkit.checkpoints.families.{layout.family.replace('-', '_')}"
    assert matching == ([] if layout.family == "state-dict" else [own])


@torch.no_grad()
def test_features_times_head_are_the_origins_logits(layout, path, tmp_path):
    model, data = checkpoints.load(path, layout.wanted), dataset()
    extraction.extract(model, data, ("train", "test"), tmp_path / "f.h5", ExtractSettings())
    found = features_file.read(tmp_path / "f.h5")
    for name in ("train", "test"):
        expected = layout.logits(normalised(data.split(name).images, model)).numpy()
        logits = found.classifier().logits(found.split(name).features[:])
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@torch.no_grad()
def test_the_corrected_head_is_written_back(layout, path, tmp_path):
    model, output = checkpoints.load(path, layout.wanted), tmp_path / "fixed.pt"
    base, rng = model.head.fold(), np.random.default_rng(0)
    rows = np.array([5, 6])
    weight, bias = base.weight[rows[::-1]], base.bias[rows[::-1]]
    if layout.free:
        weight = weight + rng.normal(size=weight.shape).astype(np.float32)
        bias = bias + rng.normal(size=2).astype(np.float32)
    correction = Correction(
        "made", rows, weight[None], bias[None], ({},), base.normalize_features
    )  # fmt: skip
    export_into(path, correction, 0, output, made_from=model.digest, wanted=layout.wanted)
    after = checkpoints.load(output, layout.wanted)
    images = randn(4, 3, 32, 32)
    features, logits = after.network.features_and_logits(images)
    expected = correction.classifier(base, 0).logits(features.numpy())
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    old, new = checkpoints.read(path).states, checkpoints.read(output).states
    heads = {(there.place, there.name) for there in model.stored.values()}
    for place, state in old.items():
        for name, tensor in state.items():
            if (place, name) not in heads:
                assert torch.equal(tensor, new[place][name]), (place, name)
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(output) as second:
        assert second.testzip() is None
        pickled = next(n for n in first.namelist() if n.endswith("data.pkl"))
        assert first.read(pickled) == second.read(pickled)


def test_a_correction_that_the_form_cannot_hold_leaves_nothing(layout, path, tmp_path):
    if layout.free:
        pytest.skip("this head can hold any rows")
    model = checkpoints.load(path, layout.wanted)
    base = model.head.fold()
    rng = np.random.default_rng(0)
    correction = Correction(
        "made", np.array([6]), rng.normal(size=(1, 1, base.feature_size)).astype(np.float32),
        np.ones((1, 1), np.float32), ({},), base.normalize_features,
    )  # fmt: skip
    with pytest.raises(InputError, match="--to npz"):
        export_into(
            path, correction, 0, tmp_path / "o.pt", made_from=model.digest, wanted=layout.wanted
        )
    assert made.beside(path) == ["m.pt"]


def test_tensors_that_are_missing_or_left_over_are_named(layout, path):
    names = _body_state(layout)
    first = next(n for n in names if n.endswith(("bn1.running_mean", "conv1.norm.running_mean")))
    names[first.replace("running_mean", "average")] = names.pop(first)
    torch.save(layout.content, path)
    words = ("does not fit", "tensors missing: 1", "unexpected: 1", "bn1.average")
    made.refused(lambda: checkpoints.load(path, layout.wanted), *words, error=FormatError)


def _body_state(layout: Layout) -> dict[str, torch.Tensor]:
    """Return the mapping that holds the backbone that is taken."""
    if layout.family == "mislas":
        return layout.content["state_dict_model"]
    if layout.family not in ("classifier-balancing", "tde"):
        return layout.state
    for key in ("state_dict", "state_dict_best"):
        model = layout.content.get(key, {})
        if model.get("classifier") is layout.state:
            return model["feat_model"]
    raise AssertionError


def test_a_head_of_another_width_is_named(layout, path):
    layout.state[layout.weight] = torch.zeros(C, 5)
    torch.save(layout.content, path)
    with pytest.raises(
        (FormatError, InputError), match=r"(found \(7, 5\)|found 0 that are).*--head"
    ):
        checkpoints.load(path, layout.wanted)


def test_the_stored_statistics_of_openmmlab_and_its_order_of_channels(tmp_path):
    layout, images = openmmlab(), randn(2, 3, 32, 32)
    torch.save(layout.content, tmp_path / "m.pt")
    found = checkpoints.load(tmp_path / "m.pt")
    np.testing.assert_allclose(found.mean, [0.4, 0.2, 0.1], rtol=1e-6)  # of 102, 51, 25.5
    np.testing.assert_allclose(found.std, [0.2] * 3, rtol=1e-6)
    assert found.class_names == tuple("abcdefg")

    layout.content["meta"]["cfg"] = "data_preprocessor=dict(mean=[1], to_rgb=False)"
    torch.save(layout.content, tmp_path / "m.pt")
    found = checkpoints.load(tmp_path / "m.pt")
    np.testing.assert_allclose(found.mean, [0.1, 0.2, 0.4], rtol=1e-6)
    assert "BGR images" in found.notes[1]
    with torch.no_grad():
        expected = layout.logits(images.flip(1))
        torch.testing.assert_close(found.network(images), expected, rtol=0, atol=1e-3)

    del layout.content["meta"]["cfg"]
    torch.save(layout.content, tmp_path / "m.pt")
    assert "does not say to_rgb" in checkpoints.load(tmp_path / "m.pt").notes[1]
    layout.state["data_preprocessor.std"] = torch.zeros(3)
    torch.save(layout.content, tmp_path / "m.pt")
    made.refused(
        lambda: checkpoints.load(tmp_path / "m.pt"), "data_preprocessor.std: found 0.0", "--std"
    )


@torch.no_grad()
def test_a_contrastive_first_stage_gives_features_without_a_head(tmp_path):
    body, images = backbone("resnet18"), randn(2, 3, 32, 32)
    state = named(body, "module.encoder_q.") | named(backbone("resnet18", 3), "module.encoder_k.")
    state |= {"module.encoder_q.fc.0.weight": randn(512, 512), "module.queue": randn(8, 4)}
    state["module.optimal_target"] = randn(C, 8)
    torch.save({"epoch": 1, "arch": "resnet18", "state_dict": state}, tmp_path / "m.pt")
    found = checkpoints.load(tmp_path / "m.pt")
    assert (found.family, found.arch, found.head) == ("moco", "resnet18", None)
    assert found.notes[1] == "no head: the features are what the backbone gives"
    torch.testing.assert_close(found.network.features_and_logits(images)[0], body(images))


def test_a_head_that_the_file_does_not_have(tmp_path):
    layout = ssd(1)
    torch.save(layout.content, tmp_path / "m.pt")
    made.refused(
        lambda: checkpoints.load(tmp_path / "m.pt", LoadSettings(head="fc")),
        "head fc: not in the file; it has classifier", error=InputError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("embed", "said"),
    [(None, "embed: absent"), (np.array([object()]), "embed: absent"),
     (np.zeros(7), "embed: found (7,), expected (512,)"), ("x", "embed: absent")],
)  # fmt: skip
def test_the_mean_feature_must_be_there(tmp_path, embed, said):
    content = tde("resnet18").content
    content.pop("embed")
    torch.save(content | ({} if embed is None else {"embed": embed}), tmp_path / "m.pt")
    made.refused(lambda: checkpoints.load(tmp_path / "m.pt"), said, error=FormatError)


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f4", torch.float32])
def test_the_mean_feature_in_other_types(tmp_path, kind):
    layout = tde("resnet18")
    embed = layout.content["embed"]
    layout.content["embed"] = (
        torch.tensor(embed) if isinstance(kind, torch.dtype) else embed.astype(kind)
    )
    torch.save(layout.content, tmp_path / "m.pt")
    found = checkpoints.load(tmp_path / "m.pt").network.head.embed
    np.testing.assert_allclose(found.numpy(), embed, rtol=1e-6)


def test_only_the_plain_part_of_an_alignment_is_a_head(tmp_path):
    torch.save(disalign().content, tmp_path / "m.pt")
    made.refused(
        lambda: checkpoints.load(tmp_path / "m.pt", LoadSettings(head="fc")),
        "head fc: not in the file", error=InputError,
    )  # fmt: skip


def test_an_expert_of_another_width_is_named(tmp_path):
    layout = ride(3)
    layout.state["module.backbone.linears.2.weight"] = torch.zeros(47, C)
    torch.save(layout.content, tmp_path / "m.pt")
    words = ("module.backbone.linears.2.weight: found (47, 7)", "48 x classes")
    made.refused(lambda: checkpoints.load(tmp_path / "m.pt"), *words, error=FormatError)


@pytest.mark.slow
def test_the_published_tiny_imagenet_network():
    """17.69 % on the shared validation images, as measured by others."""
    import io

    from PIL import Image
    from shared_data import shared

    model = checkpoints.load(shared("checkpoints", "tinyimagenet_resnet32.pth.tar"))
    assert (model.family, model.arch) == ("l2t-ww", "resnet32_l2t")
    with np.load(shared("tiny_imagenet32", "tiny_imagenet32_lt.npz")) as file:
        data, offset, labels = file["val_jpeg"].tobytes(), file["val_offset"], file["val_y"]
    hits = 0
    for start in range(0, len(labels), 500):
        pixels = [
            np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]])))
            for i in range(start, start + 500)
        ]
        with torch.no_grad():
            logits = model.network(normalised(np.stack(pixels), model))
        hits += int((logits.argmax(1).numpy() == labels[start : start + 500]).sum())
    assert hits == 1769
