"""Post-hoc corrections, one file each: a classifier in, a classifier out.

``fit(base, train, class_counts, **parameters) -> Classifier``; a module may have ``GRID``,
parameter name to the values that are tried on validation data when the user gives none.
"""
