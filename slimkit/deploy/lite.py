"""Paddle-Lite: conversion to ``.nb`` for ARM and x86, and running on x86, in a side interpreter.

ARM cannot be executed here: conversion, size and the kernels chosen are what can be checked. On x86 a quantized
model is converted in its float form on the quantized grid (see :mod:`slimkit.deploy.grid`), because Paddle-Lite
2.13rc0's x86 int8 kernels give wrong results; every result says so.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np

from slimkit.deploy.explicit_attributes import explicit_attributes
from slimkit.deploy.lite_interpreter import find_interpreter
from slimkit.deploy.model_files import legacy_pair
from slimkit.deploy.runtime import Latency, latency_of
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.errors import ConfigError, RuntimeFailedError, RuntimeUnavailableError, SlimkitError

__all__ = ["ARM", "TARGETS", "X86", "Converted", "LiteTarget", "convert", "kernels"]

TITLE = "Paddle-Lite"
TARGETS = ("arm", "x86")
ON_GRID = "float arithmetic on the int8 grid: weights are the int8 values, activations clipped but not rounded"

PathLike = Union[str, Path]
# Kernel keys in a .nb file: op/alias/target/precision/layout, numbers of Paddle-Lite's enums.
_KERNEL = re.compile(rb"([a-z0-9_]+)/([A-Za-z0-9_]+)/(\d+)/(\d+)/(\d+)")
_TARGET_NAMES = {1: "host", 2: "x86", 4: "arm"}
_INT8_PRECISION = 2


@dataclass(frozen=True)
class Converted:
    """A ``.nb`` file.

    Attributes:
        path: the file.
        target: "arm" or "x86".
        size_bytes: on disk.
        arithmetic: "float", "int8", or :data:`ON_GRID`.
        kernels: op -> {"int8": n, "float": n} of the kernels chosen.
    """

    path: Path
    target: str
    size_bytes: int
    arithmetic: str
    kernels: Dict[str, Dict[str, int]] = field(default_factory=dict)

    @property
    def int8_kernels(self) -> int:
        return sum(counts.get("int8", 0) for op, counts in self.kernels.items() if op != "calib")


def open_session(python: Optional[PathLike] = None, *, pin: bool = True) -> WorkerSession:
    """Starts a worker in the side interpreter.

    Raises:
        RuntimeUnavailableError: there is none; the sentence says how to get one.
    """
    return WorkerSession("lite_worker.py", TITLE, python=find_interpreter(python), threads=1, pin=pin)


def convert(
    prefix: PathLike,
    out: PathLike,
    target: str = "arm",
    *,
    python: Optional[PathLike] = None,
    on_grid: bool = True,
    sparse: Optional[float] = None,
) -> Converted:
    """Converts a ``.pdmodel`` model.

    Args:
        prefix: the model, float or quantized in either format.
        out: file to write, with or without ``.nb``.
        target: "arm" or "x86".
        python: the side interpreter, see ``find_interpreter``.
        on_grid: for x86, convert a quantized model in its float form; False gives the wrong int8 kernels.
        sparse: for arm, 1x1 convolutions whose weight has more than this fraction of zeros are stored without them and
            computed by sparse kernels (``sparse_conv2d``); None: all are dense. Paddle-Lite's own default is 0.6. A
            weight that stays takes 8 bytes, so below 0.5 the file grows; in pairs ([2, 1] blocks) 6, below 0.34.

    Returns:
        The file, its size, and the kernels Paddle-Lite chose.

    Raises:
        RuntimeUnavailableError: no side interpreter.
        RuntimeFailedError: Paddle-Lite refused the model or crashed.
        ModelError: the model cannot be read.
        ConfigError: no such target, or ``sparse`` is not for it or no fraction.
    """
    from slimkit.deploy.grid import float_on_grid, is_quantized
    from slimkit.deploy.program_desc import read_program

    if target not in TARGETS:
        raise ConfigError(f"Paddle-Lite has no target {target!r} here; the targets are {', '.join(TARGETS)}.")
    if sparse is not None and (target != "arm" or not 0 < sparse < 1):
        raise ConfigError(
            f"sparse = {sparse} for {target}: it is the fraction of zeros, between 0 and 1, from which Paddle-Lite for "
            "arm computes a 1x1 convolution sparsely; its x86 kernels are all dense."
        )
    interpreter = find_interpreter(python)
    final = Path(out if str(out).endswith(".nb") else f"{out}.nb").absolute()
    source = legacy_pair(prefix, TITLE)[0]
    quantized = is_quantized({op.type for op in read_program(source).ops})
    arithmetic = "int8" if quantized else "float"
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        stem = str(Path(source).with_suffix(""))
        if quantized and target == "x86" and on_grid:
            float_on_grid(prefix, f"{folder}/grid")
            stem, arithmetic = f"{folder}/grid", ON_GRID
        _legalize(stem, f"{folder}/model")
        with open_session(interpreter, pin=False) as session:
            names = {"model": f"{folder}/model.pdmodel", "params": f"{folder}/model.pdiparams"}
            asked = {**names, "out": f"{folder}/out", "target": target, "sparse": sparse}
            reply = session.call("convert", subject=str(prefix), **asked)
        if not reply["written"]:
            raise RuntimeFailedError(
                f"{TITLE} converted {prefix} for {target} without writing a file; try a new build."
            )
        data = Path(f"{folder}/out.nb").read_bytes()
    from slimkit.files import atomic_write

    atomic_write(final, data)
    return Converted(final, target, len(data), arithmetic, kernels(data))


def _legalize(stem: str, out: str) -> None:
    """Through slimkit's loader and writer, which puts back what Paddle-Lite needs."""
    from slimkit.ir.model import Model

    explicit_attributes(Model.load(stem + ".pdmodel").save(out))


