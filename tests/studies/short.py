"""Studies with few points, for tests."""

from ltkit.studies import _networks, alphanet_appendix, ssp, theorems, toy_majority, toy_minority


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


def toy_points(patch):
    """Make the toy cases studies of two trainings, on digits."""
    patch.setattr(_networks, "SEEDS", {"small": 1, "paper": 50})
    patch.setattr(_networks, "SEEN", 300)
    patch.setattr(toy_majority, "SMALL", (0.1, 0.5))
    patch.setattr(toy_minority, "SMALL", (0.5, 0.1))


def ssp_points(patch):
    """Make ``ssp`` a study of one imbalance and seed, on digits."""
    toy_points(patch)
    patch.setattr(ssp, "IMBALANCES", {"small": (20,), "paper": (100, 50, 20, 10)})
    patch.setattr(ssp, "SEEDS", {"small": 1, "paper": 3})
    patch.setattr(ssp, "MAPPED", 40)
