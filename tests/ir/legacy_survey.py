"""Which of Paddle's public functions and methods build a legacy program, and compute there what dygraph computes.

    python tests/ir/legacy_survey.py            # a line per API that fails, then how many do not
    python tests/ir/legacy_survey.py --plain    # the same with Paddle as it is

Arguments are found by trying: the first of a list that dynamic mode takes. ``GIVEN`` has what cannot be guessed.
"""

from __future__ import annotations

import argparse
import ast
import signal
import sys
import warnings
import zlib  # noqa: F401  (must precede paddle)
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import paddle

sys.path.insert(0, str(Path(__file__).resolve().parent))

from legacy_arguments import BATCHES, GIVEN, GUESSES, LEFT_OUT, RANDOM, arrays  # noqa: E402

from slimkit.ir import legacy_api, legacy_ir  # noqa: E402

__all__ = ["Case", "case_of", "cases", "expected", "obtained", "problem"]


@dataclass(frozen=True)
class Case:
    """An expression over the arrays of ``legacy_arguments``, and the API it is there for."""

    api: str
    expression: str

    @property
    def inputs(self) -> List[str]:
        code = compile(self.expression, self.api, "eval")
        return [name for name in arrays() if name in code.co_names]


def cases(only: str = "") -> Iterator[Case]:
    """Yields one case an API that dynamic mode has and whose arguments are known or can be guessed."""
    for api in _names():
        if only in api and api.rsplit(".", 1)[-1] not in LEFT_OUT and api not in LEFT_OUT:
            case = _case(api)
            if case is not None:
                yield case


def case_of(api: str) -> Optional[Case]:
    """Returns the case of an API by its full name; an operator is one of Variable's methods."""
    return _case(api)


def unguessed() -> List[str]:
    """Returns the APIs without a case."""
    names = [a for a in _names() if a.rsplit(".", 1)[-1] not in LEFT_OUT and a not in LEFT_OUT]
    return [api for api in names if _case(api) is None]


def _names() -> List[str]:
    found = [f"paddle.{name}" for name in paddle.__all__]
    found += [f"F.{name}" for name in paddle.nn.functional.__all__]
    found += [f"paddle.linalg.{name}" for name in paddle.linalg.__all__]
    found += [f"Variable.{name}" for name in paddle.tensor.tensor_method_func]
    found += [f"Variable.{name}" for name in GIVEN if name.startswith("__")]
    found += [api for api in GIVEN if api.startswith("paddle.") and api not in found]
    return sorted(name for name in set(found) if not name.endswith("_") or name.endswith("__"))


def _case(api: str) -> Optional[Case]:
    prefix, name = api.rsplit(".", 1)
    given = GIVEN.get(api) or GIVEN.get(name)
    if given is not None:
        expression = given if prefix != "Variable" or api in GIVEN or name.startswith("__") else _as_method(given, name)
        return Case(api, expression)
    function = getattr({"F": paddle.nn.functional, "paddle.linalg": paddle.linalg}.get(prefix, paddle), name, None)
    if prefix == "Variable":
        function = getattr(paddle.Tensor, name, None)
        if name == "shape":
            return None
    if not callable(function) or isinstance(function, type):
        return None
    for guess in GUESSES:
        expression = _as_method(f"f({guess})", name) if prefix == "Variable" else f"{api}({guess})"
        case = Case(api, expression)
        try:
            expected(case)
        except Exception:
            continue
        return case
    return None


def _as_method(call: str, name: str) -> str:
    """``paddle.f(x, 2)`` -> ``(x).f(2)``; a list of tensors has no methods, so the call stays."""
    tree = ast.parse(call, mode="eval").body
    if not isinstance(tree, ast.Call) or isinstance(tree.args[0], ast.List):
        return call
    rest = [ast.unparse(item) for item in [*tree.args[1:], *tree.keywords]]
    return f"({ast.unparse(tree.args[0])}).{name}({', '.join(rest)})"


def _evaluate(case: Case, values: Dict[str, Any]) -> List[Any]:
    scope = {"paddle": paddle, "F": paddle.nn.functional, "np": np, **values}
    result = eval(case.expression, scope)
    flat = paddle.utils.flatten([result])
    kinds = (paddle.Tensor, paddle.base.framework.Variable, paddle.pir.Value)
    if not flat or not all(item is None or isinstance(item, kinds) for item in flat):
        raise TypeError(f"{case.expression} gives no tensors")
    return [item for item in flat if item is not None]


def expected(case: Case) -> List[np.ndarray]:
    """Runs a case in dynamic mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paddle.seed(0)
        values = {name: paddle.to_tensor(array) for name, array in arrays().items() if name in case.inputs}
        return [item.numpy() for item in _evaluate(case, values)]


def obtained(case: Case) -> List[np.ndarray]:
    """Runs a case as a legacy program, the first dimension of its inputs unknown; in static mode on the legacy IR."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    feed = {name: array for name, array in arrays().items() if name in case.inputs}
    with warnings.catch_warnings(), paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        warnings.simplefilter("ignore")
        shapes = {name: [-1, *a.shape[1:]] if name in BATCHES else a.shape for name, a in feed.items()}
        values = {name: paddle.static.data(name, shapes[name], a.dtype) for name, a in feed.items()}
        paddle.base.framework.Variable.__iter__ = _endless  # what takes a list of tensors only
        try:
            fetches = _evaluate(case, values)
        finally:
            del paddle.base.framework.Variable.__iter__
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        return list(executor.run(main, feed=feed, fetch_list=fetches))


def problem(case: Case) -> Optional[str]:
    """Returns what is wrong with a case on the legacy IR, or None."""
    want = expected(case)
    try:
        with legacy_ir():
            have = obtained(case)
    except Exception as error:
        return f"{type(error).__name__}: {_last(error)}"
    if len(have) != len(want):
        return f"{len(have)} results, not {len(want)}"
    for ours, theirs in zip(have, want):
        if ours is None or ours.shape != theirs.shape:
            return f"shape {getattr(ours, 'shape', None)}, not {theirs.shape}"
        if ours.dtype != theirs.dtype:
            return f"dtype {ours.dtype}, not {theirs.dtype}"
        if case.api.rsplit(".", 1)[-1] not in RANDOM and not np.allclose(ours, theirs, 1e-5, 1e-6, equal_nan=True):
            return f"differs by {np.abs(np.asarray(ours, np.complex128) - theirs).max():.3g}"
    return None


def _last(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "---" not in line]
    named = [line for line in lines if "Error:" in line or "InvalidType" in line]
    return (named or lines or ["?"])[-1][:200]


def _endless(_: Any) -> None:
    raise TypeError("iteration over a Variable whose length is not known has no end")


def _too_long(*_: Any) -> None:
    raise TimeoutError("20 seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of an API's name")
    parser.add_argument("--plain", action="store_true", help="without slimkit's legacy_api")
    parser.add_argument("--unguessed", action="store_true", help="list the APIs that have no case")
    arguments = parser.parse_args()
    if arguments.unguessed:
        print(*unguessed())
        return
    signal.signal(signal.SIGALRM, _too_long)
    works = total = 0
    with nullcontext() if arguments.plain else legacy_api.accepting_variables():
        for case in cases(arguments.only):
            signal.alarm(20)
            text = problem(case)
            signal.alarm(0)
            total, works = total + 1, works + (text is None)
            if text:
                print(f"  {case.expression}: {text}", flush=True)
    print(f"{works} of {total} APIs build a legacy program that computes what dynamic mode does")


if __name__ == "__main__":
    main()
