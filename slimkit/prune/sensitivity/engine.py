"""``measure_sensitivity``: what a network's metric loses when each group alone is pruned at each ratio."""

from __future__ import annotations

import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, MutableMapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.prune.criteria import Scorer
from slimkit.prune.groups import Groups
from slimkit.prune.sensitivity.evaluation import EvaluateFunction, StreamingEvaluation
from slimkit.prune.sensitivity.formats import Journal
from slimkit.prune.sensitivity.job import Job
from slimkit.prune.sensitivity.points import Sensitivities, loss_of
from slimkit.prune.sensitivity.stream import CACHE_BYTES
from slimkit.prune.sensitivity.tasks import RATIOS, Choose, Measured, Measurer, Ratios, Task, plan_tasks, wanted_points
from slimkit.prune.sensitivity.workers import Points, measure_in_workers

__all__ = ["Point", "measure_sensitivity", "network_fingerprint"]


@dataclass(frozen=True)
class Point:
    """What ``progress`` is told.

    Attributes:
        parameter: that was pruned.
        ratio: of its filters that went.
        metric: then.
        loss: as a fraction of the baseline.
        seconds: of evaluation; 0 for a point that was known without.
        done, total: points of this run so far, and in all.
    """

    parameter: str
    ratio: float
    metric: float
    loss: float
    seconds: float
    done: int
    total: int


