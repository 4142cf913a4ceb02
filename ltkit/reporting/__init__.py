"""The report: data gathered from files, drawn as figures on one self-contained page."""
