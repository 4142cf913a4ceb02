"""ONNX files, with values in the file or beside it; the only module that imports onnx.

ONNX has no mark of its own; a file is taken for one by its first two fields. Values beside the
file (``model.onnx.data``) are read here, from plain files inside the model's folder and nowhere
else. A corrected file holds all values itself. The model runs in a child process with limits.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.checkpoints.content import Content, Place, State
from ltkit.checkpoints.families._program import PLACE, LastLayer
from ltkit.checkpoints.opening import OUTSIDE, reason
from ltkit.errors import FormatError, InputError
from ltkit.files.onnx_runs import Session
from ltkit.records import Classifier
from ltkit.untrusted.budget import Budget, opened, read_bytes, stays_in

START = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
"""The format's version field, followed by the tag of any field that may come next."""

MAX_BYTES = 2**31 - 1
"""Largest ONNX model that can be held in memory."""

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16
"""The format's numbers for these types."""

EXTERNAL = 1
"""The format's number for values in another file."""

NESTED = {"AttributeProto", "FunctionProto", "GraphProto", "NodeProto", "SparseTensorProto",
          "TensorProto", "TrainingInfoProto"}  # fmt: skip
"""The messages that can contain tensors."""

TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""The types that are read; values of other types cannot be a head."""


def holds(path: Path, start: bytes) -> bool:
    """Return whether the first bytes are those of an ONNX model."""
    return START.match(start) is not None


def parts(path: Path) -> list[Path]:
    """Return the file and the external files that hold its values."""
    return [path, *_beside(path, _parsed(path))]


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return initializers and constants by name.

    Raises:
        InputError: when onnx is not installed.
        FormatError: when the file is damaged, or names values outside of its folder.
    """
    return {}, {PLACE: dict(_values(path, load(path)))}, ()


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the model again with some initializers replaced, all values in one file.

    Raises:
        InputError: when more than one operator uses a value that changes.
    """
    model = load(content.path)
    users = [name for node in model.graph.node for name in node.input]
    for (_, name), value in changes.items():
        if users.count(name) > 1:
            raise InputError(
                f"{content.path}: {name}: is used {users.count(name)} times, and would change "
                "everywhere; use --to npz"
            )
        _put(dict(_tensors(model))[name], value)
    output.write_bytes(model.SerializeToString())


def load(path: Path) -> Any:
    """Return the model, with values from external files.

    Raises:
        InputError: when onnx is not installed, or the model is too large for it.
        FormatError: when the file is damaged, or names values outside of its folder.
    """
    onnx = _package("onnx", path)
    model = _parsed(path)
    files = _beside(path, model)
    budget = Budget(path, path.stat().st_size + sum(file.stat().st_size for file in files))
    total = path.stat().st_size
    try:
        for name, tensor in _tensors(model):
            if tensor.data_location == EXTERNAL:
                total += _embed(path, name, tensor, MAX_BYTES - total, budget)
        for name, tensor in _inner(model, budget):
            if tensor.data_location == EXTERNAL:
                raise FormatError(
                    f"{path}: refused: {name}: has values in another file, in a graph within an "
                    "operator; save the model with all values in its own file"
                )
        onnx.checker.check_model(model)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise _unsound(path, error) from error
    return model


def _parsed(path: Path) -> Any:
    """Return the model as stored in the file."""
    onnx = _package("onnx", path)
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(read_bytes(path, "an ONNX model", MAX_BYTES))
    except DecodeError as error:  # by path, its name would matter
        raise _unsound(path, error) from error


def _unsound(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path}: not sound ONNX ({reason(error)}); fetch it again")


def _inner(message: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Yield every tensor of a graph, including subgraphs and sparse values."""
    todo = [("", message)]
    while todo:
        name, message = todo.pop()
        budget.step()
        kind = message.DESCRIPTOR.name
        if kind == "TensorProto":
            yield str(message.name) or name, message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None and field.message_type.name in NESTED:
                name = str(getattr(message, "name", "")) or name
                several = value if hasattr(value, "append") else [value]
                todo += [(name, each) for each in several]


class Graph(nn.Module):
    """A model that a child process runs on the CPU, cut at its last layer."""

    def __init__(self, path: Path, model: Any, layer: LastLayer) -> None:
        """Add the outputs of `layer` to the model, and use float32 instead of half precision.

        Raises:
            InputError: when onnxruntime is not installed, or rejects the model.
            FormatError: when loading it does not end, or fills the memory.
        """
        super().__init__()
        onnx = _package("onnx", path)
        if importlib.util.find_spec("onnxruntime") is None:
            raise _absent("onnxruntime", path, "no such module")
        names = [n for n in (layer.logits, layer.features, layer.weight, layer.bias) if n]
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        _upcast(model)
        self.session = Session(path, model.SerializeToString(), names, torch.get_num_threads())

    def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
        """Return logits, features, weight and bias."""
        found = self.session.run(images.float().cpu().numpy())
        tensors = [torch.from_numpy(value).to(images.device) for value in found]
        return (*tensors, None)[:4]


