"""Switching Paddle between its two program formats without leaving a trace."""

from __future__ import annotations

import zlib  # noqa: F401  (zlib must be loaded before paddle: its bundled copy crashes gzip otherwise)
from contextlib import contextmanager
from typing import Iterator

import paddle
from paddle.base import framework

__all__ = ["legacy_ir"]


@contextmanager
def legacy_ir() -> Iterator[None]:
    """Runs its body in static mode on the legacy IR (ProgramDesc), where Paddle 3 defaults to PIR.

    Inside, ``paddle.static.Program``, ``program_guard``, ``Executor``, ``append_backward`` and the optimizers'
    ``minimize`` work on legacy programs. On leaving, also through an exception, everything is as it was:
    dynamic or static mode, the very tracer object of dynamic mode (so ``no_grad`` and AMP state survive), the IR
    flags. May be nested.
    """
    # Paddle's enable_static()/disable_static() would make a new tracer; setting it aside keeps its state.
    with framework._dygraph_guard(None), paddle.pir_utils.OldIrGuard():
        yield
