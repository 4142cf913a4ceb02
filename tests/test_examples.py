import re
import runpy
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltkit.cli import app

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.usefixtures("one_thread")
def test_the_library_example_runs_and_corrections_help_the_few(capsys):
    runpy.run_path(str(EXAMPLES / "own_features.py"))
    few = dict(re.findall(r"^([a-z-]+): few ([\d.]+)", capsys.readouterr().out, re.MULTILINE))
    assert float(few["alphanet"]) > float(few["baseline"])
    assert float(few["logit-adjust"]) > float(few["baseline"])


def test_the_scripts_name_commands_and_options_that_exist():
    for script in EXAMPLES.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
        for line in re.findall(r"^ltkit (.*)$", script.read_text(encoding="utf-8"), re.MULTILINE):
            words = line.split()
            command = words[:2] if words[0] == "alphanet" else words[:1]
            help_ = CliRunner().invoke(app, [*command, "--help"]).output
            for option in [word for word in words if word.startswith("--")]:
                assert option in help_, line
