"""The files ltkit reads and writes: features, classifiers, neighbours (docs/format.md)."""
