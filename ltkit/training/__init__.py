"""Training a network from images: one plain loop, its augmentation, schedules and checkpoints."""
