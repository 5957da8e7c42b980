"""A float program as an ONNX model, by paddle2onnx in a process of its own: it aborts natively on what it cannot do."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

from slimkit.deploy.explicit_attributes import explicit_attributes
from slimkit.deploy.native_messages import essence
from slimkit.deploy.onnx_doubles import with_slopes
from slimkit.deploy.session import WorkerSession
from slimkit.errors import ModelError, RuntimeFailedError, RuntimeUnavailableError
from slimkit.ir.model import Model

__all__ = ["OPSET", "can_convert", "converted"]

#: Since 13 DequantizeLinear takes one scale a channel; since 14 there is HardSwish, one op that reads its input once.
OPSET = 14
REMEDY = "pip install 'slimkit[onnx]'"


def can_convert() -> Optional[str]:
    """Returns None when paddle2onnx and onnx are installed, else what is missing and how to get it."""
    for package in ("onnx", "paddle2onnx"):
        if importlib.util.find_spec(package) is None:
            if package == "paddle2onnx" and sys.version_info >= (3, 13):
                return "Exporting to ONNX needs paddle2onnx, which has no build for CPython 3.13; use 3.9 to 3.12."
            return f"Exporting to ONNX needs {package}, which is not installed: {REMEDY}."
    return None


def converted(model: Model, opset: int = OPSET) -> Any:
    """Converts a prepared program.

    Args:
        model: float; see ``onnx_program.prepared``.
        opset: the ONNX opset wanted.

    Returns:
        The ``onnx.ModelProto`` as paddle2onnx wrote it.

    Raises:
        RuntimeUnavailableError: a package is missing.
        ModelError: paddle2onnx cannot convert it.
    """
    missing = can_convert()
    if missing:
        raise RuntimeUnavailableError(missing)
    import onnx

    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        program = model.save(f"{folder}/model")
        explicit_attributes(program)
        out = Path(folder) / "model.onnx"
        with WorkerSession("onnx_worker.py", "paddle2onnx", pin=False) as session:
            files = {"model": str(program), "params": f"{folder}/model.pdiparams"}
            try:
                reply = session.call("convert", out=str(out), opset=opset, **files)
            except RuntimeFailedError as error:
                raise ModelError(_why(session.log, str(error))) from None
            if not reply["written"]:
                raise ModelError(_why(session.log, ""))
        return with_slopes(onnx.load(str(out)), model)


def _why(log: str, error: str) -> str:
    """One sentence: the ops that cannot be converted, or paddle2onnx's own words."""
    ops = re.findall(r"\[Paddle2ONNX\] (\w+) is not registered in", log)
    refused = re.findall(r"\[ERROR\]\[Paddle2ONNX\] \[OP: (?:pd_op\.)?(\w+)\] *(.+)", log)
    found = re.search(r"Failed to convert PaddlePaddle model: (.*?)(?:\n\S*\[|\Z)", log, re.S)
    if ops:
        told = f"it has no ONNX form of the op{'s' if len(set(ops)) > 1 else ''} {', '.join(dict.fromkeys(ops))}"
    elif refused:
        told = f"{refused[0][0]}: {refused[0][1].strip()}"
    elif found and "params file" in found.group(1):
        told = "it takes models with parameters only, and this one has none"
    else:
        told = essence(found.group(1)) if found else error or essence(log[-4000:])
    return f"paddle2onnx cannot convert this model: {told.rstrip('.')}; leave it in Paddle's format."
