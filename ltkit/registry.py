"""A folder is a list of methods: one public module, one name.

`losses/balanced_softmax.py` is ``balanced-softmax`` on the command line. Names are listed without
importing the modules, so that ``--help`` stays quick.
"""

import importlib
import pkgutil
from types import ModuleType

from ltkit.errors import InputError, nearest


def names(package: ModuleType) -> list[str]:
    """Return the public module names of a package, with dashes, sorted."""
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(m.name.replace("_", "-") for m in modules if not m.name.startswith("_"))


def load(package: ModuleType, name: str) -> ModuleType:
    """Import one module of a package by its command-line name.

    Raises:
        InputError: when there is no such module; the message lists the nearest names.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rsplit(".", 1)[-1]
        raise InputError(f"{name}: unknown name in {kind}; {nearest(name, known)}")
    return importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}")
