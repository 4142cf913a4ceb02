"""Processes started by torchrun: each has its part of every batch; without it, one has all.

A process takes its number and theirs from the environment that torchrun sets. All of them draw
the same random numbers and see the loss of the whole batch, so that losses which compare its
samples, or count them, are what they are in one process; each has the gradients of its own rows,
and those are added up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ltkit import numerals
from ltkit.errors import InputError, SettingError

NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")
VARIABLES = (*NUMBERS, "MASTER_ADDR")
SIXTEEN_BITS = numerals.Range(0, 2**16 - 1, whole=True)


@contextmanager
def group(device: str) -> Iterator[str]:
    """Join the processes started by torchrun, NCCL on CUDA and gloo elsewhere; alone, do nothing.

    An existing group is used, and left to whoever made it.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:i``.

    Yields:
        The device of this process.

    Raises:
        InputError: when several processes would share a GPU, or torchrun's environment is
            incomplete or not numeric.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield device
        return
    if absent := [name for name in VARIABLES if name not in os.environ]:
        raise InputError(f"{absent[0]}: absent, expected all that torchrun sets; start with it")
    for name in NUMBERS:
        numerals.number(os.environ[name], name, SIXTEEN_BITS)
    cuda, local = device.startswith("cuda"), int(os.environ["LOCAL_RANK"])
    if cuda:
        if ":" in device or local >= torch.cuda.device_count():
            raise SettingError(
                f"device {device}",
                f"found process {local} of this machine and {torch.cuda.device_count()} GPUs, of "
                "which torchrun gives each process its own; use device cuda with at most as many "
                "processes",
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if distributed.is_initialized():
        yield device
        return
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def writes() -> bool:
    """Return whether this process writes files, also before the group is joined."""
    alone = "WORLD_SIZE" not in os.environ or "RANK" not in os.environ
    return alone or os.environ["RANK"] == "0"


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def part(count: int) -> slice:
    """Return this process's rows of a batch; parts differ by one row at most."""
    number, of = rank(), processes()
    return slice(number * count // of, (number + 1) * count // of)


def whole(own: Tensor, count: int) -> Tensor:
    """Return the rows of all processes, with gradients for this process's rows.

    Args:
        own: this process's rows, from `part`.
        count: number of rows in all.
    """
    of = processes()
    if of == 1:
        return own
    padded = own.new_zeros(-(-count // of), *own.shape[1:])
    padded[: len(own)] = own.detach()
    found = [torch.empty_like(padded) for _ in range(of)]
    distributed.all_gather(found, padded)
    sizes = [(n + 1) * count // of - n * count // of for n in range(of)]
    rows = [values[:size] for values, size in zip(found, sizes, strict=True)]
    rows[rank()] = own
    return torch.cat(rows)


def wait() -> None:
    """Wait for the other processes, as for files that the first one writes."""
    if processes() > 1:
        distributed.barrier()


def summed(values: Tensor) -> Tensor:
    """Add up the values of all processes, in place."""
    if processes() > 1:
        distributed.all_reduce(values)
    return values


def parallel(module: nn.Module) -> nn.Module:
    """Return a module whose gradients, after a backward pass, are summed over all processes."""
    if processes() == 1 or not any(p.requires_grad for p in module.parameters()):
        return module
    device = next(module.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    shared = DistributedDataParallel(module, device_ids=ids)
    shared.register_comm_hook(None, _sum)
    return shared


def _sum(
    state: None,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Add up gradients: each process has those of the whole batch's loss for its own rows."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


def mean_gradients(module: nn.Module) -> None:
    """Give all processes the mean of their gradients, which but for rounding are the same."""
    if processes() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                summed(parameter.grad).div_(processes())


def shared(values: Tensor) -> Tensor:
    """Return the first process's values, in place."""
    if processes() > 1:
        distributed.broadcast(values, src=0)
    return values


def share_buffers(module: nn.Module) -> None:
    """Copy the first process's buffers, its batch norm statistics, to all processes."""
    if processes() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
