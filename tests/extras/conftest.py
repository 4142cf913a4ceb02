"""Torchvision's import works in every test, see `missing_operators`."""

import missing_operators  # noqa: F401
