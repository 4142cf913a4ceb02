"""Studies with few points, for tests."""

from ltkit.studies import alphanet_appendix, theorems


def theorem_points(patch):
    """Make ``theorems`` a study of three points, of a second."""
    patch.setattr(theorems, "DRAWS", {"small": 20, "paper": 30})
    patch.setattr(theorems, "P", (0.5, 1.0))
    patch.setattr(theorems, "BETA", (0.2,))
    patch.setattr(theorems, "PRIORS", (0.8,))


def appendix_points(patch):
    """Make ``alphanet-appendix`` a study of two points."""
    patch.setattr(alphanet_appendix, "KS", (alphanet_appendix.K,))
    patch.setattr(alphanet_appendix, "SEEDS", {"small": 2, "paper": 2})
    patch.setattr(alphanet_appendix, "REPLICATES", {"small": 300, "paper": 300})
