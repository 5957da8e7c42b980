"""Runs a script or module as ``python`` would, with slimkit under the name of paddleslim."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import runpy
import sys
import sysconfig
import zipfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Iterator, Optional, Sequence

from slimkit.errors import ConfigError
from slimkit.plugins import startup

__all__ = [
    "PTH",
    "LaunchError",
    "as_paddleslim",
    "restored",
    "run_module",
    "run_script",
    "switch_on",
    "without_own_frames",
]

#: What an installed slimkit has beside it, so that the variable alone is enough.
PTH = "slimkit_as_paddleslim.pth"

_CHILD = Path(__file__).parent / "child"
_COMMAND = str(Path(__file__).with_name("run_command.py"))


class LaunchError(ConfigError):
    """There is no such script or module."""


def switch_on() -> None:
    """``import paddleslim`` is slimkit from now on, here and in the processes started."""
    os.environ[startup.VARIABLE] = "1"
    if not (Path(sysconfig.get_paths()["purelib"]) / PTH).is_file():
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

    ``sys.argv``, ``sys.path`` and ``__main__`` stay the script's, for what it runs at the end of the process;
    see :func:`restored`.

    Raises:
        LaunchError: there is no such file.
        BaseException: what the script raises, ``SystemExit`` included; see :func:`without_own_frames`.
    """
    if not os.path.exists(path):
        raise LaunchError(
            f"There is no script '{path}' in {os.getcwd()}; a module is run with `slimkit run -m MODULE`."
        )
    plain = os.path.isfile(path) and not path.endswith(".pyc") and not zipfile.is_zipfile(path)
    _fresh([path, *arguments], os.path.dirname(os.path.realpath(path)) if plain else None)
    if plain:
        _execute(path)
    else:
        runpy.run_path(os.path.abspath(path), run_name="__main__")


def run_module(name: str, arguments: Sequence[str] = ()) -> None:
    """Runs a module or package as ``python -m NAME ARGUMENTS`` does; see :func:`run_script`.

    Raises:
        LaunchError: there is no such module.
        BaseException: what it raises, ``SystemExit`` included.
    """
    _fresh(["-m", *arguments], os.getcwd())
    _check_module(name)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


@contextmanager
def restored() -> Iterator[None]:
    """Puts ``sys.argv``, ``sys.path`` and ``__main__`` back after its body, for a script run inside a program."""
    argv, path, main = sys.argv, list(sys.path), sys.modules["__main__"]
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = argv, path, main


def _execute(path: str) -> None:
    """Executes a file as ``__main__``. (``runpy.run_path`` would not make ``__file__`` absolute, as Python does.)"""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=os.path.abspath(path), __builtins__=builtins, __cached__=None, __annotations__={})
    main.__package__ = None
    sys.modules["__main__"] = main
    with io.open_code(main.__dict__["__file__"]) as stream:
        code = compile(stream.read(), main.__dict__["__file__"], "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _check_module(name: str) -> None:
    package = name.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise  # a module that it needs is missing, not the one asked for
        found = None
    if found is None:
        where = f"{os.getcwd()} and sys.path"
        raise LaunchError(f"There is no module '{name}' for `slimkit run -m`; it was looked for in {where}.")
    if found.submodule_search_locations is not None and importlib.util.find_spec(f"{name}.__main__") is None:
        raise LaunchError(f"'{name}' is a package without a module __main__; name the module of it that is to be run.")


def _fresh(argv: Sequence[str], folder: Optional[str]) -> None:
    """``sys.argv`` and ``sys.path`` of a new process, whose first place ``folder`` is."""
    own = os.path.dirname(os.path.realpath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    first = sys.path[0] if sys.path else ""
    if first == "" or os.path.realpath(first) in (own, os.path.realpath(os.path.dirname(sys.argv[0]))):
        del sys.path[:1]  # the place of slimkit's own command
    sys.argv = list(argv)
    if folder is not None:
        sys.path.insert(0, folder)


def without_own_frames(traceback: Optional[TracebackType]) -> Optional[TracebackType]:
    """A traceback of what was run, without the frames in front of it: slimkit's and runpy's."""
    own = {__file__, runpy.__file__, "<frozen runpy>", _COMMAND}
    while traceback is not None and traceback.tb_frame.f_code.co_filename in own:
        traceback = traceback.tb_next
    return traceback
