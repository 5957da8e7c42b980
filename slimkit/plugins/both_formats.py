"""Paddle 3 saves inference models as ``.json`` where the projects' next steps look for ``.pdmodel``."""

from __future__ import annotations

import os
import warnings
import zlib  # noqa: F401  (before paddle)

from slimkit.errors import SlimkitError

__all__ = ["beside_json"]


def beside_json(prefix: str) -> None:
    """Writes ``prefix.pdmodel`` where Paddle 3 wrote ``prefix.json``; the parameter file is the same for both.

    A model that cannot be translated is a warning: the ``.json`` is there.
    """
    import paddle

    if os.path.exists(f"{prefix}.json") and paddle.distributed.get_rank() == 0:
        from slimkit.ir import Model

        try:
            Model.load(f"{prefix}.json").save(prefix)
        except SlimkitError as error:
            warnings.warn(f"slimkit: beside {prefix}.json no .pdmodel was written: {error}", stacklevel=3)
