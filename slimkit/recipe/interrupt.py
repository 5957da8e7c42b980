"""Ctrl-C and SIGTERM between steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Dict, Optional

__all__ = ["StopRequest"]


class StopRequest:
    """While entered, the first SIGINT or SIGTERM only sets :attr:`requested`; the second acts as usual.

    The trainer looks at it after each step, so that the state it saves is never half a step. Handlers are
    put back on exit. Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Dict[int, Any] = {}

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
