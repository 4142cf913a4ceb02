"""Small sound checkpoints, one for each container."""

import argparse
import io
import json
import pickle
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from ltkit import architectures

# Sound checkpoints


def network(arch="resnet20", classes=7):
    """A network with values of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build(arch, classes)


def theirs(head="fc", prefix=""):
    """The tensors of a CIFAR ResNet-20, as others write them."""
    state = network().state_dict()
    return OrderedDict(
        (prefix + name.replace("backbone.", "").replace("head.", f"{head}."), tensor)
        for name, tensor in state.items()
    )


def native():
    """What ``ltkit train`` writes of its smallest network."""
    recipe = {"arch": "digits_net", "cosine": False, "scale": 1.0, "mean": [0.3], "std": [0.4],
              "recipe": {"dataset": {"spec": "digits_lt"}}}  # fmt: skip
    head = {"format": "ltkit-checkpoint", "format_version": 1, **recipe}
    return head, network("digits_net").state_dict()


class Config(dict):
    """A project's class."""


def objects():
    """What scripts give to ``torch.save``."""
    head, state = native()
    args = argparse.Namespace(lr=0.1, arch="resnet20", path=Path("x"))
    optimizer = {"state": {0: {"momentum": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    ldam = theirs("linear")
    ldam["linear.weight"] = ldam["linear.weight"].T.contiguous()
    del ldam["linear.bias"]
    return [
        {**head, "state_dict": state},
        theirs(),
        {"state_dict": theirs(prefix="module."), "epoch": 3, "args": args, "best": np.float64(0.5),
         "optimizer": optimizer, "config": Config(a=1), "losses": np.zeros(3)},
        {"epoch": 2, "arch": "resnet32", "state_dict": ldam, "best_acc1": torch.tensor(1.0)},
    ]  # fmt: skip


def saved(thing, zipped=True):
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(thing, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


class Small(nn.Module):
    """A program."""

    def __init__(self) -> None:
        """Make its layers."""
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        """Return logits."""
        return self.fc(torch.relu(self.conv(images)).mean((2, 3)))


def torchscript():
    """A scripted, a traced and a frozen program."""
    with warnings.catch_warnings(action="ignore"):
        model, images = Small().eval(), torch.zeros(1, 3, 8, 8)
        programs = [torch.jit.script(model), torch.jit.trace(model, images)]
        programs.append(torch.jit.freeze(programs[0]))
        files = [io.BytesIO() for _ in programs]
        for program, file in zip(programs, files, strict=True):
            torch.jit.save(program, file)
    return [{"m.pt": file.getvalue()} for file in files]


def torch_export():
    """An exported program."""
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt2"
        torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 3, 8, 8),)), path)
        return [{"m.pt2": path.read_bytes()}]


def onnx_models():
    """Models with their values in the file, and beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(4, 3, 3, 3)), "fc": rng.normal(size=(5, 4)), "b": np.ones(5)}
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "b"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inside, data = model.SerializeToString(), b""
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, "m.onnx.data", len(data), len(tensor.raw_data)
        )
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    return [{"m.onnx": inside}, {"m.onnx": model.SerializeToString(), "m.onnx.data": data}]


def safetensors():
    """Ours with metadata, and others'."""
    head, state = native()
    metadata = {key: json.dumps(value) for key, value in head.items()}
    half = {name: t.half() if t.is_floating_point() else t for name, t in theirs().items()}
    return [{"m.safetensors": save(state, metadata)}, {"m.safetensors": save(half, {"a": "b"})}]


def sharded():
    """Two files of tensors with their index."""
    state = theirs()
    parts = {"m-1.safetensors": list(state)[:9], "m-2.safetensors": list(state)[9:]}
    listed = {tensor: name for name, own in parts.items() for tensor in own}
    files = {name: save({tensor: state[tensor] for tensor in own}) for name, own in parts.items()}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}).encode()
    return [{"model.safetensors.index.json": index, **files}]


def hugging_face():
    """Folders with a configuration."""
    config = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet",
              "id2label": {"0": "a", "1": "b"}, "depths": [1], "hidden_sizes": [8],
              "embedding_size": 8, "layer_type": "basic", "num_channels": 3}  # fmt: skip
    images = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    said = {"config.json": json.dumps(config).encode(),
            "preprocessor_config.json": json.dumps(images).encode()}  # fmt: skip
    return [
        {**said, "model.safetensors": save(theirs())},
        {**said, "pytorch_model.bin": saved(theirs())},
        {"config.json": b'{"architecture": "resnet18", "num_classes": 7}',
         "model.safetensors": save(theirs())},
    ]  # fmt: skip


def lightning():
    """What Lightning writes."""
    top = {"epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.0.0", "callbacks": {},
           "state_dict": theirs("classifier", "net."), "hyper_parameters": {"lr": 0.1},
           "optimizer_states": [], "lr_schedulers": []}  # fmt: skip
    return [{"m.ckpt": saved(top)}]


def alphanet():
    """The published AlphaNet code's pickles, the classifier beside them."""
    rows, labels = np.ones((9, 6), np.float32), np.arange(9) % 4
    kinds = [rows, torch.tensor(rows), rows.tolist()]
    classifier = saved({"weight": torch.ones(4, 6), "bias": torch.zeros(4)})
    return [
        {"classifier.pth": classifier,
         "train.pkl": pickle.dumps({"feats": kind, "labels": labels, "idxs": [1, 2]}, protocol)}
        for protocol, kind in zip((2, 4, 5), kinds, strict=True)
    ]  # fmt: skip
