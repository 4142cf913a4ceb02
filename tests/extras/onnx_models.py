"""Small ONNX models that the tests write."""

import numpy as np
import torch
from torch.nn import functional

from ltkit import checkpoints
from ltkit.exports.checkpoint import export_into
from ltkit.records import Correction

C, D = 7, 6


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FILTERS, WEIGHT, BIAS = randn(D, 3, 3, 3, seed=3), randn(C, D), randn(C, seed=2)


def features_of(images):
    return functional.conv2d(images, FILTERS).relu().mean((2, 3))


def logits_of(images, bias=True):
    return features_of(images) @ WEIGHT.T + (BIAS if bias else 0)


ENDS = {
    "Gemm": lambda n: [n("Gemm", ["f", "w", "b"], ["y"], transB=1)],
    "Gemm by columns": lambda n: [n("Gemm", ["f", "w", "b"], ["y"])],
    "Gemm without bias": lambda n: [n("Gemm", ["f", "w"], ["y"], transB=1)],
    "MatMul": lambda n: [n("MatMul", ["f", "w"], ["y"])],
    "MatMul, Add": lambda n: [n("MatMul", ["f", "w"], ["m"]), n("Add", ["m", "b"], ["y"])],
    "Add first": lambda n: [n("MatMul", ["f", "w"], ["m"]), n("Add", ["b", "m"], ["y"])],
    "Gemm, Add": lambda n: [
        n("Gemm", ["f", "w", ""], ["m"], transB=1), n("Add", ["m", "b"], ["y"])],
    "Conv": lambda n: [
        n("Conv", ["f", "w", "b"], ["m"], kernel_shape=[1, 1]), n("Flatten", ["m"], ["y"])],
    "Softmax": lambda n: [
        n("Gemm", ["f", "w", "b"], ["m"], transB=1), n("Softmax", ["m"], ["y"], axis=1)],
    "Dropout": lambda n: [
        n("Dropout", ["f"], ["g"]), n("Gemm", ["g", "w", "b"], ["m"], transB=1),
        n("Identity", ["m"], ["y"])],
}  # fmt: skip

BY_COLUMNS = ("Gemm by columns", "MatMul", "MatMul, Add", "Add first")

BIASED = [end for end in ENDS if end not in ("Gemm without bias", "MatMul")]


def model_of(end="Gemm", dtype=np.float32, shape=("n", 3, 16, 16), constants=False, **changes):
    """Build a model: convolution, mean, and one of the ends; `changes` replace initializers."""
    from onnx import helper, numpy_helper

    weight = WEIGHT.numpy()
    weight = (
        weight.T if end in BY_COLUMNS else weight[:, :, None, None] if end == "Conv" else weight
    )
    axes = np.array([2, 3], np.int64)
    values = {"k": FILTERS.numpy(), "w": weight, "b": BIAS.numpy(), "axes": axes} | changes
    if end not in BIASED:
        del values["b"]
    tensors = [
        numpy_helper.from_array(
            np.ascontiguousarray(v if v.dtype != np.float32 else v.astype(dtype)), name
        )
        for name, v in values.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["f"], keepdims=int(end == "Conv")),
        *(ENDS[end](helper.make_node)),
    ]
    if constants:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [shape[0], C])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def save(model, path, beside=()):
    """Save a model; initializers named in `beside` lie in another file."""
    import onnx
    from onnx.external_data_helper import set_external_data

    for tensor in model.graph.initializer:
        if tensor.name in beside:
            set_external_data(tensor, f"{path.name}.data")
    onnx.save_model(model, path)


def export(path, output, bias=True):
    model = checkpoints.load(path)
    base, rng = model.head.fold(), np.random.default_rng(0)
    weight = rng.normal(size=(1, 2, D)).astype(np.float32)
    shift = rng.normal(size=(1, 2)).astype(np.float32) * bias
    new = Correction("made", np.array([5, 6]), weight, shift, ({},))
    export_into(path, new, 0, output, made_from=model.digest)
    return new.classifier(base, 0)
