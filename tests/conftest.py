"""Fixtures that several test files use."""

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Let torch use one thread: small networks gain nothing from more, on a busy machine they lose.

    The number of threads decides the order of sums, so it is the same for all tests of a file.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
