"""ONNX Runtime on CPU: the real runtime, in a process of its own.

Two modes exist: ``optimized``, which is what users run ("float" and "int8" mean the same), and ``plain``, without graph
optimizations: Q and DQ are executed as the file says and everything between them in float, which is the arithmetic of
the quantization table.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.deploy.onnx_convert import REMEDY
from slimkit.deploy.runtime import Latency, bench_models
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.errors import ModelError, RuntimeUnavailableError

__all__ = [
    "NAME",
    "available",
    "bench",
    "bench_together",
    "executed_precision",
    "export",
    "load",
    "open_session",
    "run",
]

NAME = "onnx"
TITLE = "ONNX Runtime"
MODES = ("optimized", "plain", "float", "int8")


def available() -> Optional[str]:
    """Returns None when onnxruntime is installed, else how to get it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return f"ONNX Runtime needs onnxruntime, which is not installed: {REMEDY}."
    return None


def open_session(threads: int = 1, *, pin: bool = True, environment: Optional[Dict[str, str]] = None) -> WorkerSession:
    """Starts a worker. Raises RuntimeUnavailableError when onnxruntime is not installed."""
    missing = available()
    if missing:
        raise RuntimeUnavailableError(missing)
    return WorkerSession("onnx_worker.py", TITLE, threads=threads, pin=pin, environment=environment)


def onnx_file(model: Union[str, Path]) -> Path:
    """The ``.onnx`` file of a path with or without its suffix.

    Raises:
        ModelError: there is none, or it is empty.
    """
    for path in (Path(model), Path(f"{model}.onnx")):
        if path.is_file() and path.suffix == ".onnx":
            if path.stat().st_size == 0:
                raise ModelError(f"{path} is empty; export the model again.")
            return path.absolute()
    raise ModelError(
        f"No ONNX model is at {model}; give a .onnx file, which `slimkit export MODEL OUT --to onnx` writes."
    )


def load(session: WorkerSession, key: str, model: Union[str, Path], mode: str = "optimized", **more: Any) -> List[str]:
    """Builds an inference session in the worker under ``key``; returns the model's input names."""
    session.load(key, model=str(onnx_file(model)), mode=mode, **more)
    return session.inputs[key]


def export(prefix: Union[str, Path], out: Union[str, Path]) -> Path:
    """Writes the ONNX form of a ``.pdmodel`` model: float, or of a quantized one with its grids.

    Args:
        prefix: the model.
        out: the file; ``.onnx`` is added where it is missing.

    Raises:
        SlimkitError: it cannot be read, converted or written.
    """
    from slimkit.deploy.onnx_export import export_onnx
    from slimkit.ir.model import Model
    from slimkit.quant.load_quantized import is_quantized, read_quantized

    model, table = Model.load(prefix), None
    if is_quantized(model):
        quantized = read_quantized(model, str(prefix))
        model, table = quantized.model, quantized.table
    return export_onnx(model, table, out)


def run(
    model: Union[str, Path], batches: Iterable[Feed], threads: int = 1, *, mode: str = "optimized"
) -> List[List[np.ndarray]]:
    """Runs a model on every batch.

    Args:
        model: the ``.onnx`` file.
        batches: each a dict by input name, a list in input order, or one array; read one at a time.
        threads: CPU threads.
        mode: "optimized" or "plain".

    Returns:
        For each batch the outputs, in the model's order.

    Raises:
        RuntimeFailedError: the runtime refused the model or crashed.
    """
    with open_session(threads, pin=False) as session:
        load(session, "model", model, mode)
        return [session.run("model", batch, subject=str(model)) for batch in batches]


def bench(
    model: Union[str, Path],
    feed: Feed,
    threads: int = 1,
    *,
    mode: str = "optimized",
    warmup: int = 3,
    rounds: int = 10,
    budget_seconds: float = 2.0,
) -> Latency:
    """Measures one batch's latency on pinned threads; see :func:`bench_together` for a comparison."""
    pair = [(model, mode)]
    return bench_together(pair, feed, threads, warmup=warmup, rounds=rounds, budget_seconds=budget_seconds)[0][0]


def bench_together(
    models: Sequence[Tuple[Union[str, Path], str]],
    feed: Feed,
    threads: int = 1,
    *,
    warmup: int = 3,
    rounds: int = 10,
    budget_seconds: float = 2.0,
) -> List[Tuple[Latency, Dict[str, Any]]]:
    """Measures several models in one process, in alternating rounds, so that a noisy machine is fair to all.

    Args:
        models: ``(file, mode)`` each.
        feed: one batch; an array or a list where the models' inputs have different names.
        threads: CPU threads; the process is pinned to as many CPUs.
        warmup: untimed calls.
        rounds: rounds; the order flips in every other one.
        budget_seconds: about how long one model's calls may take in all.

    Returns:
        For each model its latency and the raw times (``wall_ms`` per call per round, ``cpu_ms`` per round).
    """
    timing = {"warmup": warmup, "rounds": rounds, "budget_seconds": budget_seconds}
    with open_session(threads) as session:
        return bench_models(session, load, models, feed, threads, **timing)


def executed_precision(
    model: Union[str, Path],
    feed: Feed,
    threads: int = 1,
    *,
    also: Optional[Mapping[int, Feed]] = None,
) -> Dict[str, Any]:
    """Finds out which arithmetic really ran: ONNX Runtime's profile of one inference.

    Args:
        model: the ``.onnx`` file.
        feed: one batch.
        threads: CPU threads.
        also: batch size -> batch; these are profiled too.

    Returns:
        See :func:`slimkit.deploy.onnx_precision.executed`; besides, ``ms_at``: key of ``also`` -> kind of work -> ms.
    """
    from slimkit.deploy import onnx_precision

    batches: Dict[str, Feed] = {"one": feed, **{str(size): batch for size, batch in (also or {}).items()}}
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        with open_session(threads) as session:
            load(session, "model", model, profile_to=f"{folder}/profile")
            for batch in batches.values():
                for _ in range(onnx_precision.RUNS):
                    session.run("model", batch, subject=str(model))
            profile = Path(session.call("end_profile", key="model")["file"])
        runs = onnx_precision.parse_profile(profile.read_text(encoding="utf-8"))
        spent = [onnx_precision.fastest(part) for part in onnx_precision.in_turn(runs, len(batches))]
        found = onnx_precision.executed(spent[0], onnx_file(model))
    found["ms_at"] = {size: onnx_precision.by_work(part) for size, part in zip(also or {}, spent[1:])}
    return found
