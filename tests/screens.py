"""Commands run in this process with a terminal to write to."""

import os
import pty
import re
import sys
import threading

import pytest

from ltkit.cli import main

STYLE = re.compile(r"\x1b\[[\d;]*[mK]")


def read_all(master, found):
    """Collect what is written to the other end of a terminal until it is closed."""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            return
        if not part:
            return
        found.append(part)


def on_terminal(monkeypatch, words, columns=80, no_color=True, encoding="utf-8", rows=1000, code=0):
    """Run a command with stdout and stderr on a terminal of so many columns; return its lines."""
    master, slave = pty.openpty()
    found = []
    reader = threading.Thread(target=read_all, args=(master, found))
    reader.start()
    with monkeypatch.context() as patched, os.fdopen(slave, "w", encoding=encoding) as screen:
        patched.setenv("COLUMNS", str(columns))
        patched.setenv("LINES", str(rows))
        patched.setenv("TERM", "xterm")
        patched.delenv("NO_COLOR", raising=False)
        if no_color:
            patched.setenv("NO_COLOR", "1")
        patched.setattr(sys, "stdout", screen)
        patched.setattr(sys, "stderr", screen)
        patched.setattr(sys, "argv", ["ltkit", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    reader.join()
    os.close(master)
    text = b"".join(found).decode(encoding)
    assert (left.value.code or 0) == code, text
    if no_color:
        assert not re.findall(r"\x1b\[[\d;]*?[34]\d[\d;]*m", text)
    return [line.rstrip() for line in STYLE.sub("", text).splitlines()]
