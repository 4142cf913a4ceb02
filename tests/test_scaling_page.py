"""The page on scaling: its scripts run, and its table is what was measured."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pages
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import bench_scale
import scale_page

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"
NAMED = re.compile(r"^```\w+\n((?:#![^\n]*\n)?# (\S+\.\w+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPTS = {name: block for block, name in NAMED.findall(PAGE.read_text(encoding="utf-8"))}

RAY = """
import sys

class Task:
    def __init__(self, function):
        self.remote = function

def remote(**options):
    assert options["max_retries"] == 2
    return Task

def init():
    print("begun", file=sys.stderr)

def get(tasks):
    assert tasks == [None] * 4
"""
"""What the script needs of Ray, one task after the other."""


@pytest.fixture
def bash(tmp_path):
    """Run a script of the page in a folder with the features."""
    (tmp_path / "feats.h5").write_bytes((ROOT / "ltkit/data/demo/feats.h5").read_bytes())
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ltkit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ltkit "$@"\n')
    program.chmod(0o755)
    (tmp_path / "ray.py").write_text(RAY)
    found = ":".join([str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}

    def run(name, **variables):
        (tmp_path / name).write_text(SCRIPTS[name])
        program = sys.executable if name.endswith(".py") else "bash"
        return subprocess.run(
            [program, name], cwd=tmp_path, env={**environment, **variables}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_the_page_has_its_scripts_and_they_can_be_read(tmp_path):
    assert list(SCRIPTS) == ["sweep.sh", "sweep.sbatch", "ray_sweep.py"]
    for name, block in SCRIPTS.items():
        if name.endswith(".py"):
            compile(block, name, "exec")
        else:
            subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    assert SCRIPTS["sweep.sbatch"].startswith("#!/bin/bash\n")  # or sbatch takes it for no script


@pytest.mark.more
def test_xargs(bash, tmp_path):
    done = bash("sweep.sh")
    assert done.stderr.count("runs fitted") == done.stderr.count("taken from") == 4
    assert (tmp_path / "sweep.h5").is_file()
    assert not (tmp_path / "sweep.h5.parts").exists()


@pytest.mark.more
def test_a_task_of_slurms_array(bash, tmp_path):
    done = bash("sweep.sbatch", SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="4")
    assert "shard 2/4: 1 of 4 parts are in sweep.h5.parts" in done.stderr
    assert not (tmp_path / "sweep.h5").exists()


@pytest.mark.slow
def test_the_script_for_ray(bash, tmp_path):
    done = bash("ray_sweep.py")
    assert done.stderr.startswith("begun")
    assert done.stderr.count("runs fitted") == done.stderr.count("taken from") == 4
    assert (tmp_path / "sweep.h5").is_file()


def line(size, seconds, peak, command="evaluate", code=0, limit=None):
    return {
        "size": size, "command": command, "limit_gb": limit, "seconds": seconds, "peak_gb": peak,
        "processor_s": seconds, "page_mb": 7.9,
        "code": code, "val_product_s": 0.5, "read_s": 2, "machine": "Some processor, load 0.1",
    }  # fmt: skip


def test_the_table_and_the_exponents(tmp_path):
    lines = [
        line("imagenet-lt", 12.34, 1.234),
        line("inaturalist", 1, 2, "report", 1, 8),
        line("inaturalist", 600, 2, "diagnose", -9),
        line("imagenet-lt", 7, 2, "report") | {"machine": "Some processor, load 3.1", "read_s": 1},
        line("inaturalist", 1200, 2, "check") | {"threads": 1},
    ]
    text = "".join(scale_page.table(lines))
    assert "on Some processor:" in text
    assert "`ulimit -v` of 8 GB" in text
    assert "| `evaluate` | 12.3 s, 1.2 GB | – |" in text
    assert "| `check` | – | 1,200 s (one thread), 2 GB |" in text
    assert "| `report` | 7 s (busy), 2 GB | exit code 1 |" in text
    assert "| `diagnose` | – | not done in 600 s, 2 GB |" in text
    assert "| read | 1 s | 2 s |\n| product | 0.5 s | 0.5 s |" in text
    grown = [
        line(name, size.classes**0.5 * size.train, 3.0) for name, size in bench_scale.GROWTH.items()
    ]
    assert "| `evaluate` | 0.50 | 1.00 | 0.00 | 0.00 |" in "".join(
        scale_page.exponents(grown)
    ).replace("-0.00", "0.00")
    assert "| `evaluate` | – | – | – | – |" in "".join(scale_page.exponents(grown[:1]))
    assert list(scale_page.table(grown)) == list(scale_page.exponents(lines)) == []
    assert list(scale_page.limits(grown)) == []


def test_what_is_bounded_is_met_or_not(tmp_path):
    lines = [
        line("inaturalist", 5.5, 1, "posthoc tau-norm"),
        line("inaturalist", 19, 1, "report"),
        line("inaturalist", 536, 1, "posthoc crt"),
        line("20,000 classes", 9, 3.8, "compare"),
        line("inaturalist, 1.3 M", 9, 3.8, "alphanet fit"),
    ]
    cut = line("inaturalist", 7, 1, "posthoc logit-adjust", -9)
    said = "".join(scale_page.limits([*lines, cut]))
    assert " | 7 s | about 5 s: not done in 7 s, 1 GB |" in said
    size = "inaturalist: 437,513 × 256, 8,142 classes"
    assert f"| `posthoc tau-norm`, {size} | 5.5 s | about 5 s: **not met** |" in said
    assert f"| `report`, {size} | 19 s | at most 20 s: met |" in said
    assert f"| `report`, {size} | 7.9 MB | at most 8 MB: met |" in said
    # 3 x 10 epochs x 2 products x 437,513 / 24,426 x 0.5 s
    assert f"| `posthoc crt`, {size} | 536 s | three times its products, 537 s: met |" in said
    assert " | 3.8 GB | less than all logits, 3.73 GB: **not met** |" in said
    assert " | 3.8 GB | at most 4 GB: met |" in said


def test_a_run_of_the_limits_has_all_that_are_bounded():
    for command, size, *_ in scale_page.LIMITS:
        assert command in bench_scale.BOUNDED[size]


def test_the_table_takes_its_place_in_the_page(tmp_path):
    results = tmp_path / "scale.jsonl"
    text = PAGE.read_text(encoding="utf-8")
    assert scale_page.document(PAGE, results) == text
    results.write_text('{"size": "?", "code": 0}\n')
    assert scale_page.document(PAGE, results) == text  # no growth
    name = next(iter(bench_scale.GROWTH))
    results.write_text(json.dumps(line(name, 1, 2)) + "\n")
    marks = scale_page.MARKS
    found = scale_page.document(PAGE, results)
    between = "".join(scale_page.exponents([line(name, 1, 2)]))
    before, after = text.partition(marks[0])[0], text.partition(marks[1])[2]
    assert found == before + marks[0] + between + marks[1] + after
    assert len(text.splitlines()) <= 150


def test_links():
    pages.check_links(PAGE)
