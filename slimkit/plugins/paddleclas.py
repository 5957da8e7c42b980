"""Repairs of PaddleClas on Paddle 3; docs/paddleclas.md."""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Any, Optional, Tuple

from slimkit.plugins.both_formats import beside_json
from slimkit.plugins.hooks import Undo
from slimkit.plugins.repairs import Repair, together, with_attribute

__all__ = ["REPAIRS"]


def _logger(logger: ModuleType) -> Optional[Undo]:
    """A logger that nobody has initialized initializes itself at its first message."""
    hook = getattr(logger, "LoggerHook", None)
    if hook is None or not hasattr(logger, "_logger"):
        return None
    call = hook.__call__

    @functools.wraps(call)
    def initialized(self: Any, *args: Any, **kwargs: Any) -> Any:
        if logger._logger is None:
            logger.init_logger()
        return call(self, *args, **kwargs)

    return with_attribute(hook, "__call__", initialized)


def _engine(engine: ModuleType) -> Optional[Undo]:
    """``Engine`` takes a config that tools/train.py has not touched, and exports both of Paddle 3's formats."""
    kind = engine.Engine
    make, export = kind.__init__, kind.export

    @functools.wraps(make)
    def made(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        config.setdefault("profiler_options", None)
        make(self, config, *args, **kwargs)

    @functools.wraps(export)
    def exported(self: Any, save_path: Optional[str] = None, *args: Any, **kwargs: Any) -> Any:
        result = export(self, save_path, *args, **kwargs)
        beside_json(os.path.join(save_path or self.config["Global"]["save_inference_dir"], "inference"))
        return result

    return together(with_attribute(kind, "__init__", made), with_attribute(kind, "export", exported))


REPAIRS: Tuple[Repair, ...] = (
    Repair(
        "ppcls.utils.logger",
        _logger,
        "AttributeError: 'NoneType' object has no attribute 'warning', from building a network of ppcls.arch without "
        "PaddleClas's tools",
        "none found; its tools call init_logger() first",
    ),
    Repair(
        "ppcls.engine.engine",
        _engine,
        "deploy/slim/quant_post_static.py asserts that there is an inference.pdmodel, but on Paddle 3 "
        "tools/export_model.py writes inference.json; KeyError: 'profiler_options', from an Engine of one's own",
        "PaddlePaddle/PaddleClas#3373",
    ),
)
