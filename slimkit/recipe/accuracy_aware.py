"""Accuracy-aware quantization: methods, then float layers, are tried until the accuracy holds or the time is up.

However it ends, the best so far is left: of the trials that lose no more than allowed the one with the fewest float
layers, else the most accurate. Every trial is written down when it ends, so a search that was killed goes on where it
was.

Source: the order, cheap rules before learned ones before mixed precision, is that of Nagel et al. 2021
(arXiv 2106.08295), section 3.4; layers are left float in the order of their measured harm.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from slimkit.errors import ConfigError, SlimkitError, TrainingError
from slimkit.quant.ptq_config import PtqConfig
from slimkit.recipe.search_problem import Best, Problem
from slimkit.recipe.search_trials import METHODS, Method, SearchState, Trial, parse_duration, trial_key

__all__ = ["Best", "Problem", "parse_duration", "search"]

#: Share of the time that methods may take before layers are left float.
_METHODS_SHARE = 0.5
#: Share of the remaining time that the ranking of layers may take.
_RANKING_SHARE = 0.25


class _Stop(Exception):
    """The search ends."""


def search(
    problem: Problem,
    max_drop: float,
    time_budget: Union[str, float],
    state_path: Union[str, Path, None] = None,
    *,
    methods: Sequence[Method] = METHODS,
    clock: Callable[[], float] = time.monotonic,
    progress: Optional[Callable[[Trial], None]] = None,
) -> Best:
    """Finds settings that lose at most ``max_drop``.

    Args:
        problem: what is quantized and evaluated.
        max_drop: points (hundredths) of the headline metric.
        time_budget: such as ``10m``. No trial is begun that would not end in time by what trials like it took;
            the first always is.
        state_path: file of the trials; None: they are not kept.
        methods: what to try, in order.
        clock: seconds, rising.
        progress: told each trial that ends.

    Raises:
        ConfigError: a budget that is no time, or a drop below 0.
        SlimkitError: why not one trial came out well.
    """
    if max_drop < 0:
        raise ConfigError(f"max_drop = {max_drop:g}: points of accuracy that may be lost, 0 or more.")
    budget = parse_duration(time_budget)
    run = _Search(problem, max_drop, budget, SearchState.open(state_path, problem.key), clock, progress)
    try:
        run.go(list(methods))
        stopped = "exhausted"
    except _Stop as stop:
        stopped = str(stop)
    except KeyboardInterrupt:
        if not run.good():
            raise
        stopped = "interrupted"
    return run.result(stopped)


class _Search:
    def __init__(
        self,
        problem: Problem,
        max_drop: float,
        budget: float,
        state: SearchState,
        clock: Callable[[], float],
        progress: Optional[Callable[[Trial], None]],
    ) -> None:
        self.problem, self.max_drop, self.budget = problem, max_drop, budget
        self.state, self.clock, self.progress = state, clock, progress
        self.started = clock()
        self.made: Dict[str, Any] = {}
        self.seen: List[Trial] = []  # those of this run, remembered ones too: a resumed search decides alike

    # ---------------------------------------------------------------- the plan

    def go(self, methods: List[Method]) -> None:
        """Methods that fit into their share of the time, layers left float, then the methods that did not fit."""
        if not self.state.reference:
            self.state.reference = dict(self.problem.reference())
            self.state.save()
        if self.good() and self.within(self.best()):
            self.first_reached()
        self.attempt("as given", self.problem.config, [])
        self.first_reached()
        later = [method for method in methods if not self.try_method(method, self.budget * _METHODS_SHARE)]
        self.leave_float()
        late = [method for method in later if not self.try_method(method, self.budget)]
        if late:
            raise _Stop("time")
        if self.within(self.best()):
            raise _Stop("reached")

    def try_method(self, method: Method, until: float) -> bool:
        """Tries a method if it ends in time; returns whether it was tried, now or earlier."""
        start = self.best_plain().config if method.on_best else self.problem.config
        config = start.model_copy(update=method.changes)
        if self.state.find(trial_key(config.model_dump(), [])) is None and self.left(until) < self.estimate(method):
            return False
        self.attempt(method.name, config, [], method)
        self.first_reached()
        return True

    def leave_float(self) -> None:
        """Grows the set of float layers until the accuracy holds, narrows it down, then tries to take each back."""
        base = self.best_plain()
        ranking = self.ranking(base)
        most = len(ranking) - 1
        if most < 1:
            return

        def holds(count: int) -> bool:
            return self.attempt_float(base, ranking[:count])

        fails, count = 0, 1
        while not holds(count):
            if count == most:
                return
            fails, count = count, min(2 * count, most)
        while count - fails > 1:
            middle = (fails + count) // 2
            if holds(middle):
                count = middle
            else:
                fails = middle
        kept = ranking[:count]
        for op in ranking[: count - 1][::-1]:  # the last one was needed
            without = [name for name in kept if name != op]
            if without and self.attempt_float(base, without):
                kept = without

    def attempt_float(self, base: Trial, float_ops: List[str]) -> bool:
        layers = "layer" if len(float_ops) == 1 else "layers"
        trial = self.attempt(f"{base.name}, {len(float_ops)} {layers} float", base.config, float_ops)
        return self.within(trial)

    def ranking(self, base: Trial) -> List[str]:
        if self.state.ranked != base.key:
            left = self.left(self.budget)
            if left <= 0:
                raise _Stop("time")
            quantized = self.made.get(base.key) or self.problem.quantize(base.config, [])
            self.state.ranking = list(self.problem.rank(quantized, left * _RANKING_SHARE))
            self.state.ranked = base.key
            self.state.save()
        return self.state.ranking

    # ---------------------------------------------------------------- one trial

    def attempt(self, name: str, config: PtqConfig, float_ops: List[str], method: Optional[Method] = None) -> Trial:
        """Runs a trial, or takes it from the state.

        Raises:
            _Stop: it would not end in time.
        """
        settings = config.model_dump()
        held = self.state.find(trial_key(settings, float_ops))
        if held is not None:
            self.seen.append(held)
            return held
        method = method or Method(name, {})
        if self.good() and self.left(self.budget) < self.estimate(method):
            raise _Stop("time")
        start = self.clock()
        quantized, metrics, error = None, {}, ""
        try:
            quantized = self.problem.quantize(config, float_ops)
            metrics = self._metrics(quantized)
        except SlimkitError as failure:
            if not self.good():
                raise  # the settings given fail: there is nothing to improve on
            error = str(failure)
        trial = Trial(name, settings, list(float_ops), metrics, self.clock() - start, error)
        self.state.trials.append(trial)
        self.seen.append(trial)
        self.state.save()
        if not error:
            self._keep(trial, quantized)
        if self.progress is not None:
            self.progress(trial)
        return trial

    def _metrics(self, quantized: Any) -> Dict[str, float]:
        metrics = {key: float(value) for key, value in self.problem.evaluate(quantized).items()}
        headline = self.problem.headline
        if not math.isfinite(metrics.get(headline, math.nan)):
            raise TrainingError(
                f"The quantized model's {headline} is {metrics.get(headline)}; its outputs are no numbers."
            )
        return metrics

    def _keep(self, trial: Trial, quantized: Any) -> None:
        """Keeps what the best trials made, and nothing else."""
        self.made[trial.key] = quantized
        wanted = {self.best().key, self.best_plain().key}
        self.made = {key: value for key, value in self.made.items() if key in wanted}

    def estimate(self, method: Method) -> float:
        """Seconds of a trial, by those that took longest: of the same expensive method, else of the plain ones."""
        done = [t for t in self.state.trials if not t.error]
        expensive = [name for name in ("adaround", "bias_correction") if method.changes.get(name)]
        same = [t.seconds for t in done if expensive and t.settings.get(expensive[0])]
        plain = [t.seconds for t in done if not (t.settings.get("adaround") or t.settings.get("bias_correction"))]
        if same:
            return max(same)
        return max(plain, default=0.0) * (method.cost if expensive else 1.0)

    def left(self, until: float) -> float:
        return until - (self.clock() - self.started)

    # ---------------------------------------------------------------- what came of it

    def good(self) -> List[Trial]:
        return [trial for trial in self.state.trials if not trial.error]

    def value(self, trial: Trial) -> float:
        return trial.metrics[self.problem.headline]

    def drop(self, trial: Trial) -> float:
        return 100.0 * (self.state.reference[self.problem.headline] - self.value(trial))

    def within(self, trial: Trial) -> bool:
        return not trial.error and self.drop(trial) <= self.max_drop + 1e-9

    def best(self) -> Trial:
        """Of those within the drop the one with the fewest float layers, else the most accurate."""
        within = [trial for trial in self.good() if self.within(trial)]
        if within:
            return min(within, key=lambda trial: (len(trial.float_ops), -self.value(trial)))
        return min(self.good(), key=lambda trial: (-self.value(trial), len(trial.float_ops)))

    def best_plain(self) -> Trial:
        """The most accurate without float layers."""
        return max((t for t in self.seen if not t.float_ops and not t.error), key=self.value)

    def first_reached(self) -> None:
        best = self.best() if self.good() else None
        if best is not None and not best.float_ops and self.within(best):
            raise _Stop("reached")

    def result(self, stopped: str) -> Best:
        best = self.best()
        quantized = self.made.get(best.key)
        if quantized is None:
            quantized = self.problem.quantize(best.config, best.float_ops)
        drop = self.drop(best)
        return Best(
            best, quantized, self.state.reference, drop, self.within(best), stopped, self.state.trials, self.state.notes
        )
