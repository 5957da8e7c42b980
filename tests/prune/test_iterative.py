"""Iterative pruning: steps, what is measured and trained in each, and going on after a kill."""

import json
import zlib  # noqa: F401  (before paddle)

import numpy as np
import pytest
from small_programs import mobile_net

from slimkit.analysis import complexity
from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.prune.iterative import prune_iteratively
from slimkit.prune.line import Target
from slimkit.prune.search import Limits

SHAPE = {"x": [1, 3, 8, 8]}
TARGET = Target("macs", removed=0.5)


class Killed(Exception):
    pass


def _model():
    net = mobile_net(train=False, channels=32)
    return Model(net.program, net.scope, ["x"], ["logits"])


class Calls:
    """Fine-tuning that changes every parameter a little, so that a restored one shows; dies in a step if told."""

    def __init__(self, dies_in=0):
        self.trained, self.measured, self.dies_in = [], [], dies_in

    def fine_tune(self, model, step):
        if step.number == self.dies_in:
            raise Killed
        self.trained.append((step.number, step.last))
        for name, array in dict(model.params).items():
            model.params[name] = array * np.float32(1.01)
        return 0.5 + step.number / 100

    def sensitivity(self, model, groups, step):
        self.measured.append((step.number, [group.size for group in groups.prunable]))
        return {g.name: {0.3: 0.01 * (i + 1), 0.7: 0.1 * (i + 1)} for i, g in enumerate(groups.prunable)}

    def run(self, folder, **more):
        settings = {"step": 0.2, "sensitivity": self.sensitivity, "input_shapes": SHAPE, "folder": folder, **more}
        return prune_iteratively(_model(), TARGET, self.fine_tune, **settings)


def test_steps_to_the_target(tmp_path):
    calls = Calls()
    found = calls.run(tmp_path)
    whole = complexity(_model(), SHAPE).macs
    assert found.whole == whole
    assert [step.limit / whole for step in found.steps] == pytest.approx([0.8, 0.6, 0.5])
    assert calls.trained == [(1, False), (2, False), (3, True)]
    assert [step.metric for step in found.steps] == pytest.approx([0.51, 0.52, 0.53])
    for step in found.steps:
        assert step.value <= step.limit and step.done
    assert complexity(found.model, SHAPE).macs == found.steps[-1].value
    sizes = [held for _, held in calls.measured]
    assert sum(sizes[0]) > sum(sizes[1]) > sum(sizes[2])  # each measured on the network of the step before
    assert found.model.run([np.ones((2, 3, 8, 8), "float32")])[0].shape == (2, 5)


def test_goes_on_after_a_kill(tmp_path):
    whole = Calls().run(tmp_path / "whole")
    killed = Calls(dies_in=2)
    with pytest.raises(Killed):
        killed.run(tmp_path / "killed")
    assert [step["done"] for step in json.loads((tmp_path / "killed/steps.json").read_text())["steps"]] == [True, False]
    again = Calls()
    found = again.run(tmp_path / "killed")
    assert [number for number, _ in again.trained] == [2, 3]
    assert [number for number, _ in again.measured] == [3]  # step 2 was planned before it was killed
    assert [step.plan for step in found.steps] == [step.plan for step in whole.steps]
    for name, array in whole.model.params.items():
        np.testing.assert_array_equal(found.model.params[name], array)
    idle = Calls()
    idle.run(tmp_path / "killed")
    assert idle.trained == [] and idle.measured == []


def test_without_sensitivities_each_step_is_uniform(tmp_path):
    found = Calls().run(tmp_path, sensitivity=None, step=0.3, limits=Limits(round_to=2))
    assert len(found.steps) == 2 and found.steps[-1].value <= 0.5 * found.whole


def test_the_greatest_ratio_is_of_the_unpruned_network(tmp_path):
    found = Calls().run(tmp_path, limits=Limits(max_ratio=0.5))
    first = {name: held["size"] for name, held in found.steps[0].plan["groups"].items()}
    kept = dict(first)
    for step in found.steps:
        for name, held in step.plan["groups"].items():
            kept[name] = held["size"] - len(held["removed"])
    assert all(kept[name] >= size / 2 for name, size in first.items())
    with pytest.raises(ConfigError, match=r"beyond reach: .*raise max_ratio = 0.3"):
        Calls().run(tmp_path / "little", limits=Limits(max_ratio=0.3))
    assert (tmp_path / "little/steps.json").exists()  # what was done before is kept


def test_another_run_in_the_folder(tmp_path):
    Calls().run(tmp_path, step=0.45)
    with pytest.raises(ConfigError, match="another network or with other settings"):
        Calls().run(tmp_path, step=0.3)
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as steps"):
        Calls().run(tmp_path)


def test_latency_as_the_target(tmp_path):
    def latency(model):
        return lambda plan: 10.0 - 0.01 * len(plan) - 0.01 * (100 - sum(g.size for g in plan.groups.prunable))

    target = Target("latency", limit=9.7)
    calls = Calls()
    with pytest.raises(ConfigError, match="latency needs a function that measures plans of a model"):
        prune_iteratively(_model(), target, calls.fine_tune, folder=tmp_path / "a")
    found = prune_iteratively(_model(), target, calls.fine_tune, folder=tmp_path / "b", step=0.02, latency=latency)
    assert [step.number for step in found.steps] == [1, 2] and found.steps[-1].value <= 9.7


@pytest.mark.parametrize("step", [0, 1, -0.1, float("nan")])
def test_a_step_out_of_range(tmp_path, step):
    with pytest.raises(ConfigError, match="the fraction that goes in each step"):
        Calls().run(tmp_path, step=step)
