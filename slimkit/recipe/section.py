"""The base of every config section: frozen, strict about types, unknown keys refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A section of a config file.

    Types are strict (``"8"`` is no integer, ``true`` is no number; an integer is a float), so that what
    the YAML file says is what runs. Every field carries a ``description``: ``docs/config.md`` is made
    from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)
