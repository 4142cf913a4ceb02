"""Make the files that `ltkit demo` works on, from a checkpoint that `ltkit train` wrote.

The network becomes half-precision safetensors with the metadata that names it; its features, as
float16, come from that very file through `ltkit extract`. The bundled ones were made by

    ltkit train ce --data cifar100_lt --root DATA --amp bf16 -o cifar100_lt.pt
    python scripts/build_demo.py cifar100_lt.pt DATA

where DATA holds the official archive layout of CIFAR-100.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

KEPT = ("format", "format_version", "arch", "num_classes", "cosine", "scale", "mean", "std")
TARGET = Path(__file__).parents[1] / "ltkit" / "data" / "demo"


def main(checkpoint: Path, data: Path) -> None:
    """Convert, extract, and put both files where the package carries them."""
    content = torch.load(checkpoint, weights_only=True)
    tensors = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in content["state_dict"].items()
    }
    metadata = {key: json.dumps(content[key]) for key in (*KEPT, "recipe", "versions")}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        save_file(tensors, here / "resnet32.safetensors", metadata)
        (here / "data").symlink_to(data.resolve())
        subprocess.run(
            [
                Path(sys.executable).with_name("ltkit"), "extract", "resnet32.safetensors",
                "--data", "cifar100_lt", "--root", "data", "--dtype", "float16",
            ],
            cwd=here, check=True,
        )  # fmt: skip
        TARGET.mkdir(parents=True, exist_ok=True)
        for name in ("resnet32.safetensors", "feats.h5"):
            (TARGET / name).write_bytes((here / name).read_bytes())
            print(TARGET / name, (TARGET / name).stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
