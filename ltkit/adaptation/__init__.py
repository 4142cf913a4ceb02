"""A classifier for another prior: how often classes occur among samples without labels.

`adapt` calibrates a classifier on validation data, learns the shares of classes on samples from the
field, tests whether the two differ in these shares alone, and adds the log shares to the logits.
"""

from ltkit.adaptation.adapting import Adapted as Adapted
from ltkit.adaptation.adapting import adapt as adapt
from ltkit.adaptation.answers import summary as summary
from ltkit.adaptation.targets import of_array as of_array

__all__ = ["Adapted", "adapt", "of_array", "summary"]
