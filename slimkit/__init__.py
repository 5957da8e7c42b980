"""slimkit: compression of PaddlePaddle models.

The names below are the public API, with what ``slimkit.ir``, ``slimkit.quant``, ``slimkit.prune``,
``slimkit.analysis``, ``slimkit.deploy`` and ``slimkit.numerics`` export. Each is imported when it is first used
(PEP 562), so ``import slimkit`` is light and does not import paddle.
"""

from __future__ import annotations

import importlib
import zlib  # noqa: F401  (loaded before paddle, whose bundled copy crashes gzip otherwise)
from typing import TYPE_CHECKING, Any, Dict, List

from slimkit.errors import (
    ConfigError,
    DataError,
    EvaluationError,
    ModelError,
    NumericsError,
    RuntimeFailedError,
    RuntimeUnavailableError,
    SlimkitError,
    TrainingError,
    TranslationError,
)
from slimkit.version import __version__

if TYPE_CHECKING:
    from slimkit import analysis, deploy, dygraph, ir, numerics, prune, quant
    from slimkit.ir import Graph, Model, legacy_ir, to_training
    from slimkit.prune.layers import FilterPruner, FPGMFilterPruner, L1NormFilterPruner, L2NormFilterPruner
    from slimkit.quant import PactConfig, QatTrainer, QuantConfig, QuantTable, load_quantized
    from slimkit.quant.layers import PTQ, QAT

#: Public name -> the module it comes from; a name that is a module of slimkit itself has "".
_LAZY: Dict[str, str] = {
    "analysis": "",
    "deploy": "",
    "dygraph": "",
    "ir": "",
    "numerics": "",
    "prune": "",
    "quant": "",
    "Graph": "slimkit.ir",
    "Model": "slimkit.ir",
    "legacy_ir": "slimkit.ir",
    "to_training": "slimkit.ir",
    "FPGMFilterPruner": "slimkit.prune.layers",
    "FilterPruner": "slimkit.prune.layers",
    "L1NormFilterPruner": "slimkit.prune.layers",
    "L2NormFilterPruner": "slimkit.prune.layers",
    "PactConfig": "slimkit.quant",
    "PTQ": "slimkit.quant.layers",
    "QAT": "slimkit.quant.layers",
    "QatTrainer": "slimkit.quant",
    "QuantConfig": "slimkit.quant",
    "QuantTable": "slimkit.quant",
    "load_quantized": "slimkit.quant",
}

__all__ = [
    "PTQ",
    "QAT",
    "ConfigError",
    "DataError",
    "EvaluationError",
    "FPGMFilterPruner",
    "FilterPruner",
    "Graph",
    "L1NormFilterPruner",
    "L2NormFilterPruner",
    "Model",
    "ModelError",
    "NumericsError",
    "PactConfig",
    "QatTrainer",
    "QuantConfig",
    "QuantTable",
    "RuntimeFailedError",
    "RuntimeUnavailableError",
    "SlimkitError",
    "TrainingError",
    "TranslationError",
    "__version__",
    "analysis",
    "deploy",
    "dygraph",
    "ir",
    "legacy_ir",
    "load_quantized",
    "numerics",
    "prune",
    "quant",
    "to_training",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'slimkit' has no attribute {name!r}")
    module = _LAZY[name]
    found = getattr(importlib.import_module(module), name) if module else importlib.import_module(f"slimkit.{name}")
    globals()[name] = found
    return found


def __dir__() -> List[str]:
    return sorted({*globals(), *_LAZY})