def measure_sensitivity(
    model: Any,
    groups: Groups,
    evaluate: Union[EvaluateFunction, StreamingEvaluation],
    ratios: Ratios = RATIOS,
    *,
    parameters: Optional[Sequence[str]] = None,
    criterion: Any = "l1_norm",
    path: Union[str, Path, None] = None,
    workers: int = 1,
    executor: str = "local",
    cut: bool = True,
    cache_bytes: int = CACHE_BYTES,
    progress: Optional[Callable[[Point], None]] = None,
    params: Optional[MutableMapping[str, np.ndarray]] = None,
    gradients: Any = None,
    place: Any = None,
    choose: Optional[Choose] = None,
) -> Sensitivities:
    """Prunes each group alone at each ratio, by zeros in the place of what would go, and measures the metric.

    Args:
        model: the network: a :class:`slimkit.ir.Model`; with a function to evaluate and ``params`` anything it takes.
        groups: of the network.
        evaluate: a function of the model that returns its metric, more is better; or a :class:`StreamingEvaluation`,
            which is faster, since only what a group changes is computed anew.
        ratios: fractions of the filters that go, in (0, 1), for all parameters or by parameter.
        parameters: which to measure; None: those in ``ratios``, or one for each group that can be pruned.
        criterion: by which the filters that go are chosen, see :mod:`slimkit.prune.criteria`.
        path: file that every point is written to as it comes, and that a run which was killed goes on from.
        workers: processes that measure at the same time; each has the model, and with a ``StreamingEvaluation`` up to
            ``cache_bytes`` of memory.
        executor: ``local`` or ``ray``: where the workers are.
        cut: False: with a ``StreamingEvaluation`` too, compute the whole network at every point.
        cache_bytes: memory for the tensors at the cut, of each process.
        progress: is told of every point.
        params: the parameters that ``model`` computes with, get and set; None: ``model.params``.
        gradients: of the loss, for the Taylor criteria.
        place: device of a ``StreamingEvaluation``; None: CPU.
        choose: (parameter, ratio) -> units of its group that go, or None; in the criterion's place, whose name alone
            then counts.

    Returns:
        Loss of every point, those found in the file too: ``(baseline - metric) / baseline``.

    Raises:
        ConfigError: an argument; or the file is of another network or criterion.
        EvaluationError: the baseline is 0, or the evaluation raised or returned no finite number at one point; the
            points before it are in the file.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers = {workers!r}; give the number of processes, 1 or more.")
    arrays = model.params if params is None else params
    points = wanted_points(groups, ratios, parameters)
    scorer = criterion if isinstance(criterion, Scorer) else Scorer(arrays, criterion, gradients)
    found = _known(path, network_fingerprint(groups, arrays), scorer.criterion.name, groups)
    tasks, untouched = plan_tasks(groups, scorer, points, found, choose)
    if not tasks and not untouched:
        return found
    several = workers > 1 and len(tasks) > 1
    job = Job(model, groups, evaluate, [task.group for task in tasks], params, cut, cache_bytes, place)
    measurer = replace(job, cache_bytes=0 if several else cache_bytes).measurer()
    tasks = measurer.order(tasks)
    if found.baseline is None:
        found.baseline = measurer.baseline()
        loss_of(found.baseline, found.baseline)
    run = _Run(found, path, progress, sum(len(p) for task in tasks for p in task.points) + len(untouched))
    try:
        run.untouched(untouched)
        if several:
            results = measure_in_workers(job, tasks, min(workers, len(tasks)), executor)
        else:
            results = _one_by_one(measurer, tasks)
        with closing(results):
            for task, measured in results:
                run.add(task, measured)
    finally:
        run.close()
    return found


def _one_by_one(measurer: Measurer, tasks: Sequence[Task]) -> Points:
    for task in tasks:
        with closing(measurer.measure(task)) as points:
            for measured in points:
                yield task, measured


class _Run:
    """Takes points in, and writes them to the file.

    Args:
        found: what is added to.
        path: of the file; None: none.
        progress: is told.
        total: points to come.
    """

    def __init__(self, found: Sensitivities, path: Union[str, Path, None], progress: Any, total: int) -> None:
        self._found, self._path, self._progress, self._total, self._done = found, path, progress, total, 0
        self._journal = None if path is None else Journal(Path(path), found.header(), found.as_dict())

    def add(self, task: Task, measured: Measured) -> None:
        for number, (parameter, ratio) in enumerate(task.points[measured.index]):
            self._point(parameter, ratio, measured.metric, 0.0 if number else measured.seconds)

    def untouched(self, points: Sequence[Tuple[str, float]]) -> None:
        """Points at which no unit goes."""
        for parameter, ratio in points:
            self._point(parameter, ratio, float(self._found.baseline or 0.0), 0.0)

    def _point(self, parameter: str, ratio: float, metric: float, seconds: float) -> None:
        loss = loss_of(float(self._found.baseline or 0.0), metric)
        self._found.add(parameter, ratio, loss)
        if self._journal is not None:
            self._journal.add(parameter, ratio, loss)
        self._done += 1
        if self._progress is not None:
            self._progress(Point(parameter, ratio, metric, loss, seconds, self._done, self._total))

    def close(self) -> None:
        if self._journal is not None and self._path is not None:
            self._journal.close()
            self._found.save(self._path)


# ------------------------------------------------------------------------------------------------ the file


def network_fingerprint(groups: Groups, params: MutableMapping[str, np.ndarray]) -> str:
    """A short text that two networks share only when their filters are the same."""
    from slimkit.prune.sensitivity.masking import memory_of

    tensor = getattr(params, "tensor", lambda name: None)
    value = 0
    for name in dict.fromkeys(member.parameter for group in groups for member in group.members):
        if name in params:
            memory = memory_of(tensor(name))
            array = np.ascontiguousarray(params[name]) if memory is None else memory
            value = zlib.crc32(f"{name}{array.shape}".encode(), value)
            value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)  # type: ignore[arg-type]
    return f"{value:08x}"


def _known(path: Union[str, Path, None], model: str, criterion: str, groups: Groups) -> Sensitivities:
    """What a file holds already.

    Raises:
        ConfigError: it is of another network or criterion.
    """
    if path is None or not Path(path).exists():
        return Sensitivities(model=model, criterion=criterion)
    found = Sensitivities.load(path)
    names = {member.parameter for group in groups for member in group.members}
    stranger = next((name for name in found if name not in names), None)
    if (found.model is not None and found.model != model) or stranger is not None:
        why = f"it has '{stranger}', which this one has not" if stranger is not None else "their parameters differ"
        raise ConfigError(f"{path} is of another network: {why}; give another file, or delete this one.")
    if found.criterion is not None and found.criterion != criterion:
        raise ConfigError(
            f"{path} was measured with the criterion {found.criterion}, not {criterion}; give another file for it."
        )
    found.model, found.criterion = model, criterion
    return found
