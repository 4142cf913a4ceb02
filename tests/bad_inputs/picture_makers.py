"""How wrong pictures and folders of them are made, in the working folder."""

import json
from pathlib import Path

from bad_inputs.makers import Maker, corrected, network, several
from PIL import Image
from safetensors.torch import save_file

from ltkit import checkpoints, datasets
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction


def pictures(bad: bytes | Maker | None = None, listed: str = "") -> Maker:
    """Make ``pics/ant`` and ``pics/bee`` with four pictures each, one bad, and a list of them."""

    def make():
        for name in ("ant", "bee"):
            Path("pics", name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (32, 32), (i, 0, 0)).save(f"pics/{name}/{i}.png")
        if isinstance(bad, bytes):
            Path("pics/bee/2.png").write_bytes(bad)
        elif bad is not None:
            bad()
        if listed:
            Path("pics/list.txt").write_text(listed, encoding="utf-8")

    return make


def bomb():
    """Write a picture of few bytes and 121 million pixels."""
    Image.new("1", (11_000, 11_000)).save("pics/bee/2.png")


def cifar10(size: int) -> Maker:
    """Make a folder like the binary archive of CIFAR-10, with files of so many bytes."""

    def make():
        Path("cifar-10-batches-bin").mkdir()
        for name in (
            *(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test_batch.bin",
            "batches.meta.txt",
        ):
            Path("cifar-10-batches-bin", name).write_bytes(bytes(size))

    return make


def linked_picture(name: str, target: str) -> Maker:
    """Make pictures, one more outside, and a link at or in their folder."""

    def make():
        Path("other/cow").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save("other/cow/9.png")
        Path("pics", name).symlink_to(target)

    return several(pictures(listed="ant/0.png 0\nbee/9.png 1\n"), make)


def downloaded(name: str = "", target: str = "", **files: str) -> Maker:
    """Make ``hf``, a folder with weights and files of others', and a link in it."""

    def make():
        Path("hf").mkdir()
        Path("secret.txt").write_text("mine", encoding="utf-8")
        state = network().state_dict()
        if "index" in files:
            index = {"weight_map": dict.fromkeys(state, "a.safetensors") | {"x": files["index"]}}
            Path("hf/model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
            save_file(state, "hf/a.safetensors")
        else:
            save_file(state, "hf/model.safetensors")
        if name:
            Path("hf", name).unlink(missing_ok=True)
            Path("hf", name).symlink_to(target)

    return make


def of_features(made: Maker, checkpoint: str) -> Maker:
    """Extract features of the digits from a checkpoint, and correct them."""

    def make():
        made()
        wanted = LoadSettings(mean=(0.3,), std=(0.4,))
        model = checkpoints.load(Path(checkpoint), wanted)
        dataset = datasets.load("digits_lt")
        extraction.extract(model, dataset, ["train"], Path("d.h5"), ExtractSettings())
        corrected("d.ncm.h5", "d.h5", dataset.classes.train_count)()

    return make
