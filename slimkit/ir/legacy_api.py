"""Static scripts written for Paddle 2 on Paddle 3: ``paddle.enable_static()`` builds legacy programs again.

Two things stand in such a script's way. Paddle 3 builds PIR programs by default, which nothing written for Paddle 2
reads; and on the legacy IR, which it still has, many of its functions (``paddle.multiply``, ``paddle.sum``,
``F.sigmoid``, ``Variable.tanh``...) are C++ builtins that reject a legacy ``Variable``.

:func:`install` is for the launcher: from then on ``paddle.enable_static()``, called by the script, also switches the
IR and makes those functions take Variables; ``paddle.disable_static()`` undoes it, so dynamic mode pays nothing.
:func:`accepting_variables` is the second part alone.
"""

from __future__ import annotations

import functools
import sys
import types
import zlib  # noqa: F401  (must precede paddle)
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import paddle
from paddle import _C_ops
from paddle.base import framework
from paddle.base.framework import Variable

from slimkit.ir.legacy_call import append_call

#: Functions in Python whose legacy branch Paddle 3.3 has broken or dropped; their PIR branch is run instead.
IN_PIR = (
    "paddle.nn.functional.normalize",
    "paddle.nn.functional.scaled_dot_product_attention",
    "paddle.softmax",
    "paddle.gt",
    "paddle.linalg.solve",
)

__all__ = ["accepting_variables", "install", "installed", "is_installed", "uninstall"]

_OWN = ("paddle", "slimkit")


def install() -> None:
    """Lets ``paddle.enable_static()`` build legacy programs, until :func:`uninstall`. Twice is once."""
    global _switch
    if _switch is None:
        _switch = _Switch()


def uninstall() -> None:
    """Undoes :func:`install`, in whatever mode Paddle is."""
    global _switch
    if _switch is not None:
        _switch.remove()
        _switch = None


def is_installed() -> bool:
    """Whether :func:`install` is in effect."""
    return _switch is not None


@contextmanager
def installed() -> Iterator[None]:
    """:func:`install` for the time of its body; leaves one that was there alone."""
    before = _switch
    install()
    try:
        yield
    finally:
        if before is None:
            uninstall()


class _Switch:
    """The pair ``paddle.enable_static``/``disable_static`` as a script sees it."""

    def __init__(self) -> None:
        self._static: Optional[ExitStack] = None
        self._original = paddle.enable_static, paddle.disable_static
        paddle.enable_static, paddle.disable_static = self._pair()
        if not paddle.in_dynamic_mode():
            self._enter()

    def _pair(self) -> Tuple[Callable[[], None], Callable[..., None]]:
        enable, disable = self._original

        @functools.wraps(enable)
        def enable_static() -> None:
            enable()
            if not _called_by_paddle():
                self._enter()

        @functools.wraps(disable)
        def disable_static(*args: Any, **kwargs: Any) -> None:
            if not _called_by_paddle():
                self._leave()
            disable(*args, **kwargs)

        return enable_static, disable_static

    def _enter(self) -> None:
        if self._static is None:
            with ExitStack() as stack:
                stack.enter_context(_legacy_programs())
                stack.enter_context(accepting_variables())
                self._static = stack.pop_all()

    def _leave(self) -> None:
        if self._static is not None:
            stack, self._static = self._static, None
            stack.close()

    def remove(self) -> None:
        self._leave()
        paddle.enable_static, paddle.disable_static = self._original


_switch: Optional[_Switch] = None


def _called_by_paddle() -> bool:
    """Whether Paddle's own guards, or slimkit's, ask for a mode; they mean the mode and not the IR."""
    return str(sys._getframe(2).f_globals.get("__name__")).partition(".")[0] in _OWN


@contextmanager
def _legacy_programs() -> Iterator[None]:
    """The legacy IR, also for what a script imported from ``paddle.static`` before, and two names Paddle 3 removed."""
    pir = paddle.pir.core
    renewed = {
        id(old): new
        for old, new in (
            (paddle.pir.Program, framework.Program),
            (pir.program_guard, framework.program_guard),
            (pir.default_main_program, framework.default_main_program),
            (pir.default_startup_program, framework.default_startup_program),
        )
    }
    removed = [
        (paddle.static, "ExecutionStrategy", type("ExecutionStrategy", (), {"__doc__": "Attributes no one reads."})),
        (paddle.static.CompiledProgram, "with_data_parallel", lambda self, *args, **kwargs: self),  # on one device
    ]
    removed = [(owner, name, item) for owner, name, item in removed if not hasattr(owner, name)]
    with paddle.pir_utils.OldIrGuard(), _replaced(_places(renewed, own=False) + removed):
        yield


@contextmanager
def accepting_variables() -> Iterator[None]:
    """Makes every function of Paddle that is a C++ builtin take legacy Variables, for the time of its body."""
    paddle.pir.register_paddle_dialect()  # Paddle has not, if FLAGS_enable_pir_api=0 when it was imported
    paddle.pir.register_dist_dialect()
    functions = [item for item in vars(_C_ops).values() if isinstance(item, types.BuiltinFunctionType)]
    functions += [_named(name) for name in IN_PIR]
    wrapped = {id(function): _accepting(function) for function in functions}
    methods = [(Variable, name, wrapped[id(f)]) for name, f in list(vars(Variable).items()) if id(f) in wrapped]
    methods.append((Variable, "__abs__", paddle.abs))  # Paddle's own uses a name before it is bound
    try:
        with _replaced(_places(wrapped) + methods):
            yield
    finally:  # what was imported meanwhile holds the wrapped ones
        for module, name, function in _places({id(wrapped[id(function)]): function for function in functions}):
            setattr(module, name, function)


def _named(name: str) -> Any:
    found = paddle
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


def _accepting(function: Callable[..., Any]) -> Callable[..., Any]:
    mode = framework.global_var

    @paddle.jit.not_to_static
    @functools.wraps(function, assigned=("__name__", "__qualname__", "__doc__"))
    def call(*args: Any, **kwargs: Any) -> Any:
        if mode._use_pir_api_ or mode._dygraph_tracer_ is not None:
            return function(*args, **kwargs)
        return append_call(function, args, kwargs)

    return call


Place = Tuple[Any, str, Any]
_ABSENT = object()


def _places(wanted: Dict[int, Any], *, own: bool = True) -> List[Place]:
    """Returns (module, name, replacement) for every name a module has for an object, given by its id."""
    found: List[Place] = []
    for title, module in list(sys.modules.items()):
        if not isinstance(module, types.ModuleType) or (not own and title.partition(".")[0] in _OWN):
            continue
        if title.startswith("paddle.base.libpaddle") or title == "paddle._pir_ops":  # what PIR itself calls
            continue
        names = list(vars(module).items())
        found.extend((module, name, wanted[id(item)]) for name, item in names if id(item) in wanted)
    return found


@contextmanager
def _replaced(places: List[Place]) -> Iterator[None]:
    """Sets attributes, and sets back (or deletes) those that no one else has set meanwhile."""
    before = [(owner, name, item, vars(owner).get(name, _ABSENT)) for owner, name, item in places]
    try:
        for owner, name, item, _ in before:
            setattr(owner, name, item)
        yield
    finally:
        for owner, name, item, original in before:
            if vars(owner).get(name) is not item:
                continue
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