def head_model(classifier: Classifier, path: Path) -> bytes:
    """Return an ONNX model of a linear classifier: ``features`` (N, D) to ``logits`` (N, C).

    Args:
        classifier: whose features are normalised in the model where it wants them so.
        path: of the output, for messages.

    Raises:
        InputError: when onnx is not installed.
    """
    onnx = _package("onnx", path)
    from onnx import TensorProto, helper, numpy_helper

    size, experts = classifier.feature_size, classifier.experts
    values = {
        "weight": classifier.weight.astype(np.float32),
        "bias": classifier.bias.astype(np.float32),
    }
    nodes, last = [], "features"
    if classifier.normalize_features:
        values |= {
            "parts": np.array([-1, experts, size // experts]), "whole": np.array([-1, size]),
            "axis": np.array([2]), "least": np.array(1e-12, np.float32),
        }  # fmt: skip
        nodes = [
            helper.make_node("Reshape", ["features", "parts"], ["by_expert"]),
            helper.make_node("ReduceL2", ["by_expert", "axis"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "least"], ["divisor"]),
            helper.make_node("Div", ["by_expert", "divisor"], ["unit"]),
            helper.make_node("Reshape", ["unit", "whole"], ["prepared"]),
        ]
        last = "prepared"
    nodes.append(helper.make_node("Gemm", [last, "weight", "bias"], ["logits"], transB=1))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classifier.num_classes])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _package(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _absent(name, path, str(error)) from error


def _absent(name: str, path: Path, why: str) -> InputError:
    return InputError(
        f"{path}: is ONNX, and {name} is not installed ({why}); pip install 'ltkit[onnx]'"
    )


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the initializers, and constants under their outputs' names."""
    yield from ((str(tensor.name), tensor) for tensor in model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield str(node.output[0]), attribute.t


def _values(path: Path, model: Any) -> Iterator[tuple[str, Tensor]]:
    from onnx import numpy_helper

    for name, tensor in _tensors(model):
        if tensor.data_type in TYPES:
            try:
                array = np.array(numpy_helper.to_array(tensor))
            except (TypeError, ValueError) as error:
                raise FormatError(
                    f"{path}: {name}: its values do not fit its shape ({error})"
                ) from error
            dtype = TYPES[tensor.data_type]
            wide = dtype == torch.bfloat16  # NumPy has no such type
            yield name, torch.from_numpy(array.view(np.int16) if wide else array).view(dtype)


def _put(tensor: Any, value: Tensor) -> None:
    """Replace a tensor's values; keep name, type and shape."""
    wide = value.dtype == torch.bfloat16
    data = (value.view(torch.int16) if wide else value).contiguous().numpy()
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    tensor.raw_data = data.astype(data.dtype.newbyteorder("<")).tobytes()


def _said(tensor: Any) -> dict[str, str]:
    """Return the declared location of a tensor's values; bytes if it is not valid UTF-8."""
    return {str(entry.key): str(entry.value) for entry in tensor.external_data}


def _location(path: Path, name: str, tensor: Any) -> Path:
    """Return the file that holds a tensor's values.

    Raises:
        FormatError: when it is no plain file inside the model's folder.
    """
    said = _said(tensor).get("location", "")
    place = path.parent / said
    if not said or "\0" in said or OUTSIDE.search(said) or not stays_in(path.parent, place):
        raise FormatError(
            f"{path}: refused: {name}: its values are in {said!r}, expected a file inside "
            "the model's folder"
        )
    if not place.is_file():
        raise FormatError(f"{place}: missing, {path.name} has values there; fetch it, too")
    return place


def _beside(path: Path, model: Any) -> list[Path]:
    """Return the external files that hold values of the model."""
    tensors = (pair for pair in _tensors(model) if pair[1].data_location == EXTERNAL)
    return sorted({_location(path, name, tensor) for name, tensor in tensors})


def _embed(path: Path, name: str, tensor: Any, room: int, budget: Budget) -> int:
    """Move a tensor's values from the external file into the model; return their size in bytes."""
    place = _location(path, name, tensor)
    said = _said(tensor)
    offset = int(said.get("offset") or 0)
    size = place.stat().st_size
    length = int(said["length"]) if said.get("length") else size - offset
    if offset < 0 or length < 0 or offset + length > size:
        raise FormatError(
            f"{place}: found {size} bytes, expected {offset + length} for {name}; it is "
            "truncated, or belongs to another model"
        )
    if length > room:
        raise InputError(f"{path}: has more than {MAX_BYTES} bytes of values, ONNX's limit")
    budget.take(length, name)
    with opened(place, f"values of {path.name}") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = 0
    return length


def _upcast(model: Any) -> None:
    """Convert half precision to float32 throughout: values, inputs and casts."""
    from onnx import numpy_helper

    halves = (FLOAT16, BFLOAT16)
    for _, tensor in _tensors(model):
        if tensor.data_type in halves:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.value_info):
        if value.type.tensor_type.elem_type in halves:
            value.type.tensor_type.elem_type = FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in halves:  # of a Cast
                attribute.i = FLOAT


def shape_of(path: Path, model: Any) -> Sequence[int | None]:
    """Return the shape of the model's images, None for variable dimensions.

    Raises:
        InputError: when it does not have exactly one input of four dimensions.
    """
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    shapes = [[d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise InputError(f"{path}: found inputs {shapes}, expected images: (batch, channels, H, W)")
    return shapes[0]
