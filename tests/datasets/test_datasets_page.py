"""The page on datasets: its commands print what it shows, its words are those of the code."""

import re
import shlex
from pathlib import Path

import pictures
import pytest

from ltkit import datasets
from ltkit.datasets import names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
CONSOLES = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands():
    """Give each command, and the lines shown below it."""
    for console in CONSOLES:
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            yield command, lines


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """The folder of the page: three classes with 30 images each, and what is no image."""
    listed = [f"{c}/{i}.png" for c in (1, 2, 10) for i in range(30)]
    pictures.write(tmp_path / "pets", listed)
    for name in ("README.txt", "1/labels.json", "2/.DS_Store"):
        pictures.put(tmp_path / "pets" / name)
    parts = ["train"] * 20 + ["valid"] * 5 + ["test"] * 5
    rows = [f"{name};{name.split('/')[0]}th;{parts[i % 30]}\n" for i, name in enumerate(listed)]
    (tmp_path / "pets.csv").write_text("FILE;species;part\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)


def test_the_commands_print_what_is_shown(pets, ltkit):
    for command, shown in commands():
        code, out, err = ltkit(*shlex.split(command)[1:])
        assert code == 0, err
        printed = [*err.splitlines(), *out.splitlines()]
        for line in shown:
            pattern = re.escape(line).replace("…", ".+")
            assert any(re.fullmatch(pattern, found) for found in printed), (line, printed)


def test_the_page_names_everything():
    for name, spec in datasets.CATALOGUE.items():
        assert f"`{name}`" in PAGE
        assert all(f"`{key}`" in PAGE for key in spec.parameters)
    assert all(f"`{name}`" in PAGE for split in names.SPLIT_NAMES.values() for name in split)
    assert all(f"{end} " in PAGE or f"{end}," in PAGE for end in names.SUFFIXES)
    assert all(f"`{word}`" in PAGE for word in (*datasets.PROFILES, *datasets.VAL_RULES))
