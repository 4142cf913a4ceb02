"""The script that lists raise statements reads coverage as it is."""

import runpy
import sys
from pathlib import Path

import pytest
from coverage import CoverageData

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "unreached_raises.py"


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*files):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, files)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return call


def measured(path, **lines):
    """Write coverage data with these lines of modules of the package."""
    data = CoverageData(str(path))
    data.add_lines({f"/elsewhere/ltkit/{name}.py": found for name, found in lines.items()})
    data.write()
    return path


@pytest.mark.more
def test_what_a_line_of_any_file_reached_is_not_listed(run, tmp_path):
    parts = runpy.run_path(str(SCRIPT))
    (first, last, text), *others = parts["raises"](
        (SCRIPT.parents[1] / "ltkit" / "registry.py").read_text(encoding="utf-8")
    )
    assert "unknown name in" in text
    code, every, _ = run(measured(tmp_path / "none", errors=[1]))
    assert code == 1
    assert f"ltkit/registry.py:{first}: raise InputError" in every
    total = int(every.split()[-4])
    assert every.splitlines()[-1] == f"{total} of {total} raise statements unreached"
    lines = [last, *(end for _, end, _ in others)]
    some = measured(tmp_path / "some", registry=lines)
    code, listed, _ = run(tmp_path / "none", some)
    assert "ltkit/registry.py" not in listed
    assert f"{total - len(lines)} of {total}" in listed


def test_absent_data_is_said(run, tmp_path):
    code, _, err = run(tmp_path / "no")
    assert code == 2
    assert "not found; run make coverage first" in err
