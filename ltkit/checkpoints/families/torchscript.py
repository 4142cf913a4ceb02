"""TorchScript programs, scripted, traced or frozen (``torch.jit.save``).

The file is code, and loading it runs some of it: ``--trust-code`` says that it may. The features
are what goes into the last linear layer (or 1x1 convolution) of the program's graph. A corrected
head replaces the values of that layer's tensors in the file and nothing else, extra files included;
reading and rewriting do not need the program to run.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ltkit.checkpoints.containers.torch_file import DAMAGED
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._program import (
    Made,
    aten,
    last_layer,
    not_loaded,
    recognise_program,
)
from ltkit.checkpoints.recognised import Recognised
from ltkit.errors import InputError
from ltkit.files import isolated
from ltkit.settings import LoadSettings

SUMMARY = "TorchScript programs (torch.jit.save), with --trust-code"
PARTS = {"prim::TupleConstruct": 0, "prim::ListConstruct": 0, "prim::DictConstruct": 1}
"""Operators that bundle values, with the position of the value that is used."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the file is TorchScript."""
    return content.container == "torchscript"


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Load the program and cut it at its last layer.

    Raises:
        FormatError: when torch does not load it.
        InputError: when it may not be run, or does not end in a linear layer.
    """
    if not wanted.trust_code:
        raise InputError(
            f"{content.path}: is TorchScript, which is code: pass --trust-code if you trust its "
            "maker, or save the weights: torch.save(torch.jit.load(path).state_dict(), 'm.pt')"
        )
    isolated.try_first(lambda: _alone(content, wanted), content.path)
    return _load(content, wanted)


def _alone(content: Content, wanted: LoadSettings) -> None:
    torch.set_num_threads(1)  # a fork has none of the threads that others would wait for
    _load(content, wanted)


def _load(content: Content, wanted: LoadSettings) -> Recognised:
    """Load the program and run it on images; a damaged one may end the process."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch calls TorchScript deprecated
            module = torch.jit.load(content.path, map_location="cpu").eval().float()
    except DAMAGED as error:
        raise not_loaded(content, error) from error
    graph = module.inlined_graph.copy()
    layer = last_layer(content, next(iter(graph.outputs())), _made)
    arch = str(getattr(module, "original_name", "program"))
    return recognise_program(
        content, "torchscript", _Cut(module, graph, layer), layer, wanted, arch=arch
    )


def _made(value: Any) -> Made:
    node = value.node()
    kind, inputs = node.kind(), list(node.inputs())
    if kind in PARTS and len(inputs) > PARTS[kind]:
        return "pass", [inputs[PARTS[kind]]]
    if kind == "prim::Param":
        return "", []
    made = aten(kind.removeprefix("aten::"), inputs)
    if made[0] in ("linear", "columns") and len(made[1]) == 3 and _is_none(made[1][2]):
        return made[0], made[1][:2]
    return made


def _is_none(value: Any) -> bool:
    return value.node().kind() == "prim::Constant" and value.toIValue() is None


class _Cut(nn.Module):
    """A module's own graph with additional outputs."""

    def __init__(self, module: nn.Module, graph: Any, layer: Any) -> None:
        super().__init__()
        self.module = module
        self.others = len(list(graph.inputs())) - 2  # beside the module and the images
        while list(graph.outputs()):
            graph.eraseOutput(0)
        for value in (layer.logits, layer.features, layer.weight, layer.bias):
            if value is not None:
                graph.registerOutput(value)
        graph.makeMultiOutputIntoTuple()
        self.function = torch._C._create_function_from_graph("cut", graph)

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        found = self.function(self.module, images, *[None] * self.others)
        return (*found, None)[:4]
