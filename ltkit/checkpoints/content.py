"""The content of a checkpoint file, whatever its container."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints.containers.inert import Odd
from ltkit.errors import FormatError
from ltkit.narrowing import as_float32
from ltkit.untrusted.budget import Budget

State = Mapping[str, Tensor]
Place = tuple[str, ...]
"""Keys from the outermost mapping down to a state dict; () is the outermost mapping itself."""

LONGEST = 200
"""Most characters of a tensor's name."""

DEPTH = 6
"""How many nested mappings deep state dicts are searched for."""


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a checkpoint file.

    container: the module of `ltkit.checkpoints` that reads and writes this kind of file.
    top: the outermost mapping (torch), or the metadata (safetensors, Hugging Face's config).
    states: every mapping of names to tensors, by its place.
    digest: SHA-256 of the file.
    skipped: objects of classes that are not built; stand-ins are in their place.
    program: what runs, where the file holds the network and not only its weights.
    left_out: tensors that are no network's, by their names; see `beside`.
    """

    path: Path
    container: str
    top: Mapping[str, Any]
    states: Mapping[Place, State]
    digest: str
    skipped: tuple[str, ...] = ()
    program: Any = None
    left_out: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """The state dict's place if there is only one: under ``state_dict``, or outermost."""
        return ("state_dict",) if ("state_dict",) in self.states else ()

    @property
    def tensors(self) -> State:
        """The state dict at `place`."""
        return self.states.get(self.place, {})

    def describe(self) -> list[str]:
        """Return the first keys, for messages."""
        keys = [key if isinstance(key, str) else f"a {type(key).__name__}" for key in self.top]
        return [key[:LONGEST] for key in (keys or list(self.tensors))[:5]] or ["nothing"]


def states_in(
    top: Mapping[Any, Any], budget: Budget | None = None, depth: int = DEPTH
) -> Iterator[tuple[Place, State]]:
    """Find the state dicts in nested mappings: those that hold tensors by name.

    Mappings under a key that is not text belong to an optimiser; they are left out.

    Args:
        top: the outermost mapping.
        budget: limits on the search: a mapping that contains itself would never end.
        depth: how many mappings deep to look.

    Raises:
        FormatError: when it takes more.

    Example:
        >>> w = torch.zeros(1)
        >>> top = {"epoch": 1, "model": {"fc.weight": w}, "optimizer": {"state": {0: {"m": w}}}}
        >>> [place for place, _ in states_in(top)]
        [('model',)]
    """
    if budget is not None:
        budget.step(len(top))
    own = {k: v for k, v in top.items() if isinstance(k, str) and isinstance(v, Tensor | Odd)}
    if own:
        yield (), own  # type: ignore[misc]  # `check` refuses the odd ones
    for key, value in top.items():
        if isinstance(key, str) and isinstance(value, Mapping) and depth:
            for place, state in states_in(value, budget, depth - 1):
                yield (key, *place), state


def single(tensor: Tensor, where: str) -> Tensor:
    """Return a tensor of floating-point numbers as float32, in which networks compute here.

    Args:
        tensor: of any precision.
        where: file and name, for messages.

    Raises:
        InputError: when float32 loses it.

    Example:
        >>> single(torch.tensor([1e-50], dtype=torch.float64), "m.pt: fc.weight")
        Traceback (most recent call last):
        ...
        ltkit.errors.InputError: m.pt: fc.weight: values of at most 1e-50 are lost in float32; save
        weights that float32 holds
    """
    if tensor.dtype == torch.float64:
        as_float32(tensor.detach().numpy().ravel(), where, "save weights that float32 holds")
    return tensor.float()


def check(path: Path, states: Mapping[Place, State]) -> None:
    """Reject tensors that are not plain finite values stored in the file.

    Raises:
        FormatError: naming the first such tensor.
    """
    seen = set[int]()
    for state in states.values():
        for name, tensor in state.items():
            if len(name) > LONGEST:
                raise FormatError(
                    f"{path}: {name[:LONGEST]}...: is a name of {len(name)} characters, expected "
                    f"at most {LONGEST}; the checkpoint is damaged"
                )
            if isinstance(tensor, Odd):
                raise FormatError(
                    f"{path}: {name}: found a {tensor.kind}, expected plain values; save dense, "
                    "unquantised weights"
                )
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if tensor.is_complex():
                raise FormatError(
                    f"{path}: {name}: found {tensor.dtype}, expected real numbers; save the parts "
                    "that the network computes with"
                )
            claimed = tensor.numel() * tensor.element_size()
            if claimed > tensor.untyped_storage().nbytes():
                raise FormatError(
                    f"{path}: {name}: claims {claimed} bytes that are not in the file"
                )
            if tensor.ndim > 1 and not tensor.numel():
                raise FormatError(
                    f"{path}: {name}: found {tuple(tensor.shape)}, expected values; the checkpoint "
                    "is damaged"
                )
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                raise FormatError(
                    f"{path}: {name}: holds NaN or infinity; the checkpoint is damaged"
                )
