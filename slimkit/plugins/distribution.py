"""What programs that ask for the installed version of paddleslim are told."""

from __future__ import annotations

from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Optional

__all__ = ["AliasDistribution"]


class AliasDistribution(Distribution):
    """A distribution without files.

    Args:
        name, version: of it.
    """

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> Optional[str]:
        """The text of a metadata file, if there is one."""
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        """Where a file of it would be: beside slimkit."""
        import slimkit

        return Path(slimkit.__file__).parents[1] / path
