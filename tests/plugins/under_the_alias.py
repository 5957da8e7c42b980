"""A fixture: in a test, ``import paddleslim`` is slimkit, as under ``slimkit run``."""

from __future__ import annotations

from typing import Iterator

import pytest

__all__ = ["under_the_alias"]


@pytest.fixture
def under_the_alias() -> Iterator[None]:
    from slimkit.plugins import alias

    alias.install()
    try:
        yield
    finally:
        alias.uninstall()
