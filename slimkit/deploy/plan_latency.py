"""``PlanLatency``: what a network takes on a runtime under a pruning plan, measured on the pruned, exported model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, List

from slimkit.deploy.runtime import RUNTIMES, get_runtime, latency_of
from slimkit.deploy.session import Feed
from slimkit.deploy.verify_latency import ratio
from slimkit.errors import ConfigError, RuntimeUnavailableError, suggestion

__all__ = ["PlanLatency"]

#: Runtimes that time two models in one process -> the mode of float models.
_MODES = {"paddle": "float", "onnx": "optimized"}


class PlanLatency:
    """Measures plans; call it with one, it gives ms.

    The pruned model and the unpruned one run in one pinned process in alternating rounds. What is returned is the
    unpruned model's latency, measured once, times the median over rounds of the ratio of the two, so that a machine
    that is slower at one plan than at another does not mislead a search.

    Args:
        model: a :class:`slimkit.ir.Model`; plans are made from its groups.
        feed: one batch, as for ``Model.run``.
        runtime: ``paddle`` (Paddle Inference) or ``onnx`` (ONNX Runtime).
        threads: CPU threads.
        rounds: of each measurement.
        budget_seconds: about how long one model is timed in a measurement.

    Attributes:
        history: one row a plan: fraction of units removed, ms, ratio to the unpruned model.

    Raises:
        ConfigError: a runtime that cannot be timed here.
        RuntimeUnavailableError: it is not installed.
    """

    def __init__(
        self,
        model: Any,
        feed: Feed,
        runtime: str = "paddle",
        threads: int = 1,
        *,
        rounds: int = 10,
        budget_seconds: float = 2.0,
    ) -> None:
        if runtime not in _MODES:
            known = [name for name in RUNTIMES if name in _MODES]
            raise ConfigError(
                f"Latency of pruning plans is measured on {', '.join(known)}, not on '{runtime}'"
                f"{suggestion(runtime, known)}"
            )
        self._runtime: Any = get_runtime(runtime)
        missing = self._runtime.available()
        if missing:
            raise RuntimeUnavailableError(missing)
        self._model, self._feed, self._threads = model, feed, threads
        self._mode = _MODES[runtime]
        self._timing = {"rounds": rounds, "budget_seconds": budget_seconds}
        self._folder = tempfile.TemporaryDirectory(prefix="slimkit-")
        self._whole_file = self._export(model, "whole")
        self._whole = 0.0
        self.history: List[Dict[str, float]] = []

    @property
    def whole(self) -> float:
        """The unpruned model's latency in ms."""
        if not self._whole:
            self._measure(self._whole_file)
        return self._whole

    def __call__(self, plan: Any) -> float:
        """The latency under a plan in ms.

        Raises:
            RuntimeFailedError: the runtime refused the pruned model.
        """
        from slimkit.prune import prune_model

        if not len(plan):
            return self.whole
        found = self._measure(self._export(prune_model(self._model, plan), "pruned"))
        units = sum(group.size for group in plan.groups.prunable)
        self.history.append({"removed": len(plan) / units, "ms": self._whole * found, "ratio": found})
        return self._whole * found

    def _export(self, model: Any, name: str) -> str:
        folder = Path(self._folder.name) / name
        model.save(folder / "model")
        return str(self._runtime.export(folder / "model", folder / "exported"))

    def _measure(self, file: str) -> float:
        """Times a model against the unpruned one; returns the ratio of their latencies."""
        pair = [(file, self._mode), (self._whole_file, self._mode)]
        times = [raw for _, raw in self._runtime.bench_together(pair, self._feed, self._threads, **self._timing)]
        if not self._whole:
            self._whole = latency_of(times[1], self._threads).median_ms
        return ratio(times[0], times[1], self._threads)
