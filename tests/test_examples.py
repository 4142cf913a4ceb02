import os
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
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


@pytest.mark.usefixtures("one_thread")
def test_the_chain_runs_on_digits(ltkit, tmp_path, monkeypatch):
    """The script says what it would run, with its arguments in place; that is run here."""
    said, stand_in = tmp_path / "said", tmp_path / "ltkit"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    stand_in.chmod(0o755)
    script = EXAMPLES / "cifar100_lt_chain.sh"
    subprocess.run(
        [script, tmp_path, "10", "digits_lt", "digits_net"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True,
    )  # fmt: skip
    lines = said.read_text().splitlines()
    assert "train ldam --drw 8 --data digits_lt --arch digits_net --epochs 10" in lines[1]
    monkeypatch.chdir(tmp_path)
    printed = []
    for line in lines:
        code, out, err = ltkit(*shlex.split(line), "-q")
        assert code == 0, f"{line}: {err}"
        printed.append(out)
    assert [line.split()[0] for line in lines[-2:]] == ["compare", "compare"]
    for out in printed[-2:]:
        assert re.search("alphanet.*baseline", out, re.DOTALL)
    settings = torch.load("ldam-drw.pt", weights_only=True)["recipe"]
    assert settings["parameters"]["drw"] == 8
    assert (tmp_path / "ce.alphanet.h5").is_file()
