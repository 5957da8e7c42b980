"""``import paddleslim`` is slimkit: one meta-path finder and the table of :mod:`slimkit.plugins.names`.

A ``paddleslim`` module is a view: an attribute is looked up in the table, then among the submodules, then in slimkit's
module of the same path. Nothing is imported before it is used, and slimkit's own modules are not changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from slimkit.plugins.missing import LATER, NONE, MissingAttributeError, MissingModuleError, sentence
from slimkit.plugins.names import MODULES
from slimkit.version import __version__

__all__ = ["ALIAS", "AliasFinder", "AliasModule", "install", "resolve", "uninstall"]

ALIAS = "paddleslim"

#: What ``paddleslim.__version__`` says: the version whose API it is, and whose work.
VERSION = f"2.6.0+slimkit.{__version__}"


class AliasModule(ModuleType):
    """A module of ``paddleslim``; see the module's docstring."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        found = _find(self.__name__, name)
        # A name of the table is looked up once; what a slimkit module has may still change (it may be patched).
        if name in MODULES.get(self.__name__, {}):
            super().__setattr__(name, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        """Like any module; but a submodule does not take the place of the table's object (``analysis.flops``)."""
        own_module = isinstance(value, AliasModule) and value.__name__ == f"{self.__name__}.{name}"
        if own_module and _is_object(MODULES.get(self.__name__, {}).get(name)):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> List[str]:
        return sorted({*self.__dict__, *_known(self.__name__)})


class AliasFinder:
    """Finds and loads ``paddleslim`` and what is below it, whatever of that name is installed.

    (Without importlib.abc's base classes, whose import would double the cost of a process's start.)
    """

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        """The spec of a view.

        Raises:
            MissingModuleError: slimkit has nothing there.
        """
        if fullname != ALIAS and not fullname.startswith(f"{ALIAS}."):
            return None
        parent, _, name = fullname.rpartition(".")
        row = MODULES.get(parent, {}).get(name)
        absent = row is not None and not _is_object(row)  # then a module of that name is no substitute
        if absent or (fullname not in MODULES and _counterpart(fullname) is None):
            row = row or _of_all(MODULES.get(parent, {}))
            raise MissingModuleError(sentence(parent, name, row, _known(parent)), name=fullname)
        spec = ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type]
        if fullname == ALIAS:
            import slimkit

            spec.origin = slimkit.__file__
        return spec

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """What ``importlib.metadata.version("paddleslim")`` asks; nothing when all packages are listed."""
        if str(getattr(context, "name", None)).lower() == ALIAS:
            from slimkit.plugins.distribution import AliasDistribution

            yield AliasDistribution(ALIAS, VERSION)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return AliasModule(spec.name, f"slimkit under the name of {spec.name}; see docs/paddleslim.md.")

    def exec_module(self, module: ModuleType) -> None:
        rows = MODULES.get(module.__name__, {})
        module.__dict__["__all__"] = sorted(name for name, row in rows.items() if _is_object(row))
        if module.__name__ == ALIAS:
            module.__dict__.update(__version__=VERSION, __file__=module.__spec__.origin)  # type: ignore[union-attr]


_finder: Optional[AliasFinder] = None
_before: Dict[str, ModuleType] = {}


def install() -> None:
    """Puts the alias in front of every other finder, and a ``paddleslim`` already imported aside. Twice is once."""
    global _finder
    if _finder is not None:
        return
    _finder = AliasFinder()
    sys.meta_path.insert(0, _finder)  # type: ignore[arg-type]
    _before.update(_remove_modules())


def uninstall() -> None:
    """Undoes :func:`install`; the modules that were there before are back."""
    global _finder
    if _finder is None:
        return
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _finder]
    _finder = None
    _remove_modules()
    sys.modules.update(_before)
    _before.clear()


def _remove_modules() -> Dict[str, ModuleType]:
    names = [name for name in sys.modules if name == ALIAS or name.startswith(f"{ALIAS}.")]
    return {name: sys.modules.pop(name) for name in names}


def resolve(target: str, name: str) -> Any:
    """The object of a row: ``"module"`` has it under ``name``, ``"module:other"`` under another name.

    Raises:
        ImportError, AttributeError: it is not where the row says.
    """
    module, _, other = target.partition(":")
    return getattr(importlib.import_module(module), other or name)


def _find(module: str, name: str) -> Any:
    """An attribute of a view.

    Raises:
        MissingAttributeError: there is none.
    """
    row = MODULES.get(module, {}).get(name)
    if row is not None and _is_object(row):
        return resolve(row, name)
    if row is None:
        if f"{module}.{name}" in MODULES:
            return importlib.import_module(f"{module}.{name}")
        counterpart = _counterpart(module)
        if hasattr(counterpart, name):
            return getattr(counterpart, name)
        if counterpart is not None and _counterpart(f"{module}.{name}") is not None:
            return importlib.import_module(f"{module}.{name}")
    raise MissingAttributeError(sentence(module, name, row, _known(module)))


def _counterpart(fullname: str) -> Optional[ModuleType]:
    """slimkit's module of the same path, if it has one."""
    own = "slimkit" + fullname[len(ALIAS) :]
    if own in sys.modules:
        return sys.modules[own]
    parent, _, name = own.rpartition(".")
    if parent and _counterpart(fullname.rpartition(".")[0]) is None:
        return None
    try:
        found = importlib.util.find_spec(own) if name.isidentifier() else None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "slimkit":
            return None
        raise  # Paddle is not installed, say
    return importlib.import_module(own) if found is not None else None


def _of_all(rows: Mapping[str, str]) -> Optional[str]:
    """What is said about every name of a module, so about its submodules too; None if they differ."""
    said = set(rows.values())
    return said.pop() if len(said) == 1 and not _is_object(next(iter(said))) else None


def _is_object(row: Optional[str]) -> bool:
    return row is not None and not row.startswith((LATER, NONE))


def _known(module: str) -> List[str]:
    """The names a view has by the table: objects and submodules."""
    rows: Mapping[str, str] = MODULES.get(module, {})
    below = [path[len(module) + 1 :] for path in MODULES if path.startswith(f"{module}.")]
    return sorted({*(name for name in rows if _is_object(rows[name])), *(path for path in below if "." not in path)})
