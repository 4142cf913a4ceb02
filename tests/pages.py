"""Pages of documentation are run: commands print what is shown, Python does as it says."""

import doctest
import re
import shlex
from pathlib import Path

BLOCK = re.compile(r"^```(python|pycon|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\w+\.py)\n")
CUT, REFUSED = "…", "ltkit: "


def run(path, ltkit):
    """Run a page's blocks in order, in the current folder; return what its Python has defined.

    A command must print the lines shown below it, in this order, others only where ``…`` cuts; it
    is refused where such a line says so. Numbers with a decimal point may differ.

    Args:
        path: of the page.
        ltkit: the fixture.
    """
    page, space = path.read_text(encoding="utf-8"), {}
    for kind, block in BLOCK.findall(page):
        if kind == "console":
            for command, shown in commands(block):
                code, out, err = ltkit(*shlex.split(command)[1:])
                printed = [line.rstrip() for line in (*err.splitlines(), *out.splitlines())]
                assert code == 2 * any(line.startswith(REFUSED) for line in shown), (command, err)
                assert not (wrong := missing(shown, printed)), (command, wrong, printed)
        elif kind == "pycon":
            test = doctest.DocTestParser().get_doctest(block, space, path.name, str(path), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
            said = []
            assert not runner.run(test, out=said.append, clear_globs=False).failed, "".join(said)
            space = test.globs
        elif not NAME.match(block):
            exec(compile(block, path.name, "exec"), space)
    return space


def write_files(path):
    """Write the blocks of a page that begin with ``# NAME.py`` into files of these names."""
    for _, block in BLOCK.findall(path.read_text(encoding="utf-8")):
        if named := NAME.match(block):
            Path(named.group(1)).write_text(block, encoding="utf-8")


def check_links(path):
    """Check that a page's links lead to files, and to headings that are there."""
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text("utf-8")):
        other = path.parent / target if target else path
        assert other.is_file(), target
        titles = re.findall(r"^#+ (.*)$", other.read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not heading or heading in anchors, heading


def commands(block):
    """Give each command of a block, and the lines shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.replace("\\\n", " ").splitlines()
        yield command, lines


def alike(line, found):
    """Return whether a line shown is one printed, but for figures with a point and what is cut."""
    pattern = re.sub(r"\d+\\\.\d+", r"[\\d.]+", re.escape(line)).replace(CUT, ".*")
    return re.fullmatch(pattern, found) is not None


def missing(shown, printed, same=alike, whole=False):
    """Return the first line that is not printed in its place; nothing where all are.

    With `whole`, nothing else may be printed but where a line says that it is cut.
    """
    rest, free = iter(printed), False
    for line in shown:
        if line == CUT:
            free = True
            continue
        for found in rest:
            if same(line, found):
                break
            if not free:
                return f"shown {line!r}, printed {found!r}"
        else:
            return f"not printed: {line!r}"
        free = False
    return "printed more" if whole and not free and next(rest, None) is not None else ""
