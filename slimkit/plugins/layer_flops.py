"""``paddle.flops`` on quantized networks: a quantized layer counts as the layer it stands for."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator

from slimkit.plugins.hooks import Undo

__all__ = ["count_quantized"]

_WRAPPERS = "slimkit.quant.layers.wrappers"


def count_quantized(counting: Any) -> Undo:
    """Repairs ``paddle.hapi.dynamic_flops``, which counts leaves of exactly the types that it knows.

    A quantized layer is none: it contains its quantizers. While counting is going on it is one, and is counted by
    the function of its float type.
    """
    original = counting.dynamic_flops

    @functools.wraps(original)
    def dynamic_flops(*args: Any, **kwargs: Any) -> int:
        if _WRAPPERS not in sys.modules:  # then no network is quantized
            return original(*args, **kwargs)
        with _as_leaves(counting.register_hooks):
            return original(*args, **kwargs)

    counting.dynamic_flops = dynamic_flops

    def undo() -> None:
        counting.dynamic_flops = original

    return undo


@contextmanager
def _as_leaves(functions: Dict[Any, Any]) -> Iterator[None]:
    kinds = sys.modules[_WRAPPERS].QUANTIZED.values()
    own = {kind: functions[kind.float_type] for kind in kinds}
    functions.update(own)
    for kind in own:
        kind.children = lambda self: iter(())
    try:
        yield
    finally:
        for kind in own:
            del kind.children
            del functions[kind]
