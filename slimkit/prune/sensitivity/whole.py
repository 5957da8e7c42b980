"""Measuring with a function of the whole network: its parameters are masked where they are, then it is called."""

from __future__ import annotations

import time
from typing import Any, Generator, List, MutableMapping, Sequence

import numpy as np

from slimkit.prune.groups import Groups
from slimkit.prune.sensitivity.evaluation import EvaluateFunction, figure
from slimkit.prune.sensitivity.masking import Masked
from slimkit.prune.sensitivity.tasks import Measured, Task, failed

__all__ = ["UNPRUNED", "WholeNetwork"]

UNPRUNED = "on the unpruned network"


class WholeNetwork:
    """Calls ``evaluate(model)`` for every point.

    Args:
        model: what is passed to it.
        groups: of the network.
        evaluate: it.
        params: the parameters that the model computes with, get and set.
    """

    def __init__(
        self, model: Any, groups: Groups, evaluate: EvaluateFunction, params: MutableMapping[str, np.ndarray]
    ) -> None:
        self._model, self._groups, self._evaluate, self._params = model, groups, evaluate, params

    def baseline(self) -> float:
        return self._call(UNPRUNED)

    def order(self, tasks: Sequence[Task]) -> List[Task]:
        return list(tasks)

    def measure(self, task: Task) -> Generator[Measured, None, None]:
        with Masked(self._params, self._groups, task.group) as masked:
            for index, removed in enumerate(task.removed):
                masked.set(removed)
                started = time.perf_counter()
                metric = self._call(task.where(index))
                yield Measured(task.group, index, metric, time.perf_counter() - started)

    def _call(self, where: str) -> float:
        try:
            value = self._evaluate(self._model)
        except Exception as error:
            raise failed(error, where) from error
        return figure(value, where)
