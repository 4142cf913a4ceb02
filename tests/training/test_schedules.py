"""Learning rates, epoch by epoch, of one stage or two."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ltkit.settings import TrainSettings
from ltkit.training.schedules import Stage, learning_rate, staged_rate

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_reference_schedule_epoch_by_epoch():
    settings = TrainSettings()
    for number in range(1, 201):  # counted from 1
        if number <= 5:
            expected = 0.1 * number / 5
        elif number > 180:
            expected = 0.1 * 0.0001
        elif number > 160:
            expected = 0.1 * 0.01
        else:
            expected = 0.1
        for step in (0.0, 0.5, 0.99):
            assert learning_rate(settings, number - 1 + step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epochs", [10, 30, 70, 100, 130, 400])
def test_steps_scale_with_the_number_of_epochs(epochs):
    settings = TrainSettings(epochs=epochs, warmup_epochs=0)
    rates = [learning_rate(settings, epoch) for epoch in range(epochs)]
    eighty, ninety = epochs * 8 // 10, epochs * 9 // 10
    expected = [0.1] * eighty + [1e-3] * (ninety - eighty) + [1e-5] * (epochs - ninety)
    assert rates == pytest.approx(expected)


def test_one_cycle_rises_and_falls():
    settings = TrainSettings(epochs=20, learning_rate=0.4, schedule="onecycle")
    at = partial(learning_rate, settings)
    assert [at(0), at(2), at(4)] == pytest.approx([0.04, 0.22, 0.4])
    assert [at(8), at(12), at(20)] == pytest.approx([0.2 * (1 + math.sqrt(0.5)), 0.2, 0], abs=1e-12)
    rates = [at(epoch / 10) for epoch in range(201)]
    assert np.argmax(rates) == 40
    assert (np.diff(rates[:41]) > 0).all()
    assert (np.diff(rates[40:]) < 0).all()


def test_steps_and_their_factor():
    """140 and 180 of 200, each a tenth."""
    settings = TrainSettings(steps=(0.7, 0.9), step_factor=0.1, warmup_epochs=0)
    rates = [learning_rate(settings, epoch) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 140 + [0.01] * 40 + [0.001] * 20, rel=1e-12)
    none = replace(settings, steps=())
    assert {learning_rate(none, epoch) for epoch in range(200)} == {0.1}


@pytest.mark.parametrize("hundredths", [7, 29, 58, 70])
def test_a_step_is_after_its_part_of_the_epochs_without_rounding(hundredths):
    for epochs in range(1, 301):
        settings = TrainSettings(epochs=epochs, steps=(hundredths / 100,), warmup_epochs=0)
        rates = [learning_rate(settings, epoch) for epoch in range(epochs)]
        whole = sum(100 * number <= hundredths * epochs for number in range(1, epochs + 1))
        assert rates == [0.1] * whole + [0.001] * (epochs - whole)


@pytest.mark.parametrize("schedule", ["step", "cosine", "onecycle"])
def test_each_stage_has_its_own_schedule_or_both_have_one(schedule):
    settings = TrainSettings(epochs=50, schedule=schedule, warmup_epochs=3)
    one = replace(settings, epochs=40)
    two = replace(settings, epochs=10, learning_rate=0.7, warmup_epochs=0)
    stage = Stage(40, "ce", {}, learning_rate=0.7)
    for epoch in np.arange(0, 50, 0.25):
        expected = learning_rate(one, epoch) if epoch < 40 else learning_rate(two, epoch - 40)
        assert staged_rate(settings, stage, epoch) == expected
        whole = learning_rate(settings, epoch)
        assert staged_rate(settings, None, epoch) == whole
        assert staged_rate(settings, replace(stage, learning_rate=None), epoch) == whole
