"""Paddle Inference on CPU, float and oneDNN int8: the real runtime, in a process of its own.

int8 runs only on legacy ``.pdmodel`` files with the new IR and the new executor off. Three modes exist:
``float`` (oneDNN), ``int8`` (oneDNN int8 passes; needs a quantized model), and ``plain`` (no oneDNN: quantize
ops are simulated in float, which is what training saw).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.deploy.model_files import legacy_pair
from slimkit.deploy.runtime import Latency, bench_models
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.errors import RuntimeUnavailableError, SlimkitError

__all__ = ["NAME", "available", "bench", "bench_together", "executed_precision", "export", "open_session", "run"]

NAME = "paddle"
TITLE = "Paddle Inference"
MODES = ("float", "int8", "plain")


def available() -> Optional[str]:
    """Returns None when paddle is installed, else how to get it."""
    if importlib.util.find_spec("paddle") is None:
        return "Paddle Inference needs paddlepaddle, which is not installed: pip install 'slimkit[cpu]'."
    return None


def open_session(threads: int = 1, *, pin: bool = True, environment: Optional[Dict[str, str]] = None) -> WorkerSession:
    """Starts a worker. Raises RuntimeUnavailableError when paddle is not installed."""
    missing = available()
    if missing:
        raise RuntimeUnavailableError(missing)
    return WorkerSession("paddle_worker.py", TITLE, threads=threads, pin=pin, environment=environment)


def load(session: WorkerSession, key: str, model: Union[str, Path], mode: str, **more: Any) -> List[str]:
    """Builds a predictor in ``session`` under ``key``; returns the model's input names."""
    program, parameters = legacy_pair(model, TITLE)
    session.load(key, model=program, params=parameters, mode=mode, **more)
    return session.inputs[key]


def export(prefix: Union[str, Path], out: Union[str, Path]) -> Path:
    """Copies the model; Paddle Inference reads ``.pdmodel`` as it is.

    Args:
        prefix: the model.
        out: prefix of the copy.

    Raises:
        SlimkitError: the copy cannot be written.
    """
    target = Path(f"{out}.pdmodel")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for source, suffix in zip(legacy_pair(prefix, TITLE), (".pdmodel", ".pdiparams")):
            handle, temporary = tempfile.mkstemp(dir=target.parent)
            os.close(handle)
            shutil.copyfile(source, temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, f"{out}{suffix}")
    except OSError as error:
        raise SlimkitError(f"{out} could not be written: {error.strerror}; choose another folder.") from None
    return target


def run(
    model: Union[str, Path],
    batches: Iterable[Feed],
    int8: bool = False,
    threads: int = 1,
    *,
    mode: Optional[str] = None,
) -> List[List[np.ndarray]]:
    """Runs a model on every batch.

    Args:
        model: prefix of ``.pdmodel``/``.pdiparams``.
        batches: each a dict by input name, a list in input order, or one array; read one at a time.
        int8: turn the oneDNN int8 passes on.
        threads: CPU threads.
        mode: "float", "int8" or "plain" instead of ``int8``.

    Returns:
        For each batch the outputs, in the model's order.

    Raises:
        RuntimeFailedError: the runtime refused the model or crashed.
    """
    with open_session(threads, pin=False) as session:
        load(session, "model", model, mode or ("int8" if int8 else "float"))
        return [session.run("model", batch, subject=str(model)) for batch in batches]


def bench(
    model: Union[str, Path],
    feed: Feed,
    int8: bool = False,
    threads: int = 1,
    *,
    warmup: int = 3,
    rounds: int = 10,
    budget_seconds: float = 2.0,
) -> Latency:
    """Measures one batch's latency on pinned threads; see :func:`bench_together` for a comparison."""
    pair = [(model, "int8" if int8 else "float")]
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
        models: ``(prefix, mode)`` each.
        feed: one batch.
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
    int8: bool = True,
    threads: int = 1,
    *,
    also: Optional[Mapping[int, Feed]] = None,
) -> Dict[str, Any]:
    """Finds out which arithmetic really ran: oneDNN's own profile of one inference, and the optimized program.

    Args:
        model: prefix of ``.pdmodel``/``.pdiparams``.
        feed: one batch.
        int8: with the int8 passes; False profiles the float run.
        threads: CPU threads.
        also: batch size -> batch; these are profiled too.

    Returns:
        See :func:`slimkit.deploy.onednn.executed`; besides, ``ms_at``: key of ``also`` -> kind of work -> ms.
    """
    from slimkit.deploy import onednn

    batches: Dict[str, Feed] = {"one": feed, **{str(size): batch for size, batch in (also or {}).items()}}
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        with open_session(threads, environment={"ONEDNN_VERBOSE": "1"}) as session:
            load(session, "model", model, "int8" if int8 else "float", optimized_to=folder)
            for key, batch in batches.items():
                session.run("model", batch, subject=str(model))  # weights are reordered in the first run
                session.call("mark", label=f"start {key}")
                session.run("model", batch, subject=str(model))
                session.call("mark", label=f"end {key}")
            log = session.log
        found = onednn.executed(log, next(Path(folder).glob("*.pdmodel"), None), "one")
    found["ms_at"] = {size: onednn.parse_verbose(onednn.between_marks(log, str(size)))[1] for size in also or {}}
    return found
