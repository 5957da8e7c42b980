from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import sensitivity_networks as nets

from slimkit.errors import ConfigError, DataError, EvaluationError, ModelError
from slimkit.prune.apply import find_groups, masked_model
from slimkit.prune.plan import make_plan
from slimkit.prune.sensitivity import Point, Sensitivities, StreamingEvaluation, measure_sensitivity


@pytest.fixture(scope="module")
def model() -> Any:
    return nets.network(nets.Branches)


@pytest.fixture(scope="module")
def groups(model: Any) -> Any:
    return find_groups(model)


def test_losses_are_those_of_the_masked_models(model: Any, groups: Any) -> None:
    told: List[Point] = []
    found = measure_sensitivity(model, groups, nets.evaluate, [0.25, 0.5], progress=told.append)
    baseline = nets.evaluate(model)
    assert found.baseline == baseline
    assert list(found) == [group.name for group in groups.prunable]
    for name, points in found.items():
        for ratio, loss in points.items():
            masked = masked_model(model, make_plan(groups, None, {name: ratio}, params=model.params))
            assert loss == pytest.approx((baseline - nets.evaluate(masked)) / baseline, abs=1e-12)
    assert [point.done for point in told] == list(range(1, found.points + 1))
    assert {point.total for point in told} == {found.points}
    assert nets.evaluate(model) == baseline


def test_both_kinds_of_evaluation_agree(model: Any, groups: Any) -> None:
    one = measure_sensitivity(model, groups, nets.evaluate, [0.5])
    other = measure_sensitivity(model, groups, StreamingEvaluation(nets.batches(), nets.Outputs), [0.5])
    assert other.baseline == pytest.approx(one.baseline, rel=1e-5)
    for name in one:
        assert other[name] == pytest.approx(one[name], abs=1e-5)


def test_ratios_by_parameter(model: Any, groups: Any) -> None:
    first, second = (group.name for group in groups.prunable[:2])
    found = measure_sensitivity(model, groups, nets.evaluate, {second: [0.5], first: [0.25, 0.75]})
    assert {name: list(points) for name, points in found.items()} == {first: [0.25, 0.75], second: [0.5]}


def test_same_units_are_measured_once(model: Any, groups: Any) -> None:
    """Of 6 units, ratios 0.45 and 0.5 both remove 3, and 0.05 none; two parameters of one group are one."""
    calls: List[int] = []

    def evaluate(model: Any) -> float:
        calls.append(1)
        return 1.0 - 0.1 * len(calls)

    group = next(group for group in groups.prunable if group.size == 6)
    found = measure_sensitivity(model, groups, evaluate, {group.name: [0.05, 0.45, 0.5, 0.8]})
    assert len(calls) == 3
    assert found[group.name][0.05] == 0.0
    assert found[group.name][0.45] == found[group.name][0.5] != found[group.name][0.8]
    calls.clear()
    joint = next(g for g in groups.prunable if len({m.parameter for m in g.producers}) > 1)
    names = list(dict.fromkeys(member.parameter for member in joint.producers))
    found = measure_sensitivity(model, groups, evaluate, [0.5], parameters=names)
    assert len(calls) == 2 and found[names[0]] == found[names[1]]


# ------------------------------------------------------------------------------------------------ files


def test_goes_on_from_the_file(tmp_path: Path, model: Any, groups: Any) -> None:
    path = tmp_path / "s.json"
    wanted = measure_sensitivity(model, groups, nets.evaluate, [0.25, 0.5])
    calls: List[int] = []

    def interrupted(model: Any) -> float:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return nets.evaluate(model)

    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(model, groups, interrupted, [0.25, 0.5], path=path)
    assert Sensitivities.load(path).points == 4
    calls[:] = [0] * 10
    found = measure_sensitivity(model, groups, interrupted, [0.25, 0.5], path=path)
    assert len(calls) - 10 == wanted.points - 4  # not even the baseline is measured again
    assert found.as_dict() == wanted.as_dict() == Sensitivities.load(path).as_dict()
    calls.clear()
    measure_sensitivity(model, groups, interrupted, [0.25, 0.5], path=path)
    assert not calls


def test_every_point_survives_a_kill(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path[:0] = {[str(Path(nets.__file__).parent)]!r}
import sensitivity_networks as nets
from slimkit.prune.apply import find_groups
from slimkit.prune.sensitivity import measure_sensitivity
model = nets.network(nets.Branches)
def tell(point):
    if point.done == 3:
        os.kill(os.getpid(), 9)
measure_sensitivity(model, find_groups(model), nets.evaluate, [0.5], path={str(tmp_path / "s.json")!r}, progress=tell)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=200)
    assert done.returncode == -9, done.stderr
    assert Sensitivities.load(tmp_path / "s.json").points == 3


def test_goes_on_from_paddleslims_file(tmp_path: Path, model: Any, groups: Any) -> None:
    import pickle

    name = groups.prunable[0].name
    (tmp_path / "s.data").write_bytes(pickle.dumps({name: {0.5: 0.125}}))
    found = measure_sensitivity(model, groups, nets.evaluate, [0.25, 0.5], parameters=[name], path=tmp_path / "s.data")
    assert found[name][0.5] == 0.125 and found.points == 2 and found.baseline is not None


