"""Measuring batch by batch, from the cut of each group on.

Groups are measured in the order of the network. The tensors at the cut are kept for the whole evaluation set, in
memory, and brought forward from one cut to the next, so that all that lies before the cuts is computed once for all
groups and ratios together. Batches that do not fit into the memory allowed are read again for each group, and what lies
before the cut is computed once for all of its ratios.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any, Dict, Generator, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import DataError, EvaluationError, ModelError, SlimkitError
from slimkit.ir.model import Model
from slimkit.ir.params import Params, shared_scope
from slimkit.prune.groups import Groups
from slimkit.prune.sensitivity.cut import Cut, Ops
from slimkit.prune.sensitivity.evaluation import StreamingEvaluation, figure
from slimkit.prune.sensitivity.kernels import evaluation_programs, same_results
from slimkit.prune.sensitivity.masking import MaskedCopies
from slimkit.prune.sensitivity.pieces import Piece, tensor_bytes, to_tensor
from slimkit.prune.sensitivity.stages import START, Stages, op_work
from slimkit.prune.sensitivity.tasks import Measured, Task, failed
from slimkit.prune.sensitivity.whole import UNPRUNED

__all__ = ["CACHE_BYTES", "Stream"]

#: Memory for the tensors at the cut, of one process.
CACHE_BYTES = 1 << 30

#: Seconds that making a program costs for each of its ops, its first run included.
_SETUP = 6e-4

Tensors = Dict[str, Any]


@dataclass
class _Batch:
    """One batch of the evaluation.

    Attributes:
        tensors: what is kept of it.
        labels: as the evaluation gives them.
    """

    tensors: Tensors
    labels: Any


class Stream:
    """Measures with a :class:`StreamingEvaluation`.

    Args:
        model: the network; neither its program nor its parameters are changed.
        groups: of it.
        evaluation: batches and metric.
        names: groups that will be measured.
        cut: evaluate from the cuts where that pays; False: the whole network for every point.
        cache_bytes: memory for what is kept of the batches.
        place: device; None: CPU.
    """

    def __init__(
        self,
        model: Model,
        groups: Groups,
        evaluation: StreamingEvaluation,
        names: Sequence[str],
        *,
        cut: bool = True,
        cache_bytes: int = CACHE_BYTES,
        place: Any = None,
    ) -> None:
        import paddle

        self._groups, self._evaluation, self._budget = groups, evaluation, cache_bytes
        self._model, self._fetches = model, list(model.fetches)
        self._place = place or paddle.CPUPlace()
        self._program, self._plain = evaluation_programs(model, self._place)
        self._scope = shared_scope(model)
        self._ops = Ops(self._program, model.feeds, model.fetches)
        self._cutting = cut and self._ops.divisible
        self.stages: Optional[Stages] = Stages(self._ops, groups, names) if self._ops.divisible else None
        self._stage = START
        self._cached: List[_Batch] = []
        self._complete: Optional[bool] = None  # whether every batch is cached; None: none was read yet
        self._started = False
        self._pieces: Dict[Any, Piece] = {}
        self._work: Optional[np.ndarray] = None
        self._pace: Optional[float] = None  # seconds a unit of work

    def order(self, tasks: Sequence[Task]) -> List[Task]:
        """Tasks in the order in which what is kept can be brought forward."""
        stages = self.stages
        return list(tasks) if stages is None else sorted(tasks, key=lambda task: stages.index[task.group])

    # ---------------------------------------------------------------- measuring

    def baseline(self) -> float:
        self._read()
        piece = self._rest(START, None)
        metric, spent = self._evaluation.metric(), 0.0
        for batches, _ in self._chunks(START):
            started = time.perf_counter()
            self._update(metric, piece, batches, UNPRUNED)
            spent += time.perf_counter() - started
        self._keep_pace(spent, START, None)
        return figure(self._result(metric, UNPRUNED), UNPRUNED)

    def measure(self, task: Task) -> Generator[Measured, None, None]:
        self._read()
        cut = self.stages.cuts[self.stages.index[task.group]] if self.stages is not None and self._cutting else None
        stage = self._choose(task)
        if stage != self._stage:
            self._advance(stage)
        piece = self._rest(stage, cut)
        metrics = [self._evaluation.metric() for _ in task.removed]
        spent = [0.0] * len(metrics)
        with self._own(task, cut) as masked:
            for batches, last in self._chunks(stage):
                for index, removed in enumerate(task.removed):
                    started = time.perf_counter()
                    masked.set(removed)
                    self._update(metrics[index], piece, batches, task.where(index))
                    spent[index] += time.perf_counter() - started
                    if last:
                        where = task.where(index)
                        value = figure(self._result(metrics[index], where), where)
                        yield Measured(task.group, index, value, spent[index])
        self._keep_pace(sum(spent) / len(spent), stage, cut)

    def _keep_pace(self, seconds: float, stage: int, cut: Optional[Cut]) -> None:
        if self._work is not None and self.stages is not None:
            self._pace = seconds / self._work[self.stages.rest(stage, cut)[0]].sum()

    def _update(self, metric: Any, piece: Piece, batches: Sequence[_Batch], where: str) -> None:
        for batch in batches:
            found = piece.run(batch.tensors)
            outputs = [np.array(found[name]) for name in self._fetches]
            try:
                metric.update(outputs, batch.labels)
            except Exception as error:
                raise failed(error, where) from error

    def _result(self, metric: Any, where: str) -> Any:
        try:
            return metric.result()
        except Exception as error:
            raise failed(error, where) from error

    # ---------------------------------------------------------------- masking

    def _own(self, task: Task, cut: Optional[Cut]) -> MaskedCopies:
        only = None if cut is None else cut.masked
        return MaskedCopies(Params(self._program, self._scope), self._groups, task.group, only, self._place)

    # ---------------------------------------------------------------- stages

    def _choose(self, task: Task) -> int:
        """Whether to bring the batches forward to a task's cut, or to measure it from where they are."""
        stages = self.stages
        if not self._cutting or stages is None:
            return START
        here, there = self._stage, stages.index[task.group]
        if here >= there or self._work is None or self._pace is None:
            return max(here, there)
        cut, points = stages.cuts[there], len(task.removed)
        now, later = stages.rest(here, cut)[0], stages.rest(there, cut)[0]
        way = stages.between(here, there)[0]
        saved = points * (self._work[now].sum() - self._work[later].sum())
        lost = self._work[way].sum()
        if not self._complete:  # some batches are computed from their feeds each time
            lost += self._work[stages.between(START, there)[0]].sum() - self._work[way].sum()
        setup = _SETUP * (len(way) + len(later))
        return there if self._pace * (saved - lost) > setup else here

    def _advance(self, stage: int) -> None:
        """Brings what is kept forward; batches that do not fit any more are left out, the last ones first."""
        piece = self._between(self._stage, stage)
        ahead, self._cached, used = self._cached[::-1], [], 0
        while ahead:
            batch = ahead.pop()
            batch.tensors = piece.run(batch.tensors)
            used += tensor_bytes(batch.tensors.values())
            if used > self._budget:
                self._complete = False
                break
            self._cached.append(batch)
        self._stage = stage
        self._pieces.clear()

    def _between(self, stage: int, later: int) -> Piece:
        assert self.stages is not None
        key = ("between", stage, later)
        if key not in self._pieces:
            ops, inputs = self.stages.between(stage, later)
            outputs = sorted(self.stages.tensors(later))
            self._pieces[key] = Piece(self._program, ops, inputs, outputs, self._scope, self._place)
        return self._pieces[key]

    def _rest(self, stage: int, cut: Optional[Cut]) -> Piece:
        ops: Optional[List[int]] = None
        inputs = frozenset(self._model.feeds)
        if self.stages is not None:
            ops, inputs = self.stages.rest(stage, cut)
        key = ("rest", ops and tuple(ops))
        if key not in self._pieces:
            self._pieces[key] = Piece(self._program, ops, inputs, self._fetches, self._scope, self._place)
        return self._pieces[key]

    # ---------------------------------------------------------------- batches

    def _read(self) -> None:
        """Reads the batches for the first time, as many as fit."""
        if self._complete is not None:
            return
        used, self._complete = 0, True
        for feed, labels in self._batches(0):
            tensors = self._feed(feed)
            used += tensor_bytes(tensors.values())
            if not self._started:
                self._start(feed, tensors)
            if used > self._budget:
                self._complete = False
                break
            self._cached.append(_Batch(tensors, labels))
        if self._complete and not self._cached:
            raise DataError("The evaluation has no batch; give at least one.")

    def _start(self, feed: Mapping[str, np.ndarray], tensors: Tensors) -> None:
        """Settles, on the first batch, what each op costs and which kernels are used."""
        self._started = True
        if self.stages is not None:
            self._work = op_work(self._model, self._ops, feed)
        fast = self._rest(START, None)
        self._pieces.clear()
        fast_program, self._program = self._program, self._plain
        if same_results(fast, self._rest(START, None), tensors, self._fetches):
            self._program = fast_program
            self._pieces.clear()

    def _batches(self, start: int) -> Iterator[Tuple[Mapping[str, np.ndarray], Any]]:
        source = islice(iter(self._evaluation.batches), start, None)
        while True:
            try:
                pair = next(source, None)
            except SlimkitError:
                raise
            except Exception as error:
                raise failed(error, "while its batches were read") from error
            if pair is None:
                return
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
                raise EvaluationError("The evaluation's batches must be pairs (feed, labels).")
            yield pair[0], pair[1]

    def _feed(self, feed: Mapping[str, np.ndarray]) -> Tensors:
        names = self._model.feeds if self.stages is None else self.stages.tensors(START)
        missing = [name for name in names if name not in feed]
        if missing:
            raise ModelError(f"a batch lacks {', '.join(missing)}; the model's feeds are {', '.join(names)}.")
        return {name: to_tensor(np.asarray(feed[name]), self._place) for name in names}

    def _chunks(self, stage: int) -> Iterator[Tuple[List[_Batch], bool]]:
        """The batches at a stage: those in memory at once, then one by one those that are not; and whether it is the
        last of these."""
        if self._complete:
            yield self._cached, True
            return
        cached, used = len(self._cached), sum(tensor_bytes(b.tensors.values()) for b in self._cached)
        if cached:
            yield list(self._cached), False
        waiting: Optional[_Batch] = None
        fits = True
        for feed, labels in self._batches(cached):
            tensors = self._feed(feed)
            batch = _Batch(tensors if stage == START else self._between(START, stage).run(tensors), labels)
            used += tensor_bytes(batch.tensors.values())
            fits = fits and used <= self._budget
            if fits:
                self._cached.append(batch)
            if waiting is not None:
                yield [waiting], False
            waiting = batch
        self._complete = fits
        if waiting is not None:
            yield [waiting], True
