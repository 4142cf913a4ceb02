"""Try an installed ltkit as its first user would: version, help, demo, types; no other tools."""

import subprocess
import sys
import tempfile
from pathlib import Path

ABSENT = ("pytest", "mypy", "ruff", "hypothesis")


def main() -> None:
    """Run the commands in a folder that has no checkout."""
    environment = Path(sys.argv[1]).resolve()
    python, ltkit = environment / "bin" / "python", environment / "bin" / "ltkit"
    site = f"import sys; sys.exit(any(map(__import__('importlib.util').util.find_spec, {ABSENT})))"
    packaged = (
        "import importlib.resources as r; t = r.files('ltkit'); "
        "assert (t / 'py.typed').is_file() and (t / 'data' / 'LICENSE-WORDNET').is_file()"
    )
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            [python, "-c", site],
            [python, "-c", packaged],
            [ltkit, "--version"],
            [ltkit, "--help"],
            [ltkit, "demo", "--quiet"],
            [ltkit, "validate", "ltkit-demo/feats.h5"],
        ):
            print("$", *(str(word) for word in command), flush=True)
            subprocess.run(command, cwd=folder, check=True)
    print("the wheel works")


if __name__ == "__main__":
    main()
