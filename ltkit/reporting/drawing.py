"""Plotly: its script for the page, and figures as files (the only module that imports plotly)."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from ltkit.errors import InputError
from ltkit.files.atomic import write_bytes
from ltkit.reporting.exhibits import Exhibit, label

FORMATS = ("svg", "pdf", "png")
WIDTH = 900
"""Width of a figure in pixels."""


def script() -> str:
    """Return plotly.js, as bundled with the Python package."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def write_figures(exhibits: Iterable[Exhibit], folder: Path) -> list[Path]:
    """Write the first view of each figure as SVG, PDF and PNG; return the files.

    Plotly draws files with the kaleido package, which runs a Chrome or Chromium.

    Args:
        exhibits: exhibits; those with views are written.
        folder: output folder, created if absent.

    Raises:
        InputError: when kaleido or a browser is missing, or the folder is a file.
    """
    import plotly.graph_objects as go
    from plotly import io

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--figures: {folder}: is a file, expected a folder; name another")
    figures, names, heights = [], [], []
    for exhibit in exhibits:
        for view in exhibit.views[:1]:
            traces = [{k: v for k, v in t.items() if k != "meta"} for t in view.traces]
            title = {"text": exhibit.title + (f": {label(view.name, 60)}" if view.name else "")}
            figure = go.Figure({"data": traces, "layout": {**view.layout, "title": title}})
            figure.update_layout(template="plotly_white", margin={"t": 60})  # for the title
            figures += [figure] * len(FORMATS)
            heights += [exhibit.height] * len(FORMATS)
            names += [f"{exhibit.key}.{form}" for form in FORMATS]
    with TemporaryDirectory() as drawn:
        try:
            files = [Path(drawn) / name for name in names]
            io.write_images(figures, files, width=WIDTH, height=heights)
        except Exception as error:  # kaleido's and the browser's, of many classes
            raise InputError(
                f"--figures: cannot draw ({_first_line(error)}); it needs the kaleido package and "
                "Chrome or Chromium: pip install 'ltkit[figures]', or save single figures from the "
                "page by their camera button"
            ) from error
        folder.mkdir(exist_ok=True)
        for name in names:
            write_bytes(folder / name, (Path(drawn) / name).read_bytes())
    return [folder / name for name in names]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(",") if lines else type(error).__name__
