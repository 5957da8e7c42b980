"""A ``data`` section as the schema gives it, for the tests of the datasets."""

from __future__ import annotations

from typing import Any, Dict

from slimkit.recipe.schema_data import DataSection


def section(**keys: Any) -> Dict[str, Any]:
    """Returns a validated ``data`` section with the given keys, as a dict."""
    return DataSection(**keys).model_dump()
