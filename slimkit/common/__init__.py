"""Small things that scripts take from ``paddleslim.common``: loggers, config files, meters, readers of models.

They are slimkit's own, with PaddleSlim's names and arguments. Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from slimkit.common.collector import VarCollector
    from slimkit.common.config_files import load_config, save_config
    from slimkit.common.logs import get_logger
    from slimkit.common.meters import AvgrageMeter
    from slimkit.common.programs import get_feed_vars, get_model_dir, load_inference_model
    from slimkit.common.readers import cached_reader, lock, unlock, wrap_dataloader

_LAZY: Dict[str, str] = {
    "AvgrageMeter": "slimkit.common.meters",
    "VarCollector": "slimkit.common.collector",
    "cached_reader": "slimkit.common.readers",
    "get_feed_vars": "slimkit.common.programs",
    "get_logger": "slimkit.common.logs",
    "get_model_dir": "slimkit.common.programs",
    "load_config": "slimkit.common.config_files",
    "load_inference_model": "slimkit.common.programs",
    "lock": "slimkit.common.readers",
    "save_config": "slimkit.common.config_files",
    "unlock": "slimkit.common.readers",
    "wrap_dataloader": "slimkit.common.readers",
}

__all__ = [
    "AvgrageMeter",
    "VarCollector",
    "cached_reader",
    "get_feed_vars",
    "get_logger",
    "get_model_dir",
    "load_config",
    "load_inference_model",
    "lock",
    "save_config",
    "unlock",
    "wrap_dataloader",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'slimkit.common' has no attribute {name!r}")
    found = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = found
    return found


def __dir__() -> List[str]:
    return sorted({*globals(), *_LAZY})
