"""What ``slimkit run`` and ``SLIMKIT_AS_PADDLESLIM=1`` switch on in a process, and off again.

Nothing is imported for it but this package: Paddle, numpy and the projects are waited for.
"""

from __future__ import annotations

import os
import sys
import zlib  # noqa: F401  (before paddle, whose bundled copy crashes gzip otherwise)
from types import ModuleType
from typing import Optional

from slimkit.plugins import alias
from slimkit.plugins.hooks import ImportHooks, Undo
from slimkit.plugins.repairs import all_repairs

__all__ = ["VARIABLE", "install", "install_if_asked", "is_installed", "uninstall"]

#: The environment variable which makes a Python process take ``paddleslim`` for slimkit.
VARIABLE = "SLIMKIT_AS_PADDLESLIM"

_hooks: Optional[ImportHooks] = None


def is_installed() -> bool:
    """Whether :func:`install` is in effect."""
    return _hooks is not None


def install() -> None:
    """Makes ``paddleslim`` slimkit, repairs third-party modules when they come, and lets static scripts build
    legacy programs. Twice is once."""
    global _hooks
    if _hooks is not None:
        return
    _hooks = ImportHooks()
    sys.meta_path.insert(0, _hooks)  # type: ignore[arg-type]
    alias.install()
    for repair in all_repairs():
        _hooks.after(repair.module, repair.apply)
    _hooks.after("paddle", _legacy_static)


def uninstall() -> None:
    """Undoes :func:`install`: finders, repaired attributes and ``paddle.enable_static`` are as before."""
    global _hooks
    if _hooks is None:
        return
    hooks, _hooks = _hooks, None
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not hooks]
    hooks.undo()
    alias.uninstall()


def install_if_asked() -> None:
    """:func:`install`, if the environment asks for it; what a process does at its start (``.pth``, sitecustomize)."""
    if os.environ.get(VARIABLE) == "1":
        install()


def _legacy_static(paddle: ModuleType) -> Optional[Undo]:
    """From now on ``paddle.enable_static()`` in a script means what it meant in Paddle 2; see docs/paddleslim.md.

    Whoever sets ``FLAGS_enable_pir_api=1`` himself wants PIR programs, and is left alone.
    """
    wants_pir = os.environ.get("FLAGS_enable_pir_api", "0").lower() not in ("0", "false", "off", "n", "no")
    if wants_pir or not hasattr(paddle, "pir_utils"):
        return None
    from slimkit.ir import legacy_api

    legacy_api.install()
    return legacy_api.uninstall
