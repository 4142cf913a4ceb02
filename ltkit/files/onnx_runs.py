"""ONNX models, run in a child process: a model is a program, and a stranger's may never end.

The child runs one model at a time, with limits on its processor time and memory that grow with the
model and its images; a loop without end, a shape that fills the memory or a crash of the runtime
ends the child, and is a line here. It is started once, and goes on from one model to the next.
Only arrays of numbers come back.
"""

import atexit
import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.files import isolated
from ltkit.untrusted.budget import Budget

SECONDS, BYTES_PER_SECOND = 2, 50e6
"""Processor time for a small model, and the pace that sets it for a large one."""

PIXELS, MOST_FIRST = 1 << 18, 8
"""Pixels for which that time is allowed; more get more, up to this factor for a model's first."""

MEMORY, FOLD, PER_INPUT, PER_THREAD = 1 << 30, 12, 128, 128 << 20
"""Bytes for a small model, multiples of its size and its images' size, and bytes per thread."""

WAIT, SLOWEST = 60, 10
"""Wall-clock seconds, and their multiple of the processor time, for busy machines."""

CHILD = "from ltkit.files.onnx_runs import serve; serve()"
HEADER = struct.Struct("<I")


class Session:
    """A model loaded in the child."""

    server: ClassVar[subprocess.Popen[bytes] | None] = None
    """The child, started on first use."""

    held: ClassVar["Session | None"] = None
    """The session whose model the child holds."""

    def __init__(self, path: Path, model: bytes, names: Sequence[str], threads: int) -> None:
        """Load a model in the child.

        Args:
            path: the model's path, for messages.
            model: in its own format.
            names: names of its outputs.
            threads: threads that it may use.

        Raises:
            InputError: when the runtime rejects it.
            FormatError: when loading it does not end, or fills the memory.
        """
        self.path, self.model, self.names, self.threads = path, model, list(names), threads
        self.runs = 0
        self._load()

    def run(self, images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the outputs for a batch of images (B, channels, H, W).

        Raises:
            RuntimeError: with the runtime's message about such images.
            FormatError: when it does not end, or fills the memory.
        """
        if Session.held is not self or Session.server is None:
            self._load()
        share = max(1.0, images[:, :1].size / PIXELS)
        share = share if self.runs else min(share, MOST_FIRST)
        answer, found = self._ask({"task": "run"}, [images], share, images.nbytes)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        self.runs += 1
        return found

    def _load(self) -> None:
        raw = np.frombuffer(self.model, np.uint8)
        task = {"task": "load", "names": self.names, "threads": self.threads}
        answer, _ = self._ask(task, [raw], 1, 0)
        if "error" in answer:
            raise InputError(
                f"{self.path}: onnxruntime does not take the model ({answer['error']})"
            )
        Session.held = self

    def _ended(self, code: int, seconds: int) -> FormatError:
        """Return the error for a child that ended with an exit code."""
        if code == -signal.SIGXCPU:
            return self._lost(f"took more than {seconds} s of processor time")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._lost(f"was ended by {name}")

    def _ask(
        self, request: dict[str, Any], arrays: list[NDArray[Any]], share: float, given: int
    ) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Send the child a task and arrays; return its answer.

        Raises:
            FormatError: when it reaches a limit, or ends.
        """
        size = len(self.model)
        seconds = math.ceil((SECONDS + size / BYTES_PER_SECOND) * share)
        memory = MEMORY + FOLD * size + PER_INPUT * given + PER_THREAD * self.threads
        server = self._started()
        assert server.stdin is not None and server.stdout is not None  # noqa: PT018
        budget = Budget(self.path, size + given)
        try:
            send(server.stdin, request | {"seconds": seconds, "memory": memory}, arrays)
            if not select.select([server.stdout], [], [], WAIT + SLOWEST * seconds)[0]:
                raise self._lost(f"took more than {WAIT + SLOWEST * seconds} s")
            answer, found = receive(server.stdout, budget)
        except (EOFError, BrokenPipeError):
            raise self._ended(server.wait(), seconds) from None
        except BaseException:  # an interrupt, too, leaves an answer that nobody reads
            end()
            raise
        if answer.get("full"):
            raise self._lost(f"took more than {memory} bytes of memory")
        return answer, found

    def _lost(self, what: str) -> FormatError:
        end()
        return FormatError(
            f"{self.path}: running the model {what}; give it fewer images with --batch-size, or "
            "extract from a checkpoint of the weights"
        )

    def _started(self) -> subprocess.Popen[bytes]:
        if Session.server is None:
            atexit.register(end)
            Session.server = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        return Session.server


def end() -> None:
    """End the child, if one is running."""
    server, Session.server, Session.held = Session.server, None, None
    if server is not None:
        server.kill()
        server.wait()
        for stream in (server.stdin, server.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def send(stream: IO[bytes], message: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Write a message and numeric arrays."""
    plain = [np.ascontiguousarray(array) for array in arrays]
    kinds = [[array.dtype.str, list(array.shape)] for array in plain]
    header = json.dumps(message | {"arrays": kinds}).encode()
    stream.write(HEADER.pack(len(header)) + header)
    for array in plain:
        stream.write(array.data.cast("B") if array.size else b"")
    stream.flush()


def receive(
    stream: IO[bytes], budget: Budget | None = None
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read a message and its arrays.

    Args:
        stream: the stream to read from.
        budget: limits on the arrays.

    Raises:
        EOFError: when the stream ends before.
        FormatError: when the arrays are larger than the budget.
    """
    message: dict[str, Any] = json.loads(_exactly(stream, *HEADER.unpack(_exactly(stream, 4))))
    arrays = []
    for kind, shape in message.pop("arrays"):
        size = math.prod(shape) * np.dtype(kind).itemsize
        if budget is not None:
            budget.take(size, "an output")
        arrays.append(np.frombuffer(_exactly(stream, size), kind).reshape(shape))
    return message, arrays


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return found


def serve() -> None:
    """As the child, do what the parent asks; end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and decides
    replies = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    session, names = None, []
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, arrays = receive(sys.stdin.buffer)
            isolated.limit(None, None)
            answer: dict[str, Any] = {}
            found: list[NDArray[Any]] = []
            try:
                if request["task"] == "load":
                    session = None  # its memory is the next one's
                    session, names = _session(request, arrays[0]), request["names"]
                else:
                    isolated.limit(request["seconds"], request["memory"])
                    found = _run(session, names, arrays[0])
            except MemoryError:
                answer = {"full": True}
            except Exception as error:  # the runtime's own kinds have no name in common
                said = str(error)
                full = "bad_alloc" in said or "allocate memory" in said
                answer = {"full": True} if full else {"error": said[-2000:]}
            isolated.limit(None, None)
            send(replies, answer, found)


def _session(request: dict[str, Any], model: NDArray[Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = request["threads"]
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    isolated.limit(request["seconds"], request["memory"])
    return onnxruntime.InferenceSession(
        model.tobytes(), options, providers=["CPUExecutionProvider"]
    )


def _run(session: Any, names: list[str], images: NDArray[Any]) -> list[NDArray[Any]]:
    found = session.run(names, {session.get_inputs()[0].name: images})
    arrays = [np.asarray(value) for value in found]
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: is no array of numbers")
    return arrays
