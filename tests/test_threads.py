"""Work in several threads: results come in order, and errors and the context get through."""

import threading
import time

import numpy as np
import pytest
import torch

from ltkit import threads


@pytest.fixture(params=["1", "2", "7"])
def several(request, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", request.param)
    return int(request.param)


def test_results_come_in_the_order_of_items(several):
    def late(n):
        time.sleep(0.002 * (5 - n % 5))
        return n, threading.get_ident()

    found = list(threads.in_order(late, range(20)))
    assert [n for n, _ in found] == list(range(20))
    assert len({thread for _, thread in found}) <= several


def test_few_items_are_taken_ahead(several):
    taken, done = [], []

    def items():
        for n in range(30):
            taken.append(n)
            yield n

    for n in threads.in_order(lambda n: n, items()):
        done.append(n)
        assert len(taken) - len(done) <= several + 1
    assert done == list(range(30))


@pytest.mark.parametrize("items", [[], [1]])
def test_nothing_and_one_item(several, items):
    assert list(threads.in_order(lambda n: n + 1, items)) == [n + 1 for n in items]


def test_an_error_is_raised_and_leaves_no_thread(several):
    def fail(n):
        if n == 5:
            raise ValueError("five")
        return n

    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        list(threads.in_order(fail, range(50)))
    assert threading.active_count() == before


def test_long_work_is_told_of_an_error(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    stop, told = threading.Event(), []

    def work(item):
        if item == "fails":
            raise ValueError("five")
        told.append(stop.wait(60))

    with pytest.raises(ValueError, match="five"):
        list(threads.in_order(work, ["fails", "long"], stop))
    assert told == [True]


def test_long_work_is_told_when_no_more_is_wanted(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    stop, told = threading.Event(), []
    found = threads.in_order(lambda n: n and told.append(stop.wait(60)), range(3), stop)
    assert next(found) == 0
    found.close()
    assert told == [True, True]


def test_work_sees_the_callers_error_state(several):
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        list(threads.in_order(lambda n: np.float32(1e38) * np.float32(n), range(1000, 1010)))


def test_torch_has_its_threads_again_after_an_error():
    def fail():
        assert torch.get_num_threads() == 1
        raise ValueError("five")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="five"), threads.one_of_torch():
        fail()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("said", ["", "0", "all", "2,1", "-1"])
def test_without_a_number_it_is_the_cores(monkeypatch, said):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.count() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert threads.count() >= 1
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert threads.count() == 1
