"""Runs a script or module as ``python`` would, with slimkit under the name of paddleslim."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Iterator, Optional, Sequence

from slimkit.errors import ConfigError
from slimkit.plugins import startup

__all__ = ["PTH", "LaunchError", "as_paddleslim", "run_module", "run_script", "switch_on"]

#: What an installed slimkit has beside it, so that the variable alone is enough.
PTH = "slimkit_as_paddleslim.pth"

_CHILD = Path(__file__).parent / "child"


class LaunchError(ConfigError):
    """There is no such script or module."""


def switch_on() -> None:
    """``import paddleslim`` is slimkit from now on, here and in the processes started."""
    os.environ[startup.VARIABLE] = "1"
    if not _has_pth():
        own = str(_CHILD)
        entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != own]
        os.environ["PYTHONPATH"] = os.pathsep.join([own, *entries])
    startup.install()


@contextmanager
def as_paddleslim() -> Iterator[None]:
    """:func:`switch_on` for the time of its body.

    Everything is as before afterwards: import system, repaired modules, environment.
    """
    before = {name: os.environ.get(name) for name in (startup.VARIABLE, "PYTHONPATH")}
    was_installed = startup.is_installed()
    try:
        switch_on()
        yield
    finally:
        if not was_installed:
            startup.uninstall()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_script(path: str, arguments: Sequence[str] = ()) -> None:
    """Runs a file (or a folder or zip with ``__main__.py``) as ``python PATH ARGUMENTS`` does.

    Raises:
        LaunchError: there is no such file.
        BaseException: what the script raises, ``SystemExit`` included, without slimkit's frames.
    """
    if not os.path.exists(path):
        raise LaunchError(
            f"There is no script '{path}' in {os.getcwd()}; a module is run with `slimkit run -m MODULE`."
        )
    folder = [] if os.path.isdir(path) else [os.path.dirname(os.path.realpath(path))]
    with _process([path, *arguments], folder), _own_frames_cut():
        runpy.run_path(path, run_name="__main__")


def run_module(name: str, arguments: Sequence[str] = ()) -> None:
    """Runs a module or package as ``python -m NAME ARGUMENTS`` does.

    Raises:
        LaunchError: there is no such module.
        BaseException: what it raises, ``SystemExit`` included, without slimkit's frames.
    """
    with _process(["-m", *arguments], [os.getcwd()]), _own_frames_cut():
        _check_module(name)
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def _check_module(name: str) -> None:
    package = name.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # a module of its own that is missing, not the one asked for
        found = None
    if found is None:
        raise LaunchError(
            f"There is no module '{name}' for `slimkit run -m`; looked for in {os.getcwd()} and sys.path."
        )


@contextmanager
def _process(argv: Sequence[str], path: Sequence[str]) -> Iterator[None]:
    """``sys.argv``, ``sys.path`` and ``__main__`` of a fresh process; as before afterwards."""
    before = sys.argv, list(sys.path), sys.modules["__main__"]
    own = str(Path(sys.argv[0]).parent) if sys.argv and sys.argv[0] else ""
    rest = [entry for place, entry in enumerate(sys.path) if place > 0 or entry not in ("", own)]
    sys.argv = list(argv)
    sys.path[:] = [*path, *rest]
    try:
        with as_paddleslim():
            yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before[0], before[1], before[2]


@contextmanager
def _own_frames_cut() -> Iterator[None]:
    """Takes the frames of this file and of runpy off the front of a traceback."""
    try:
        yield
    except BaseException as error:
        error.__traceback__ = _cut(error.__traceback__)
        raise


def _cut(traceback: Optional[TracebackType]) -> Optional[TracebackType]:
    own = {__file__, runpy.__file__, "<frozen runpy>"}
    inner = traceback
    while inner is not None and inner.tb_frame.f_code.co_filename in own:
        inner = inner.tb_next
    return inner if inner is not None else traceback


def _has_pth() -> bool:
    return (Path(sysconfig.get_paths()["purelib"]) / PTH).is_file()
