"""What is published says of itself what is true."""

import re
import tomllib
from pathlib import Path

import ltkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_newest_release_has_this_version():
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(ltkit.__version__)} - \d{{4}}-\d\d-\d\d", sections[1])


def test_lowest_versions_are_those_that_are_declared():
    declared = dict(line.split(">=") for line in PROJECT["dependencies"])
    listed = dict(
        line.split("==")
        for line in (ROOT / "requirements" / "lowest.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    assert listed.keys() == declared.keys()
    for name, version in declared.items():
        assert f"{listed[name]}.".startswith(f"{version}."), name


def test_every_python_that_is_declared_is_tested():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    versions = re.findall(r'"(3\.\d+)"', workflow.partition("matrix:")[2].partition("steps:")[0])
    said = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"3\.\d+$", c)]
    assert versions == said
    assert PROJECT["requires-python"] == f">={said[0]}"


def test_workflows_only_call_make():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        commands = re.findall(r"- run: (.+)", workflow.read_text())
        assert commands
        assert all(command.startswith("make ") for command in commands), workflow
        targets = (ROOT / "Makefile").read_text()
        for command in commands:
            for target in command.split()[1:]:
                assert f"\n{target}:" in targets


def test_types_are_announced():
    assert (Path(ltkit.__file__).parent / "py.typed").is_file()