def kernels(data: bytes) -> Dict[str, Dict[str, int]]:
    """Reads the kernels chosen from a ``.nb`` file's content: op -> {"int8": n, "float": n}."""
    found: Dict[str, Counter] = {}
    for op, alias, target, precision, _ in _KERNEL.findall(data):
        if int(target) not in _TARGET_NAMES:
            continue
        int8 = int(precision) == _INT8_PRECISION or b"int8" in alias
        found.setdefault(op.decode(), Counter())["int8" if int8 else "float"] += 1
    return {op: dict(counts) for op, counts in sorted(found.items())}


class LiteTarget:
    """Paddle-Lite for one target, with the members of :class:`slimkit.deploy.runtime.Runtime`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.NAME = f"lite-{target}"

    def available(self) -> Optional[str]:
        """Returns None when a side interpreter is there, else the sentence that says how to get one."""
        try:
            find_interpreter()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def export(self, prefix: PathLike, out: PathLike) -> Path:
        """Writes ``out.nb``; see :func:`convert` for its size and kernels."""
        return convert(prefix, out, self.target).path

    def run(self, model: PathLike, batches: Iterable[Feed], *, threads: int = 1) -> List[List[np.ndarray]]:
        """Runs a ``.nb`` file (x86 only) on every batch; returns each batch's outputs."""
        self._check_runs_here()
        with open_session(pin=False) as session:
            session.load("model", model=str(_nb(model)))
            return [session.run("model", batch, subject=str(model)) for batch in batches]

    def bench(
        self,
        model: PathLike,
        feed: Feed,
        *,
        threads: int = 1,
        warmup: int = 3,
        rounds: int = 10,
        budget_seconds: float = 2.0,
    ) -> Latency:
        """Measures one batch's latency, one thread (Paddle-Lite's python API sets no others)."""
        return self.bench_together([model], feed, warmup=warmup, rounds=rounds, budget_seconds=budget_seconds)[0]

    def bench_together(self, models: Sequence[PathLike], feed: Feed, **timing: Any) -> List[Latency]:
        """Measures several ``.nb`` files in alternating rounds."""
        self._check_runs_here()
        keys = [f"m{i}" for i in range(len(models))]
        with open_session() as session:
            for key, model in zip(keys, models):
                session.load(key, model=str(_nb(model)))
            times = session.bench(keys, feed, **timing)
        return [latency_of(times[key], 1) for key in keys]

    def _check_runs_here(self) -> None:
        if self.target != "x86":
            raise RuntimeUnavailableError(
                f"A Paddle-Lite model for {self.target} cannot be run on this machine; copy the .nb file to the "
                "device, or use lite-x86."
            )


def _nb(model: PathLike) -> Path:
    path = Path(model if str(model).endswith(".nb") else f"{model}.nb").absolute()
    if not path.is_file():
        raise SlimkitError(f"There is no {path}; write it with `slimkit.deploy.lite.convert`.")
    return path


ARM = LiteTarget("arm")
X86 = LiteTarget("x86")
