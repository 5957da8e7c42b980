from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
import sensitivity_networks as nets

from slimkit.errors import ConfigError, EvaluationError
from slimkit.prune.apply import find_groups
from slimkit.prune.sensitivity import Sensitivities, StreamingEvaluation, measure_sensitivity


@pytest.fixture(scope="module")
def model() -> Any:
    return nets.network(nets.Branches)


def assert_same(one: Sensitivities, other: Sensitivities) -> None:
    assert set(one) == set(other)
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=1e-6)


def measured(model: Any, evaluate: Any = None, **more: Any) -> Sensitivities:
    evaluate = evaluate or StreamingEvaluation(nets.batches(), nets.Outputs)
    return measure_sensitivity(model, find_groups(model), evaluate, [0.25, 0.5], **more)


def test_processes_find_the_same(model: Any, tmp_path: Path) -> None:
    found = measured(model, workers=2, path=tmp_path / "s.json")
    assert_same(found, measured(model))
    assert Sensitivities.load(tmp_path / "s.json").as_dict() == found.as_dict()


def test_process_that_dies(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSITIVITY_TEST_PID", str(os.getpid()))
    with pytest.raises(EvaluationError, match=r"Worker \d ended while it measured 'conv2d_.*exit code 7"):
        measured(model, StreamingEvaluation(nets.batches(), nets.Dying), workers=2, path=tmp_path / "s.json")
    assert 1 <= Sensitivities.load(tmp_path / "s.json").points < measured(model).points


def test_evaluation_that_fails_in_a_process(model: Any) -> None:
    with pytest.raises(EvaluationError, match=r"with 25% of 'conv2d_.*' pruned: RuntimeError: out of luck;"):
        measured(model, nets.evaluate_badly, workers=2)


def test_evaluation_that_cannot_be_sent(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot be sent to other processes .*executor='ray'") as caught:
        measured(model, lambda model: 1.0, workers=2)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine, whose workers find the modules of the tests."""
    ray = pytest.importorskip("ray")
    path = os.pathsep.join(part for part in sys.path if part)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield ray
    ray.shutdown()


def test_ray_finds_the_same(model: Any, cluster: Any, tmp_path: Path) -> None:
    seen = nets.Outputs  # a closure, which only Ray can send

    def make() -> Any:
        return seen()

    evaluation = StreamingEvaluation(nets.batches(), make)
    found = measured(model, evaluation, workers=5, executor="ray", path=tmp_path / "s.json")
    assert_same(found, measured(model))
    assert Sensitivities.load(tmp_path / "s.json").as_dict() == found.as_dict()
    assert cluster.is_initialized()  # whose it is not, leaves it alone


def test_ray_worker_that_dies(model: Any, cluster: Any, tmp_path: Path) -> None:
    here, calls = os.getpid(), []

    def dying(network: Any) -> float:
        calls.append(1)
        if os.getpid() != here and len(calls) > 2:
            os._exit(7)
        return nets.evaluate(network)

    with pytest.raises(EvaluationError, match=r"Worker \d ended while it measured 'conv2d_") as caught:
        measured(model, dying, workers=2, executor="ray", path=tmp_path / "s.json")
    assert "\n" not in str(caught.value)
    assert Sensitivities.load(tmp_path / "s.json").points >= 1


@pytest.mark.slow
def test_ray_cluster_of_its_own(model: Any) -> None:
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        ray.shutdown()
    assert_same(measured(model, workers=2, executor="ray"), measured(model))
    assert not ray.is_initialized()
    with pytest.raises(EvaluationError, match=r"with 25% of 'conv2d_.*' pruned: RuntimeError: out of luck;"):
        measured(model, nets.evaluate_badly, workers=2, executor="ray")
