"""What the rows of the catalogue are, and commands that many have."""

from collections.abc import Sequence
from typing import NamedTuple

from bad_inputs.makers import Maker, nothing


class Row(NamedTuple):
    """One case."""

    case: str
    command: str
    said: Sequence[str]
    make: Maker = nothing
    code: int = 2


EXTRACT = "extract bad.pt --data digits_lt -o o.h5"
OWN = "extract m.pt --data digits_lt -o o.h5"
DIGITS = "train ce --data digits_lt --arch digits_net --device cpu"
RGB = "train ce --epochs 1 --arch resnet20 --device cpu --data"
FIT = "alphanet fit feats.h5 --device cpu --k 2"
SWEEP = "alphanet sweep feats.h5 --device cpu --rho 1 --seeds 1"
BROKEN = b"\x89PNG\r\n\x1a\nxxxx"
