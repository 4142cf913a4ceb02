"""The report: data gathered from files, drawn as figures, in one page that needs nothing else."""
