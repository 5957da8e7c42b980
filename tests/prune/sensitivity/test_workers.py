from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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


def test_ray_finds_the_same(model: Any) -> None:
    ray = pytest.importorskip("ray")
    seen = nets.Outputs  # a closure, which only Ray can send

    def make() -> Any:
        return seen()

    found = measured(model, StreamingEvaluation(nets.batches(), make), workers=2, executor="ray")
    assert_same(found, measured(model))
    assert not ray.is_initialized()
    with pytest.raises(EvaluationError, match=r"with 25% of 'conv2d_.*' pruned: RuntimeError: out of luck;"):
        measured(model, nets.evaluate_badly, workers=2, executor="ray")