def test_file_of_something_else(tmp_path: Path, model: Any, groups: Any) -> None:
    name = groups.prunable[0].name
    path = tmp_path / "s.json"
    measure_sensitivity(model, groups, nets.evaluate, {name: [0.5]}, path=path)
    with pytest.raises(ConfigError, match="criterion l1_norm, not l2_norm"):
        measure_sensitivity(model, groups, nets.evaluate, {name: [0.6]}, path=path, criterion="l2_norm")
    other = nets.network(nets.Branches, seed=2)
    with pytest.raises(ConfigError, match="of another network"):
        measure_sensitivity(other, find_groups(other), nets.evaluate, [0.6], path=path)
    Sensitivities({"conv2d_99.w_9": {0.1: 0.2}}).save(path)
    with pytest.raises(ConfigError, match=r"it has 'conv2d_99\.w_9'"):
        measure_sensitivity(model, groups, nets.evaluate, {name: [0.6]}, path=path)


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_evaluation_that_raises_at_one_point(tmp_path: Path, model: Any, groups: Any) -> None:
    before = dict(model.params)
    with pytest.raises(EvaluationError) as caught:
        measure_sensitivity(model, groups, nets.evaluate_badly, [0.25, 0.5], path=tmp_path / "s.json")
    second = groups.prunable[1].name
    assert f"with 25% of '{second}' pruned: RuntimeError: out of luck;" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Sensitivities.load(tmp_path / "s.json").as_dict() == {
        groups.prunable[0].name: measure_sensitivity(
            model, groups, nets.evaluate, [0.25, 0.5], parameters=[groups.prunable[0].name]
        ).as_dict()[groups.prunable[0].name]
    }
    for name in before:
        np.testing.assert_array_equal(model.params[name], before[name])


class Sum:
    def __init__(self) -> None:
        self.value = 0.0

    def update(self, outputs: Any, labels: Any) -> None:
        self.value += float(np.abs(outputs[0]).sum())

    def result(self) -> float:
        return self.value


class NotFinite(Sum):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        NotFinite.made += 1
        self.number = NotFinite.made

    def result(self) -> float:
        return self.value if self.number < 4 else float("nan")


class Raising(NotFinite):
    def update(self, outputs: Any, labels: Any) -> None:
        if self.number == 4:
            raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    "metric, message",
    [(NotFinite, "metric is nan with 25% of '.*' pruned"), (Raising, "with 25% of '.*' pruned: ZeroDivisionError")],
)
def test_streaming_metric_that_fails(tmp_path: Path, model: Any, groups: Any, metric: Any, message: str) -> None:
    NotFinite.made = 0
    names = [group.name for group in groups.prunable[:2]]
    if metric is Raising:
        metric = type("Late", (Raising,), {"result": lambda self: 1.0})
    with pytest.raises(EvaluationError, match=message):
        measure_sensitivity(
            model, groups, StreamingEvaluation(nets.batches(), metric), [0.25, 0.5], parameters=names,
            path=tmp_path / "s.json",
        )  # fmt: skip
    found = Sensitivities.load(tmp_path / "s.json")
    assert list(found) == names[:1] and found.points == 2  # metric 1 is the baseline's, 2 and 3 the first parameter's


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"evaluate": lambda model: 0.0}, EvaluationError, "metric of the unpruned network is 0"),
        ({"evaluate": lambda model: "good"}, EvaluationError, "returned str on the unpruned network where one number"),
        ({"evaluate": 0.5}, ConfigError, "evaluate is a float"),
        ({"ratios": [0.5, 1.0]}, ConfigError, r"contain 1; give fractions .* above 0 and below 1"),
        ({"ratios": [0.0]}, ConfigError, r"contain 0; give"),
        ({"ratios": []}, ConfigError, "are empty"),
        ({"ratios": ["many"]}, ConfigError, "list of numbers"),
        ({"ratios": {"conv": [0.5]}}, ConfigError, "'conv' is no parameter with filters"),
        ({"parameters": ["conv"]}, ConfigError, "'conv' is no parameter with filters"),
        ({"criterion": "l3_norm"}, ConfigError, "no criterion 'l3_norm'"),
        ({"workers": 2, "executor": "rey"}, ConfigError, "'rey' is none of local, ray; did you mean 'ray'"),
        ({"evaluate": StreamingEvaluation([], Sum)}, DataError, "no batch"),
        ({"evaluate": StreamingEvaluation([({"y": np.zeros(1)}, 0)], Sum)}, ModelError, "a batch lacks x"),
        ({"evaluate": StreamingEvaluation([np.zeros(1)], Sum)}, EvaluationError, "must be pairs"),
    ],
)
def test_bad_input_is_one_sentence(
    model: Any, groups: Any, arguments: Dict[str, Any], error: Any, message: str
) -> None:
    given = {"evaluate": lambda model: 1.0, "ratios": [0.5], **arguments}
    with pytest.raises(error, match=message) as caught:
        measure_sensitivity(model, groups, given.pop("evaluate"), given.pop("ratios"), **given)
    assert "\n" not in str(caught.value)


class Torn(List[Any]):
    """The second batch cannot be read."""

    def __iter__(self) -> Any:
        yield nets.batches()[0]
        raise OSError("disk gone")


def test_batches_that_cannot_be_read(model: Any, groups: Any) -> None:
    with pytest.raises(EvaluationError, match="failed while its batches were read: OSError: disk gone;"):
        measure_sensitivity(model, groups, StreamingEvaluation(Torn(), Sum), [0.5])


def test_batches_that_can_be_read_once() -> None:
    with pytest.raises(ConfigError, match="are a generator, which gives them once"):
        StreamingEvaluation((batch for batch in nets.batches()), Sum)
