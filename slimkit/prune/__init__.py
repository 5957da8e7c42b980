"""Filter pruning: groups of channels that go together, criteria, sensitivity, targets; and PaddleSlim's static API.

``slimkit.prune.sensitivity`` is PaddleSlim's function; the package of the same name, which it stands on, is imported
from: ``from slimkit.prune.sensitivity import ...``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Dict, List

from slimkit.prune.apply import find_groups, mask_arrays, masked_model, prune_model
from slimkit.prune.criteria import CRITERIA, Scorer, scores
from slimkit.prune.groups import Group, Groups, Member
from slimkit.prune.legal import legal_ratios
from slimkit.prune.plan import Plan, make_plan
from slimkit.prune.sensitivity import Sensitivities, StreamingEvaluation, measure_sensitivity

# After what is above: importing the package of this name would put it in the function's place.
from slimkit.prune.static import (
    Pruner,
    get_ratios_by_loss,
    load_model,
    load_sensitivities,
    merge_sensitive,
    save_model,
    sensitivity,
)

if TYPE_CHECKING:
    from slimkit.prune.cost import CostModel
    from slimkit.prune.gradients import taylor_gradients
    from slimkit.prune.iterative import prune_iteratively
    from slimkit.prune.line import Target
    from slimkit.prune.sensitivity import plot_sensitivities
    from slimkit.prune.targets import Limits, ratios_by_sensitivity, uniform
    from slimkit.prune.unstructured import make_unstructured_pruner
    from slimkit.prune.unstructured.static import GMPUnstructuredPruner, UnstructuredPruner

#: Name -> module it is imported from when it is first used.
_LAZY: Dict[str, str] = {
    "CostModel": "slimkit.prune.cost",
    "GMPUnstructuredPruner": "slimkit.prune.unstructured.static",
    "Limits": "slimkit.prune.targets",
    "Target": "slimkit.prune.line",
    "UnstructuredPruner": "slimkit.prune.unstructured.static",
    "make_unstructured_pruner": "slimkit.prune.unstructured",
    "plot_sensitivities": "slimkit.prune.sensitivity",
    "prune_iteratively": "slimkit.prune.iterative",
    "ratios_by_sensitivity": "slimkit.prune.targets",
    "taylor_gradients": "slimkit.prune.gradients",
    "uniform": "slimkit.prune.targets",
}

__all__ = [
    "CRITERIA",
    "CostModel",
    "GMPUnstructuredPruner",
    "Group",
    "Groups",
    "Limits",
    "Member",
    "Plan",
    "Pruner",
    "Scorer",
    "Sensitivities",
    "StreamingEvaluation",
    "Target",
    "UnstructuredPruner",
    "find_groups",
    "get_ratios_by_loss",
    "legal_ratios",
    "load_model",
    "load_sensitivities",
    "make_plan",
    "make_unstructured_pruner",
    "mask_arrays",
    "masked_model",
    "measure_sensitivity",
    "merge_sensitive",
    "plot_sensitivities",
    "prune_iteratively",
    "prune_model",
    "ratios_by_sensitivity",
    "save_model",
    "scores",
    "sensitivity",
    "taylor_gradients",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'slimkit.prune' has no attribute {name!r}")
    found = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = found
    return found


def __dir__() -> List[str]:
    return sorted({*globals(), *_LAZY})
