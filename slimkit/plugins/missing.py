"""Errors about PaddleSlim names that slimkit does not have, as ``import`` and ``hasattr`` expect them."""

from __future__ import annotations

from typing import Iterable, Optional

from slimkit.errors import SlimkitError, suggestion

__all__ = ["LATER", "NONE", "MissingAttributeError", "MissingModuleError", "sentence"]

#: How a row of the table of names begins that has no object: a capability to come, or advice.
LATER, NONE = "later: ", "none: "


class MissingAttributeError(SlimkitError, AttributeError):
    """An attribute of ``paddleslim`` that slimkit does not have (yet)."""


class MissingModuleError(SlimkitError, ImportError):
    """A module of ``paddleslim``, or a name imported from one, that slimkit does not have (yet)."""

    # Not ModuleNotFoundError: in `from package import name` the import system swallows that one.


def sentence(module: str, name: str, row: Optional[str], known: Iterable[str]) -> str:
    """What is to be said about a name that is not there.

    Args:
        module: such as ``"paddleslim.quant"``.
        name: the name in it.
        row: its row in the table of names, if it has one.
        known: the names the module has, for a suggestion.
    """
    if row is not None and row.startswith(LATER):
        return f"{module}.{name} is not in slimkit yet: it comes with {row[len(LATER) :]}."
    if row is not None and row.startswith(NONE):
        return f"slimkit has no {module}.{name}: {row[len(NONE) :]}."
    return f"{module} has no name '{name}' in slimkit{suggestion(name, known)}"
