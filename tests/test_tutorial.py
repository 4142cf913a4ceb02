"""The tutorial's commands run in order, in a fresh folder, and print what it shows."""

import re
import shlex
from pathlib import Path

import pytest
from pages import commands, missing
from PIL import Image
from screens import on_terminal

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
CONSOLES = re.findall(r"^```console\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


def sessions():
    """Yield each command and the lines shown below it."""
    for console in CONSOLES:
        yield from commands(console)


def with_codes():
    """Yield each command but ``echo $?``, the lines shown, and the exit code that this shows."""
    every = list(sessions())
    for (command, shown), (after, code) in zip(every, [*every[1:], ("", [])], strict=True):
        if command != "echo $?":
            yield command, shown, int(code[0]) if after == "echo $?" else 0


def form(line):
    """A line without its figures, bars, rules and spaces: what is the same on every machine."""
    return re.sub(r"[-+\d.,…±*─·█▌▐│┃\s]+", "", line)


def follows(shown, printed):
    """Return what is not printed in this order, or beside where the tutorial cuts."""
    return missing(shown, printed, lambda line, found: form(line) == form(found), whole=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.delenv("LTKIT_FEATURES", raising=False)
        printed = [
            on_terminal(patched, shlex.split(command)[1:], rows=24, code=code)
            for command, _, code in with_codes()
        ]
    return folder, printed


@pytest.mark.more
def test_commands_print_what_is_shown(ran):
    _, printed = ran
    for (command, shown, _), lines in zip(with_codes(), printed, strict=True):
        assert not (wrong := follows(shown, lines)), f"{command}: {wrong}"


def test_what_is_shown_is_compared():
    assert follows(["a 1", "b"], ["a 2", "b"]) == ""
    assert follows(["a", "…", "d"], ["a", "b", "c", "d"]) == ""
    assert "not printed" in follows(["a", "c"], ["a"])
    assert "shown 'c'" in follows(["a", "c"], ["a", "b", "c"])
    assert follows(["a"], ["a", "b"]) == "printed more"


@pytest.mark.more
def test_the_correction_chosen_gains_on_rare_classes(ran):
    _, printed = ran
    (lines,) = [p for (c, *_), p in zip(with_codes(), printed, strict=True) if "compare" in c]
    place = next(n for n, line in enumerate(lines) if line.startswith("logit-adjust tau"))
    assert float(lines[place + 1].split()[0]) > 3


@pytest.mark.more
def test_plain_torch_reads_the_result(ran, monkeypatch, capsys):
    folder, _ = ran
    monkeypatch.chdir(folder)
    ((code, said),) = re.findall(
        r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)+)", TUTORIAL, re.MULTILINE | re.DOTALL
    )
    exec(compile(code, "tutorial", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [line.strip() for line in said.splitlines()]


def test_links_and_pictures():
    for target in re.findall(r"\]\(([^)#:]+)\)", TUTORIAL):
        path = ROOT / "docs" / target
        assert path.is_file(), target
        if path.suffix == ".png":
            assert path.stat().st_size < 150_000
            with Image.open(path) as picture:
                assert picture.width > 400
