"""The files that ltkit reads and writes: features, classifiers, neighbours (docs/format.md)."""
