"""What every deployment runtime offers, and the table of runtimes.

A runtime is one module (or one object in it) with the members of :class:`Runtime`; a newcomer writes it and adds
a row.
"""

from __future__ import annotations

import importlib
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple, Union, cast

import numpy as np

from slimkit.deploy.session import Feed, WorkerSession
from slimkit.errors import ConfigError, suggestion

__all__ = ["RUNTIMES", "Latency", "Runtime", "RuntimeRow", "bench_models", "get_runtime", "latency_of"]


@dataclass(frozen=True)
class Latency:
    """One inference's time in ms over all timed calls, and its CPU time summed over threads."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    cpu_ms: float
    calls: int
    threads: int

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


def latency_of(times: Mapping[str, Any], threads: int) -> Latency:
    """Summarises what ``time_rounds`` measured for one model.

    Args:
        times: ``{"wall_ms": [[...] per round], "cpu_ms": [... per round]}``.
    """
    calls = [value for wall in times["wall_ms"] for value in wall]
    p10, p50, p90 = np.percentile(calls, [10, 50, 90])
    cpu = statistics.median(times["cpu_ms"])
    return Latency(float(p50), float(p10), float(p90), float(cpu), len(calls), threads)


def bench_models(
    session: WorkerSession, load: Callable[..., Any], models: Sequence[Tuple[Any, str]], feed: Feed, threads: int,
    **timing: Any,
) -> List[Tuple[Latency, Dict[str, Any]]]:  # fmt: skip
    """Loads several models into one worker and times them in alternating rounds, so that noise is fair to all.

    Args:
        session: the worker.
        load: (session, key, model, mode) loads one.
        models: (model, mode) each.
        feed: one batch.
        threads: the worker's.
        timing: ``warmup``, ``rounds``, ``budget_seconds``; see ``WorkerSession.bench``.

    Returns:
        For each model its latency and the raw times (``wall_ms`` per call per round, ``cpu_ms`` per round).
    """
    keys = [f"m{i}" for i in range(len(models))]
    for key, (model, mode) in zip(keys, models):
        load(session, key, model, mode)
    times = session.bench(keys, feed, **timing)
    return [(latency_of(times[key], threads), times[key]) for key in keys]


class Runtime(Protocol):
    """The members of a runtime: of its module, or of an object."""

    NAME: str

    def available(self) -> Optional[str]:
        """Returns None when it can be used here, else a sentence on what is missing and how to get it."""
        ...

    def export(self, prefix: Union[str, Path], out: Union[str, Path]) -> Path:
        """Writes the runtime's own form of a ``.pdmodel`` model; returns the main file."""
        ...

    def run(self, model: Union[str, Path], batches: Iterable[Feed], *, threads: int = 1) -> List[List[np.ndarray]]:
        """Runs the model on every batch; returns each batch's outputs."""
        ...

    def bench(self, model: Union[str, Path], feed: Feed, *, threads: int = 1) -> Latency:
        """Measures one batch's latency."""
        ...


@dataclass(frozen=True)
class RuntimeRow:
    """A row of :data:`RUNTIMES`.

    Attributes:
        where: a module, or "module:object", that has the members.
        title: its name for people.
        runs_here: whether a model for it can be executed on an x86 machine (else: converted and inspected).
        bits: the integer widths it executes.
    """

    where: str
    title: str
    runs_here: bool
    bits: Sequence[int]


RUNTIMES: Dict[str, RuntimeRow] = {
    "paddle": RuntimeRow("slimkit.deploy.paddle_inference", "Paddle Inference (oneDNN)", True, (8,)),
    "onnx": RuntimeRow("slimkit.deploy.onnx_runtime", "ONNX Runtime", True, (8,)),
    "lite-x86": RuntimeRow("slimkit.deploy.lite:X86", "Paddle-Lite, x86", True, ()),
    "lite-arm": RuntimeRow("slimkit.deploy.lite:ARM", "Paddle-Lite, ARM", False, (8,)),
}


def get_runtime(name: str) -> Runtime:
    """Imports a runtime's module by its name in :data:`RUNTIMES`.

    Raises:
        ConfigError: no such runtime.
    """
    row = RUNTIMES.get(name)
    if row is None:
        meant = suggestion(name, RUNTIMES)
        raise ConfigError(f"There is no runtime {name!r}; the runtimes are {', '.join(RUNTIMES)}{meant}")
    module, _, attribute = row.where.partition(":")
    found = importlib.import_module(module)
    return cast(Runtime, getattr(found, attribute) if attribute else found)
