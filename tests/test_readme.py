"""The README's commands run in order, in a fresh folder; every command has such a line.

A line with a pipe is run in a shell, another one in this process, which has imported everything.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltkit.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\$ (ltkit .*)$", README, flags=re.MULTILINE)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder, and what lines with a pipe have printed."""
    folder, printed = tmp_path_factory.mktemp("readme"), {}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.delenv("LTKIT_FEATURES", raising=False)
        for line in LINES:
            if "|" in line:
                done = shell(line, folder)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                printed[line] = done.stdout
            else:
                done = CliRunner().invoke(app, shlex.split(line)[1:])
                assert done.exit_code == 0, f"{line}\n{done.stderr}{done.exception}"
    return folder, printed


def test_lines_run_in_order(ran):
    folder, _ = ran
    assert (folder / "feats.h5").is_file()
    assert (folder / "per-class.csv").read_text(encoding="utf-8").count("\n") == 11


def test_the_pipeline_ends_in_one_json_document(ran):
    _, printed = ran
    (line,) = [line for line in LINES if line.endswith("--json")]
    document = json.loads(printed[line])
    assert document["schema"] == "ltkit.evaluate/2"
    assert "alphanet" in [row["name"] for row in document["rows"]]


def test_the_scores_of_the_chain(ran):
    """Golden figures of the chain; a change of them is a line of the CHANGELOG."""
    folder, _ = ran
    document = json.loads(shell("ltkit evaluate feats.h5 --json -q", folder).stdout)
    found = {row["name"]: row["accuracy"] for row in document["rows"] if row["runs"] == 1}
    golden = json.loads((ROOT / "tests" / "golden.json").read_text(encoding="utf-8"))
    assert golden.keys() <= found.keys()
    for name, accuracy in golden.items():
        for group, value in accuracy.items():
            assert found[name][group] == pytest.approx(value, abs=0.06), (name, group)


def test_every_command_has_a_line():
    shown = README + " ltkit demo"
    for command in [*app.registered_commands, *app.registered_groups]:
        assert f"ltkit {command.name}" in shown, command.name


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("script", ["benchmarks/write_docs.py", "scripts/write_reference.py"])
def test_generated_pages_are_what_their_files_say(script):
    own, pinned = f"typer=={version('typer')}", ROOT / "requirements" / "constraints.txt"
    if "reference" in script and own not in pinned.read_text(encoding="utf-8").splitlines():
        pytest.skip(f"help looks otherwise with {own}")
    done = subprocess.run([sys.executable, ROOT / script, "--check"], check=False)
    assert done.returncode == 0, f"run python {script}"
