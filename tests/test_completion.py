"""Shell completion: what bash offers after the words typed so far."""

import os
import shutil
import subprocess
import sys

import pytest

from ltkit import losses, posthoc
from ltkit.registry import names, names_in

START = "import sys; from ltkit.cli import main; sys.argv[0] = 'ltkit'; main()"


def offered(*words):
    """What is offered for the last of some words, and whether numpy was imported for it."""
    environment = os.environ | {
        "_LTKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["ltkit", *words]),
        "COMP_CWORD": str(len(words)),
    }
    code = START.replace("main()", "\ntry: main()\nfinally: print('numpy' in sys.modules)")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    *lines, heavy = done.stdout.splitlines()
    return [line for line in lines if line], heavy == "True"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("comp",), ["compare"]),
        (("posthoc", "lo"), ["logistic", "logit-adjust"]),
        (("train", "lda"), ["ldam"]),
        (("study", "toy"), ["toy-majority", "toy-minority"]),
        (("alphanet", "s"), ["sweep", "show"]),
        (("evaluate", "--ru"), ["--rule", "--run"]),
        (("evaluate", "--run", ""), ["best", "mean"]),
        (("posthoc", "nothing"), []),
    ],
)
def test_what_is_offered(words, wanted):
    found, heavy = offered(*words)
    assert sorted(found) == sorted(wanted)
    assert not heavy


def test_names_are_known_without_an_import():
    assert names_in("posthoc") == names(posthoc)
    assert names_in("losses") == names(losses)
    assert names_in("nothing") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_reads_the_script(tmp_path):
    ltkit = tmp_path / "ltkit"
    ltkit.write_text(f"#!{sys.executable}\n{START}\n", encoding="utf-8")
    ltkit.chmod(0o755)
    script = (
        "source <(ltkit --show-completion bash); COMP_WORDS=(ltkit posthoc ta) COMP_CWORD=2; "
        '_ltkit_completion ltkit; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["tau-norm"], done.stderr


def test_help_has_one_line_on_it(ltkit):
    _, out, _ = ltkit("--help")
    assert "--install-completion" in out
    assert "--show-completion" not in out
    _, out, _ = ltkit("evaluate", "--help")
    assert "completion" not in out
