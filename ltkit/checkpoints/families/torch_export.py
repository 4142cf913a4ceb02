"""Programs of ``torch.export.save`` (``.pt2``).

Loading one runs what is in it: torch unpickles the sample inputs, and weights and constants that
the file calls pickled, evaluates the file's expressions of shapes as Python text, and runs its
guards. ``--trust-code`` says that it may. The features are what goes into the last linear layer (or
1x1 convolution) of the graph. A corrected head replaces the values of that layer's tensors in the
file and nothing else; reading and rewriting do not need the program to run.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

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
from ltkit.settings import LoadSettings

SUMMARY = "torch.export programs (.pt2), with --trust-code"


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the file is a torch.export program."""
    return content.container == "torch-export"


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Load the program and cut it at its last layer.

    Raises:
        FormatError: when torch does not load it.
        InputError: when it may not be run, or does not end in a linear layer.
    """
    if not wanted.trust_code:
        raise InputError(
            f"{content.path}: is a torch.export program, and loading it runs code: pass "
            "--trust-code if you trust its maker, or save the weights: "
            "torch.save(torch.export.load(path).state_dict, 'm.pt')"
        )
    try:
        with _quiet():
            module = torch.export.load(content.path).module().float()
    except Exception as error:  # each part of the loader raises its own
        raise not_loaded(content, error) from error
    graph = module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    layer = last_layer(content, _pytree.tree_leaves(output.args)[0], _made)
    graph.set_codegen(fx.graph.CodeGen())  # plain inputs and outputs
    output.args = ((layer.logits, layer.features, layer.weight, layer.bias),)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    module.recompile()
    return recognise_program(
        content, "torch-export", _Cut(module, len(inputs)), layer, wanted,
        arch="program", shape=_shape(inputs),
    )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's log, which shows tracebacks of errors that it then raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _made(value: Any) -> Made:
    if not isinstance(value, fx.Node) or value.op != "call_function":
        return "", []
    return aten(str(value.target).removeprefix("aten.").split(".")[0], value.args)


def _shape(inputs: list[fx.Node]) -> list[int | None]:
    """Return the exported shape of the images, None for variable dimensions."""
    shape = getattr(inputs[0].meta.get("val"), "shape", ()) if inputs else ()
    fixed = [size if isinstance(size, int) else None for size in shape]
    return fixed if len(fixed) == 4 else [None] * 4


class _Cut(nn.Module):
    """The exported module; inputs other than the images are left out."""

    def __init__(self, module: nn.Module, inputs: int) -> None:
        super().__init__()
        self.module = module
        self.others = inputs - 1

    def forward(self, images: Tensor) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self.module(images, *[None] * self.others)
        return found
