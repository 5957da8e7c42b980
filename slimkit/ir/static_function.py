"""A static-graph function of one tensor -> a legacy program, by way of PIR.

Many of Paddle 3's Python APIs reject legacy Variables but accept PIR values, so a function written for
``paddle.static`` is run on PIR values and its program is translated.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from dataclasses import dataclass
from typing import Any, Callable, Dict, Sequence

import numpy as np
import paddle
from paddle.base import framework

from slimkit.errors import ModelError
from slimkit.ir.translate import translate

__all__ = ["TracedFunction", "trace_function"]


@dataclass(frozen=True)
class TracedFunction:
    """A function's legacy program.

    Attributes:
        program: legacy Program with the feed and the parameters the function created.
        output: name of the result.
        params: initial values of the parameters.
    """

    program: Any
    output: str
    params: Dict[str, np.ndarray]


def trace_function(
    function: Callable[[Any], Any], feed: str, shape: Sequence[int], prefix: str, dtype: str = "float32"
) -> TracedFunction:
    """Runs a function on a PIR value and translates what it builds.

    Args:
        function: takes and returns a static value; may create parameters through ``LayerHelper``.
        feed: name of its input, which ``x.name`` gives inside the function.
        shape: of the input, -1 for a dynamic dimension.
        prefix: put before the names Paddle generates, so that two calls do not share names.
        dtype: of the input.

    Raises:
        ModelError: the function does not return a value.
        TranslationError: it uses an op slimkit does not know.
    """
    with framework._dygraph_guard(None), paddle.pir_utils.IrGuard():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard(prefix):
            value = paddle.static.data(feed, list(shape), dtype)
            value.stop_gradient = False
            result = function(value)
        if not isinstance(result, paddle.pir.Value):
            raise ModelError(f"the function returned {type(result).__name__}; it must return the processed Variable.")
        translated = translate(main, [result])
        names = [p.name for p in translated.program.all_parameters()]
        scope = paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            paddle.static.Executor(paddle.CPUPlace()).run(startup)
        params = {name: np.array(scope.find_var(name).get_tensor()) for name in names}
    return TracedFunction(translated.program, translated.fetches[0], params)
