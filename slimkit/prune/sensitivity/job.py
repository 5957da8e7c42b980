"""``Job``: all that is needed to measure, in a form that can be sent to another process."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, MutableMapping, Optional, Sequence, Union

import numpy as np

from slimkit.errors import ConfigError
from slimkit.ir.model import Model
from slimkit.prune.groups import Groups
from slimkit.prune.sensitivity.evaluation import EvaluateFunction, StreamingEvaluation
from slimkit.prune.sensitivity.stream import CACHE_BYTES, Stream
from slimkit.prune.sensitivity.tasks import Measured, Measurer, Task
from slimkit.prune.sensitivity.whole import WholeNetwork

__all__ = ["Job", "Server"]


@dataclass(frozen=True)
class Job:
    """What to measure and how; arguments as of ``measure_sensitivity``.

    Attributes:
        names: groups that will be measured.
    """

    model: Any
    groups: Groups
    evaluate: Union[EvaluateFunction, StreamingEvaluation]
    names: Sequence[str]
    params: Optional[MutableMapping[str, np.ndarray]] = None
    cut: bool = True
    cache_bytes: int = CACHE_BYTES
    place: Any = None

    def measurer(self) -> Measurer:
        """Measures in this process.

        Raises:
            ConfigError: ``evaluate`` is of neither kind.
        """
        if isinstance(self.evaluate, StreamingEvaluation):
            return Stream(
                self.model, self.groups, self.evaluate, self.names,
                cut=self.cut, cache_bytes=self.cache_bytes, place=self.place,
            )  # fmt: skip
        if not callable(self.evaluate):
            raise ConfigError(
                f"evaluate is a {type(self.evaluate).__name__}; give a function of the model that returns a number, or "
                "a StreamingEvaluation."
            )
        params = self.model.params if self.params is None else self.params
        return WholeNetwork(self.model, self.groups, self.evaluate, params)

    def pickled(self, dumps: Callable[[Any], bytes], hint: str) -> bytes:
        """Itself as bytes.

        Args:
            dumps: pickle's or cloudpickle's.
            hint: what else can be done about an evaluation that cannot be pickled.

        Raises:
            ConfigError: a part of it cannot be pickled.
        """
        packed = replace(self, model=_Packed.of(self.model)) if isinstance(self.model, Model) else self
        try:
            return dumps(packed)
        except Exception as error:  # pickle raises nearly anything
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                f"The evaluation cannot be sent to other processes ({type(error).__name__}: {reason}); use functions "
                f"and classes of a module's top level, or workers=1 ({hint})."
            ) from None


@dataclass(frozen=True)
class _Packed:
    """A Model in plain values."""

    program: bytes
    arrays: Dict[str, np.ndarray]
    feeds: List[str]
    fetches: List[str]

    @classmethod
    def of(cls, model: Model) -> _Packed:
        return cls(model.program.desc.serialize_to_string(), dict(model.params), model.feeds, model.fetches)

    def model(self) -> Model:
        import paddle

        from slimkit.ir.guards import legacy_ir
        from slimkit.ir.params import new_scope

        with legacy_ir():
            program = paddle.static.Program.parse_from_string(self.program)
        return Model(program, new_scope(self.arrays), self.feeds, self.fetches)


class Server:
    """Measures in a worker.

    Args:
        payload: of :meth:`Job.pickled`.
    """

    def __init__(self, payload: bytes) -> None:
        job: Job = pickle.loads(payload)
        if isinstance(job.model, _Packed):
            job = replace(job, model=job.model.model())
        self._measurer = job.measurer()

    def measure(self, task: Task) -> Iterator[Measured]:
        """The points of a task."""
        return self._measurer.measure(task)
