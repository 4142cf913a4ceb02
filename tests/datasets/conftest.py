"""Fixtures that several test files use."""

import numpy as np
import pytest
import shared_data


@pytest.fixture(scope="module")
def index():
    with np.load(shared_data.shared("cifar100", "index.npz")) as file:
        return dict(file)
