"""Actions right after a module was imported, for modules that others import when they like."""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

__all__ = ["Action", "ImportHooks", "Undo"]

Undo = Callable[[], None]
#: Called with the module that was imported; returns how to undo what it did, or None if it did nothing.
Action = Callable[[ModuleType], Optional[Undo]]


class ImportHooks:
    """Runs actions after the modules they wait for; costs a look into a dict for every other import.

    An action that fails is a warning, not the end of the import: the module works as it would without slimkit.
    """

    def __init__(self) -> None:
        self._waiting: Dict[str, List[Action]] = {}
        self._finding: Set[str] = set()
        self._undo: List[Undo] = []

    def after(self, name: str, action: Action) -> None:
        """Runs ``action(module)`` once module ``name`` is imported; now, if it is already."""
        module = sys.modules.get(name)
        if module is not None:
            self._run([action], module)
        else:
            self._waiting.setdefault(name, []).append(action)

    def undo(self) -> None:
        """Undoes all that was done, the last first, and forgets what is still waited for."""
        self._waiting.clear()
        while self._undo:
            self._undo.pop()()

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """The spec that the other finders have, with a loader that runs the actions behind the module's own code."""
        if fullname not in self._waiting or fullname in self._finding:
            return None
        self._finding.add(fullname)
        try:
            spec = _spec_of_others(self, fullname, path, target)
        finally:
            self._finding.discard(fullname)
        if spec is not None and spec.loader is not None and not isinstance(spec.loader, type):
            self._follow(spec.loader, fullname)
        return spec

    def _follow(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            self._run(self._waiting.pop(name, []), module)

        loader.exec_module = exec_module

    def _run(self, actions: Sequence[Action], module: ModuleType) -> None:
        for action in actions:
            try:
                undo = action(module)
            except Exception as error:
                text = f"slimkit: a repair of '{module.__name__}' failed ({type(error).__name__}: {error})."
                warnings.warn(text, stacklevel=2)
                continue
            if undo is not None:
                self._undo.append(undo)


def _spec_of_others(own: Any, fullname: str, path: Any, target: Any) -> Optional[ModuleSpec]:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if finder is own or find is None:
            continue
        spec = find(fullname, path, target)
        if spec is not None:
            return spec
    return None
