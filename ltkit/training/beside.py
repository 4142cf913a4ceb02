"""Files that a run keeps next to its output: its state, ``OUTPUT.partial``, and its log."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ltkit.errors import FormatError, InputError
from ltkit.files import scratch
from ltkit.files.atomic import locked, stranger
from ltkit.training import checkpoint, distributed


def locked_output(output: Path) -> AbstractContextManager[None]:
    """Hold the lock of an output; of several processes, only the first, which writes, does."""
    return locked(output) if distributed.rank() == 0 else nullcontext()


def best_path(output: Path) -> Path:
    """Return the path of the best epoch's checkpoint.

    Example:
        >>> str(best_path(Path("nets/ce.pt")))
        'nets/ce.best.pt'
    """
    return output.with_name(f"{output.stem}.best{output.suffix}")


def partial_path(output: Path) -> Path:
    """Return the path of a run's state after each epoch."""
    return output.with_name(f"{output.name}.partial")


def check_beside(output: Path, *, resume: bool) -> None:
    """Refuse foreign files under the names next to an output, before any work.

    Raises:
        InputError: when one is not ltkit's. FormatError: when it is damaged, or not text.
    """
    log = log_path(output)
    lines = log_lines(log)
    if not resume:
        checkpoint.is_partial(partial_path(output))
        check_log(log, lines, None)


def log_path(output: Path) -> Path:
    """Return the path of a run's log, which has one line per epoch."""
    return output.with_name(f"{output.name}.jsonl")


def state_of(output: Path) -> Path:
    """Return the path of what there is of a run: its state, or its finished checkpoint."""
    return partial_path(output) if begun(output) else output


def begun(output: Path) -> bool:
    """Return whether there is a state to resume from."""
    return partial_path(output).is_file()


def forget(output: Path) -> None:
    """Remove the state of a run whose result is written."""
    partial_path(output).unlink(missing_ok=True)


def log_lines(log: Path) -> list[str]:
    """Return the lines of a log, none if there is no log.

    Raises:
        InputError: when something else than a file is there.
        FormatError: when it is not text.
    """
    try:
        return (scratch.read(log) or b"").decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{log}: is not UTF-8 text, so not a log of ltkit; move it away, or choose "
            "another output"
        ) from error


def check_log(log: Path, lines: Sequence[str], run: str | None) -> None:
    """Reject a file that is not a log, or another run's log; old logs do not name their run.

    Args:
        log: path of the log.
        lines: its lines.
        run: digest of this run; None: accept the log of any run.

    Raises:
        InputError: see above.
    """
    for epoch, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("epoch") != epoch or "loss" not in found:
            raise stranger(log)
        if run is not None and found.get("run", run) != run:
            raise InputError(
                f"{log}: exists, and is the log of another run; move it away, choose another "
                "output, or overwrite it without resuming"
            )


def best_of(log: Path, lines: Sequence[str], epochs: int) -> float:
    """Return the best validation accuracy in the log up to this many epochs."""
    try:
        known = [float(json.loads(line)["val"]["balanced"]) for line in lines]
    except (ValueError, LookupError, TypeError):
        known = []
    if len(known) < epochs:
        raise FormatError(
            f"{log}: found {len(known)} sound lines, expected {epochs}, one per finished epoch; "
            "start again without resuming"
        )
    return max(known, default=-1.0)
