"""Training losses, one file each: ``loss(logits, labels, class_counts, **parameters)``."""
