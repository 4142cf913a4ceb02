"""Each epoch's numbers as TensorBoard scalars (``pip install 'ltkit[tensorboard]'``)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltkit.errors import SettingError
from ltkit.training.job import Progress, Report


def scalars(folder: Path) -> Report:
    """Return a function that adds an epoch's numbers to a TensorBoard folder.

    Names are those of the log, as ``val/few``. The first epoch that is added takes the place of it
    and those after it, so that a resumed run draws one line.

    Raises:
        SettingError: when TensorBoard is not installed, or there is no such folder to make.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError(
            "tensorboard",
            f"tensorboard is not installed ({error}); pip install 'ltkit[tensorboard]'",
        ) from error
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"tensorboard {folder}", "is a file, expected a folder")
    writer: Any = None

    def add(progress: Progress) -> None:
        nonlocal writer
        if writer is None:
            writer = SummaryWriter(folder, purge_step=progress.epoch)
        for name, value in flat(progress.line):
            writer.add_scalar(name, value, progress.epoch)
        writer.flush()
        if progress.epoch == progress.epochs:
            writer.close()

    return add


def flat(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a log line, except the epoch, with names joined by slashes.

    Example:
        >>> list(flat({"epoch": 3, "loss": 0.5, "val": {"few": 0.25}}))
        [('loss', 0.5), ('val/few', 0.25)]
    """
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif name != "epoch":
            yield f"{prefix}{name}", float(value)
