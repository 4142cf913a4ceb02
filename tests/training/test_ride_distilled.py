"""RIDE's stages as one recipe: what each starts from and learns from, and what is resumed."""

from dataclasses import replace

import pytest
import torch
from contrastive import RUN
from made import refused
from trained import Stop, log, recipe, same, weights

from ltkit import checkpoints
from ltkit.settings import LoadSettings, TrainPlan
from ltkit.training import runs
from ltkit.training.in_stages import stage_path, train_in_stages
from ltkit.training.recipes import ride_distilled

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = replace(RUN, epochs=2)
SMALL = {"teachers": 4, "hidden": 4}


def train(digits, output, **more):
    return train_in_stages(digits, "ride-distilled", SMALL, SHORT, output, **more)


def three(output):
    return [stage_path(output, 1), stage_path(output, 2), output]


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The recipe, trained without a break."""
    path = tmp_path_factory.mktemp("whole") / "ride.pt"
    train(digits, path)
    return path


def test_each_stage_has_its_experts_and_learns_from_those_before(whole):
    first, second, third = three(whole)
    archs = [recipe(path)["arch"] for path in (first, second, third)]
    four, three_of = (f"digits_net_{n}experts_reduced" for n in (4, 3))
    assert archs == [four, three_of, three_of]
    assert recipe(second)["teacher"] == checkpoints.load(first).digest
    assert recipe(third)["init"] == {"digest": checkpoints.load(second).digest, "head": True}
    before, after = weights(second), weights(third)
    assert all(
        torch.equal(before[k], after[k]) for k in before
        if k.startswith("backbone.") and not k.endswith("_tracked")
    )  # fmt: skip
    routed = checkpoints.load(third, LoadSettings(head="router"))
    assert routed.network.head.routers.hidden[0].out_features == 4
    assert [len(log(path)) for path in (first, second, third)] == [2, 2, 1]


def test_it_is_its_three_runs(digits, whole, tmp_path):
    paths = [tmp_path / f"{n}.pt" for n in range(3)]
    plans = ride_distilled.stages(SHORT, teachers=4, hidden=4)
    more = [{"experts": 4}, {"experts": 3, "teacher": paths[0]},
            {"init": paths[1], "keep_head": True}]  # fmt: skip
    for plan, path, given in zip(plans, paths, more, strict=True):
        runs.train_networks(digits, plan.plan, plan.settings, path, **given)
    for found, expected in zip(paths, three(whole), strict=True):
        assert same(weights(found), weights(expected))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_it_goes_on_where_it_was_stopped(digits, whole, tmp_path, at):
    output = tmp_path / "ride.pt"

    def stop(path):
        def report(progress):
            if path == three(output)[at]:
                raise Stop

        return report

    with pytest.raises(Stop):
        train(digits, output, report=stop)
    train(digits, output, resume=True)
    for found, expected in zip(three(output), three(whole), strict=True):
        assert found.read_bytes() == expected.read_bytes()


def test_what_is_refused_before_the_first_stage(digits, tmp_path):
    output = tmp_path / "o.pt"

    def asked(**parameters):
        return lambda: train_in_stages(digits, "ride-distilled", parameters, SHORT, output)

    refused(asked(experts=5), "experts: digits_net has 1, and no form with 5")
    refused(asked(deferred=2.0), "deferred: found 2.0, expected a finite number from 0 to 1")
    refused(asked(positive=-1.0), "positive: found -1.0")
    assert not list(tmp_path.iterdir())


def test_weights_are_deferred_to_an_epoch_of_the_run():
    for epochs, deferred, drw in ((200, 0.8, 160), (1, 0.8, 0), (10, 1.0, 9), (10, 0.0, 0)):
        plans = ride_distilled.stages(replace(SHORT, epochs=epochs), deferred=deferred)
        assert [one.plan.drw for one in plans] == [drw, drw, None]
        assert isinstance(plans[0].plan, TrainPlan)
