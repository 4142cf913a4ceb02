"""Writing corrections into checkpoints and into files of other tools."""
