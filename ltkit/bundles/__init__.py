"""Bundles: what is shipped, in one folder, with what it was measured to do.

A bundle has the corrected classifier, the rules beside it, the model's checkpoint with the
corrected head where one is wanted, a model card, and ``bundle.json``, which names the files with
their digests and keeps the figures that `check` measures again on new labelled features.
"""

from ltkit.bundles.checking import check
from ltkit.bundles.contents import CARD, RULES, Bundle, check_free, read
from ltkit.bundles.writing import Wanted, write

__all__ = ["CARD", "RULES", "Bundle", "Wanted", "check", "check_free", "read", "write"]
