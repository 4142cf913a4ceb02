"""Let torchvision be imported where its compiled operators do not load.

Its wheel is built for a CUDA torch; beside a CPU build its library does not load, and its import
stops where it gives shapes to operators that nobody declared. Networks for classification use none
of them, so the names alone are enough here. Nothing of this is in the package.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

UNDECLARED = ("nms", "qnms")
"""Of torchvision 0.28; it asks for the others only where its library did load."""


def declare_missing_operators():
    """Declare the operators that torchvision's import needs, unless its own library does."""
    package = find_spec("torchvision")
    if package is None:
        return None
    try:
        torch.ops.load_library(Path(package.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in UNDECLARED:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


DECLARED = declare_missing_operators()
"""They are gone when the library is."""
