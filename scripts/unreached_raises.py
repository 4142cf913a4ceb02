"""List the ``raise`` statements of ltkit that no test reached.

It reads coverage data, several files together: ``make coverage`` leaves ``.coverage``, and so can
``make test-extras``, for what only the optional libraries reach.

    python scripts/unreached_raises.py .coverage .coverage.extras

Exit code 1 when there is one.
"""

import argparse
import ast
import sys
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).resolve().parents[1]


def executed(files: list[Path]) -> dict[str, set[int]]:
    """Return the lines that were executed, by path from ``ltkit/`` on, in any of the data files."""
    lines: dict[str, set[int]] = {}
    for file in files:
        data = CoverageData(str(file))
        data.read()
        for measured in data.measured_files():
            name = "ltkit/" + Path(measured).as_posix().rpartition("/ltkit/")[2]
            lines.setdefault(name, set()).update(data.lines(measured) or ())
    return lines


def raises(source: str) -> list[tuple[int, int, str]]:
    r"""Return first line, last line and text of each raise statement, in order.

    Example:
        >>> raises("if x:\n    raise ValueError(\n        'no')\n")
        [(2, 3, "raise ValueError('no')")]
    """
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise)]
    return sorted((n.lineno, n.end_lineno or n.lineno, ast.unparse(n)) for n in found)


def main() -> int:
    """Print them, with file and line."""
    parser = argparse.ArgumentParser(description="List raise statements that no test reached.")
    parser.add_argument("data", type=Path, nargs="*", default=[ROOT / ".coverage"])
    files = parser.parse_args().data
    absent = [file for file in files if not file.is_file()]
    if absent:
        parser.error(f"{absent[0]}: not found; run make coverage first")
    lines, count, unreached = executed(files), 0, 0
    for path in sorted((ROOT / "ltkit").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for first, last, text in raises(path.read_text(encoding="utf-8")):
            count += 1
            if not lines.get(name, set()) & {*range(first, last + 1)}:
                unreached += 1
                print(f"{name}:{first}: {text[:120]}")
    print(f"{unreached} of {count} raise statements unreached")
    return 1 if unreached else 0


if __name__ == "__main__":
    sys.exit(main())
