"""ONNX models, run with onnxruntime on the CPU (``pip install 'ltkit[onnx]'``).

A model is a program: a child process runs it, with limits on time and memory that grow with the
model and the images, so that no ``--trust-code`` is needed and none can hang or fill the memory.

The features are what goes into the last linear layer of the graph: ``Gemm``, ``MatMul`` and
``Add``, or a 1x1 ``Conv``, its weight stored C x D or D x C. Half precision is computed with in
float32. A corrected head replaces the values of that layer's initializers; values that lay in
another file (``model.onnx.data``) are then in the model's own.
"""

from collections.abc import Callable
from typing import Any

from ltkit.checkpoints.containers import onnx_file
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._program import Made, last_layer, recognise_program
from ltkit.checkpoints.recognised import Recognised
from ltkit.settings import LoadSettings

SUMMARY = "ONNX models, with their values in the file or beside it"
PASS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze"}
SOFTMAX = {"LogSoftmax", "Softmax"}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the file is ONNX."""
    return content.container == "onnx"


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Load the model and cut it at its last layer.

    Raises:
        InputError: when onnxruntime is absent or rejects the model, or it does not end in a
            linear layer.
    """
    model = onnx_file.load(content.path)
    output = next((value.name for value in model.graph.output), "")
    layer = last_layer(content, output, _reader(model))
    shape = onnx_file.shape_of(content.path, model)
    graph = onnx_file.Graph(content.path, model, layer)
    return recognise_program(
        content, "onnx", graph, layer, wanted, arch=str(model.graph.name) or "program", shape=shape
    )


def _reader(model: Any) -> Callable[[Any], Made]:
    """Return a function that tells how a value of the graph is computed."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def made(name: Any) -> Made:
        if name not in makers:
            return "", []
        node = makers[name]
        kind, inputs = node.op_type, [given or None for given in node.input]
        if kind == "Gemm":
            by_rows = any(a.name == "transB" and a.i for a in node.attribute)
            return "linear" if by_rows else "columns", inputs
        if kind == "MatMul":
            return "columns", inputs
        if kind == "Conv":
            return "linear", inputs
        if kind == "Add":
            return "add", inputs
        return "pass" if kind in PASS else "softmax" if kind in SOFTMAX else kind, inputs[:1]

    return made
