"""PIR program -> legacy ProgramDesc, by a table with one row an op (``tables/``)."""

from __future__ import annotations

from slimkit.ir.translate.program import Translation, translate

__all__ = ["Translation", "translate"]
