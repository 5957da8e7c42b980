"""The search on made-up problems with a clock of their own: order, budget, resumption, the best so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from slimkit import ConfigError, SlimkitError
from slimkit.quant import PtqConfig
from slimkit.recipe.accuracy_aware import Best, parse_duration, search
from slimkit.recipe.search_trials import METHODS, SearchState

LAYERS = [f"layer{i}" for i in range(8)]


class Fake:
    """A model of eight layers; each quantized one costs its harm in accuracy, an algorithm scales it.

    Every trial takes ``seconds`` of the clock, AdaRound 30 times as much.
    """

    headline = "top1"

    def __init__(self, harm: Dict[str, float], **algos: float) -> None:
        self.key, self.config = "fake", PtqConfig(algo="hist")
        self.harm, self.algos = harm, algos
        self.now, self.seconds = 0.0, 10.0
        self.evaluated: List[Any] = []
        self.refuse: Dict[str, str] = {}
        self.die_after: int = 10**9

    def clock(self) -> float:
        return self.now

    def reference(self) -> Dict[str, float]:
        self.now += 1
        return {"top1": 0.9, "loss": 0.1}

    def quantize(self, config: PtqConfig, float_ops: Sequence[str]) -> Any:
        self.now += self.seconds * (30 if config.adaround else 1)
        return config, tuple(float_ops)

    def _method(self, config: PtqConfig) -> str:
        if config.adaround:
            return "adaround"
        if config.bias_correction:
            return "bias"
        return f"hist{config.hist_percent:g}" if config.algo == "hist" else config.algo

    def evaluate(self, quantized: Any) -> Dict[str, float]:
        if len(self.evaluated) >= self.die_after:
            raise KeyboardInterrupt
        config, float_ops = quantized
        if self._method(config) in self.refuse:
            raise ConfigError(self.refuse[self._method(config)])
        self.evaluated.append((self._method(config), float_ops))
        lost = sum(value for name, value in self.harm.items() if name not in float_ops)
        return {"loss": 1.0, "top1": 0.9 - lost * self.algos.get(self._method(config), 1.0)}

    def rank(self, quantized: Any, seconds: float) -> List[str]:
        self.now += 5
        return sorted(self.harm, key=lambda name: -self.harm[name])


def _run(problem: Fake, max_drop: float = 1.0, budget: Any = "1h", path: Any = None, **more: Any) -> Best:
    return search(problem, max_drop, budget, path, clock=problem.clock, **more)


EQUAL = dict.fromkeys(LAYERS, 0.01)
STEEP = {name: 0.04 / 2**i for i, name in enumerate(LAYERS)}


def test_the_settings_given_are_enough():
    problem = Fake(dict.fromkeys(LAYERS, 0.001))
    best = _run(problem)
    assert best.within and best.stopped == "reached" and best.drop == pytest.approx(0.8)
    assert len(problem.evaluated) == len(best.trials) == 1 and best.trial.name == "as given"
    assert best.quantized == (problem.config, ())


def test_the_first_method_that_holds_ends_the_search():
    problem = Fake(EQUAL, mse=0.1)
    best = _run(problem)
    assert best.trial.config.algo == "mse" and best.trial.float_ops == [] and best.within
    assert [name for name, _ in problem.evaluated] == ["hist0.99999", "hist0.9999", "hist0.999", "mse"]


def test_fewest_layers_are_left_float():
    """Harms 4, 2, 1, ... points, 1 allowed: three of the most harmful; brute force over the ranking agrees."""
    problem = Fake(STEEP)
    best = _run(problem)
    lost = [sum(sorted(STEEP.values())[: 8 - k]) for k in range(9)]
    wanted = next(k for k in range(9) if lost[k] <= 0.01)
    assert best.within and len(best.trial.float_ops) == wanted == 3
    assert set(best.trial.float_ops) == {"layer0", "layer1", "layer2"}
    assert len({trial.key for trial in best.trials}) == len(best.trials) == len(problem.evaluated)


@pytest.mark.parametrize("allowed", range(8))
def test_growing_and_narrowing_finds_every_count(allowed: int):
    """Equal harms: eight minus what is allowed must be left float; the last layer never is."""
    best = _run(Fake(EQUAL), max_drop=allowed)
    if allowed == 0:
        assert not best.within and len(best.trial.float_ops) == 7
    else:
        assert best.within and len(best.trial.float_ops) == 8 - allowed


def test_layers_are_taken_back_where_the_ranking_was_wrong():
    """The ranking puts harmless layers first; they are quantized again."""
    harm = {**dict.fromkeys(LAYERS, 0.0), "layer3": 0.05}
    problem = Fake(harm)
    problem.rank = lambda quantized, seconds: list(LAYERS)  # type: ignore[method-assign]
    best = _run(problem)
    assert best.within and best.trial.float_ops == ["layer3"]


def test_float_layers_stand_on_the_best_method():
    problem = Fake(EQUAL, KL=0.5, mse=0.8, hist0=2.0)
    best = _run(problem)
    assert best.trial.config.algo == "KL" and len(best.trial.float_ops) == 6  # 8 * 0.5 points; 1 allowed


def test_a_method_that_is_refused_is_written_down_and_passed_over():
    problem = Fake(EQUAL, avg=0.1)
    problem.refuse = {"mse": "mse: no such thing."}
    best = _run(problem)
    assert best.trial.config.algo == "avg"
    refused = [trial for trial in best.trials if trial.error]
    assert [trial.error for trial in refused] == ["mse: no such thing."]


def test_when_the_settings_given_fail_that_is_said(tmp_path: Path):
    problem = Fake(EQUAL)
    problem.refuse = {"hist0.99999": "Nothing can be quantized."}
    for _ in range(2):  # a resumed search says it again
        with pytest.raises(SlimkitError, match="Nothing can be quantized"):
            _run(problem, path=tmp_path / "state.json")


@pytest.mark.parametrize("budget", [1, 12, 35, 60, 125, 600, 3600])
def test_the_budget_is_kept(budget: int):
    """Over by one trial at most, and that is the first, which is always run; AdaRound is begun only when it fits."""
    problem = Fake(dict.fromkeys(LAYERS, 0.05))
    best = _run(problem, max_drop=0.1, budget=budget)
    assert problem.now <= max(budget, 1 + problem.seconds) + problem.seconds
    assert best.trials and not best.within
    value = max(trial.metrics["top1"] for trial in best.trials)
    assert best.trial.metrics["top1"] == value
    assert any(trial.settings["adaround"] for trial in best.trials) == (budget >= 600)
    assert best.stopped == ("time" if budget < 600 else "exhausted")


def test_a_costly_method_that_did_not_fit_its_share_is_tried_with_what_is_left():
    """AdaRound (300 s) is over half of 550 s; layers left float come first, then it wins with none."""
    problem = Fake(STEEP, adaround=0.01)
    best = _run(problem, budget=550)
    names = [method for method, _ in problem.evaluated]
    assert names[-1] == "adaround" and any(float_ops for _, float_ops in problem.evaluated)
    assert best.trial.config.adaround and best.trial.float_ops == []


@pytest.mark.parametrize("die_after", range(1, 14))
def test_a_resumed_search_ends_alike_and_repeats_nothing(tmp_path: Path, die_after: int):
    whole = Fake(STEEP)
    wanted = _run(whole)
    state = tmp_path / "state.json"
    first = Fake(STEEP)
    first.die_after = die_after
    left = _run(first, path=state)
    assert left.stopped == "interrupted" and len(json.loads(state.read_text())["trials"]) == die_after
    second = Fake(STEEP)
    best = _run(second, path=state)
    assert first.evaluated + second.evaluated == whole.evaluated
    assert best.trial.key == wanted.trial.key and best.reference == wanted.reference
    assert [trial.key for trial in best.trials] == [trial.key for trial in wanted.trials]


def test_a_kill_before_the_first_trial_is_a_kill(tmp_path: Path):
    problem = Fake(STEEP)
    problem.die_after = 0
    with pytest.raises(KeyboardInterrupt):
        _run(problem, path=tmp_path / "state.json")


def test_a_finished_search_quantizes_once_and_evaluates_nothing(tmp_path: Path):
    state = tmp_path / "state.json"
    wanted = _run(Fake(STEEP), path=state)
    again = Fake(STEEP)
    best = _run(again, path=state)
    assert again.evaluated == [] and again.now == again.seconds
    assert best.trial.key == wanted.trial.key and best.quantized == (best.trial.config, tuple(best.trial.float_ops))


def test_the_state_of_another_problem_is_set_aside(tmp_path: Path):
    state = tmp_path / "state.json"
    _run(Fake(STEEP), path=state)
    other = Fake(EQUAL)
    other.key = "other"
    best = _run(other, path=state)
    assert "starts anew" in best.notes[0]
    assert len(best.trials) == len(other.evaluated)
    assert (tmp_path / "state.json.old").exists()
    state.write_text("{")
    assert "cannot be read" in SearchState.open(state, "other").notes[0]


def test_outputs_that_are_no_numbers_are_never_the_best():
    problem = Fake(EQUAL, mse=float("nan"), KL=0.1)
    best = _run(problem)
    assert best.trial.config.algo == "KL"
    assert "no numbers" in next(trial.error for trial in best.trials if trial.name == "mse")


def test_trials_are_told():
    told: List[str] = []
    best = _run(Fake(STEEP), progress=lambda trial: told.append(trial.name))
    assert told == [trial.name for trial in best.trials] and told[0] == "as given"
    assert "as given, 1 layer float" in told and "as given, 4 layers float" in told


def test_every_method_is_a_config():
    for method in METHODS:
        PtqConfig().model_validate({**PtqConfig().model_dump(), **method.changes})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1.5 m", 90), (45, 45), ("20", 20)]
)
def test_durations(text: Any, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "10x", "0", "-5s", "1h 5x", "inf", "m", "nan"])
def test_what_is_no_duration(text: str):
    with pytest.raises(ConfigError, match="90s, 10m, 1h"):
        parse_duration(text)


def test_a_drop_below_zero_is_refused():
    with pytest.raises(ConfigError, match="0 or more"):
        _run(Fake(EQUAL), max_drop=-1)
