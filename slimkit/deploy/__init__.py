"""Deployment: the runtimes a model is for, run for real, measured and compared.

Each runtime has the members of :class:`slimkit.deploy.runtime.Runtime` and a row in ``RUNTIMES``.
"""

from __future__ import annotations

from slimkit.deploy.compare import Agreement, compare
from slimkit.deploy.inspect import Inspection, inspect
from slimkit.deploy.lite_interpreter import find_interpreter, install_interpreter
from slimkit.deploy.plan_latency import PlanLatency
from slimkit.deploy.runtime import RUNTIMES, Latency, get_runtime
from slimkit.deploy.size import ModelSize, model_size
from slimkit.deploy.verify import verify
from slimkit.deploy.verify_metric import Metric, Top1
from slimkit.deploy.verify_report import VerifyReport, VerifyRow

__all__ = [
    "RUNTIMES",
    "Agreement",
    "Inspection",
    "Latency",
    "Metric",
    "ModelSize",
    "PlanLatency",
    "Top1",
    "VerifyReport",
    "VerifyRow",
    "compare",
    "find_interpreter",
    "get_runtime",
    "inspect",
    "install_interpreter",
    "model_size",
    "verify",
]
