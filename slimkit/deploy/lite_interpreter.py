"""The interpreter that Paddle-Lite lives in.

``paddlelite`` 2.13rc0 is built for CPython 3.8 and 3.10 only, so it gets a virtual environment of its own. It is
looked for, in this order: the argument, the variable ``SLIMKIT_LITE_PYTHON``, what ``install_interpreter`` wrote
into the user's cache folder, this interpreter itself, and ``python3.10`` and ``python3.8`` on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Union

from slimkit.errors import RuntimeFailedError, RuntimeUnavailableError
from slimkit.files import atomic_write

__all__ = ["VARIABLE", "find_interpreter", "install_interpreter", "settings_file", "why_unavailable"]

VARIABLE = "SLIMKIT_LITE_PYTHON"
VERSIONS = ("3.10", "3.8")
REQUIREMENT = "paddlelite==2.13rc0"
HOW_TO_GET = (
    "Paddle-Lite needs CPython 3.10 or 3.8 with paddlelite; run `slimkit lite-install DIR` (it makes a virtual "
    f"environment), or set {VARIABLE} to a python that has it"
)

_checked: Dict[str, Optional[str]] = {}


def settings_file() -> Path:
    """Where ``install_interpreter`` leaves the interpreter's path."""
    base = os.environ.get("SLIMKIT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "slimkit"
    )
    return Path(base) / "lite_python.json"


def find_interpreter(python: Optional[Union[str, Path]] = None) -> str:
    """Finds a python that can import ``paddlelite``.

    Args:
        python: an interpreter to use and no other.

    Returns:
        Its path.

    Raises:
        RuntimeUnavailableError: the one given (or named by the variable) does not work, or none was found.
    """
    for origin, given in (("the interpreter given", python), (VARIABLE, os.environ.get(VARIABLE))):
        if given:
            reason = why_unavailable(str(given))
            if reason:
                raise RuntimeUnavailableError(f"{origin}, {given}, has no usable Paddle-Lite: {reason}. {HOW_TO_GET}.")
            return str(given)
    for candidate in _candidates():
        if why_unavailable(candidate) is None:
            return candidate
    raise RuntimeUnavailableError(f"No Paddle-Lite was found. {HOW_TO_GET}.")


def _candidates() -> Iterator[str]:
    try:
        yield json.loads(settings_file().read_text(encoding="utf-8"))["python"]
    except (OSError, ValueError, KeyError):
        pass  # nothing was installed
    if ".".join(map(str, sys.version_info[:2])) in VERSIONS:
        yield sys.executable
    for version in VERSIONS:
        found = shutil.which(f"python{version}")
        if found:
            yield found


def why_unavailable(python: str) -> Optional[str]:
    """Returns None when ``python`` can import paddlelite, else one clause saying why not."""
    if python not in _checked:
        _checked[python] = _check(python)
    return _checked[python]


def _check(python: str) -> Optional[str]:
    command = [python, "-E", "-s", "-c", "import numpy, paddlelite.lite"]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GLOG_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables)
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be run ({error})"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1] if lines else f"importing paddlelite ended with code {done.returncode}"


def install_interpreter(dest: Union[str, Path], python: Optional[Union[str, Path]] = None) -> str:
    """Makes a virtual environment with Paddle-Lite and remembers it for :func:`find_interpreter`.

    Args:
        dest: folder to make.
        python: a CPython 3.10 or 3.8; by default one on PATH, or one that pyenv or uv has.

    Returns:
        The new environment's python.

    Raises:
        RuntimeUnavailableError: there is no such CPython on this machine.
        RuntimeFailedError: the environment or the package could not be installed.
    """
    base = str(python) if python else _base_python()
    _check_version(base)
    folder = Path(dest).absolute()
    ours = not folder.exists()
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        _run([base, "-m", "venv", str(folder)], f"make a virtual environment in {folder}")
        _run([str(inside), "-m", "pip", "install", "-q", REQUIREMENT, "numpy"], f"install {REQUIREMENT}")
    except RuntimeFailedError:
        if ours:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    _checked.pop(str(inside), None)
    reason = why_unavailable(str(inside))
    if reason:
        raise RuntimeFailedError(f"{REQUIREMENT} was installed in {folder} but cannot be imported: {reason}.")
    atomic_write(settings_file(), json.dumps({"python": str(inside)}).encode())
    return str(inside)


def _version(python: str) -> Optional[str]:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _check_version(python: str) -> None:
    version = _version(python)
    if version not in VERSIONS:
        is_one = f"is CPython {version}" if version else "is not a python that runs"
        allowed = " or ".join(VERSIONS)
        raise RuntimeUnavailableError(
            f"{python} {is_one}; {REQUIREMENT} is built for CPython {allowed} only, give one."
        )


def _base_python() -> str:
    for candidate in _installed_pythons():
        if _version(candidate) in VERSIONS:
            return candidate
    raise RuntimeUnavailableError(
        "No CPython 3.10 or 3.8 is on this machine, which paddlelite 2.13rc0 needs; get one with `uv python install "
        "3.10`, `pyenv install 3.10` or your system's packages, and run this again."
    )


def _installed_pythons() -> Iterator[str]:
    for version in VERSIONS:
        if sys.version_info[:2] == tuple(map(int, version.split("."))):
            yield sys.executable
        # pyenv's shims are on PATH even for versions that are not selected: the version folders come first
        roots: List[Path] = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"]
        roots.append(Path.home() / ".local" / "share" / "uv" / "python")
        for root in roots:
            for pattern in (f"{version}.*/bin/python", f"cpython-{version}.*/bin/python"):
                yield from (str(found) for found in sorted(root.glob(pattern), reverse=True))
        found_on_path = shutil.which(f"python{version}")
        if found_on_path:
            yield found_on_path


def _run(command: List[str], doing: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFailedError(f"Could not {doing}: {error}.") from None
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        telling = [line for line in lines if line.upper().startswith("ERROR")] or lines[-1:] or ["no message"]
        raise RuntimeFailedError(f"Could not {doing}: {telling[0].strip()}.")
