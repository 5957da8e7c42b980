"""Float ``Model`` + ``QuantTable`` -> an ONNX file, float or with Q/DQ pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

from slimkit.deploy.onnx_convert import OPSET, converted
from slimkit.deploy.onnx_graph import OnnxGraph
from slimkit.deploy.onnx_program import prepared
from slimkit.deploy.onnx_simplify import rename_ends, simplify
from slimkit.errors import ModelError
from slimkit.files import atomic_write
from slimkit.ir.model import Model
from slimkit.quant.table import QuantTable

__all__ = ["export_onnx", "onnx_model"]


def export_onnx(model: Model, table: Optional[QuantTable], out: Union[str, Path], *, opset: int = OPSET) -> Path:
    """Writes a model as ONNX.

    Args:
        model: float inference model.
        table: its grids; None writes the float model.
        out: the file; ``.onnx`` is added where it is missing.
        opset: the ONNX opset, 13 or later.

    Returns:
        The file written.

    Raises:
        RuntimeUnavailableError: paddle2onnx or onnx is not installed.
        ModelError: an op cannot be converted, or the table does not fit the model or ONNX.
        SlimkitError: the file cannot be written.
    """
    path = Path(out) if str(out).endswith(".onnx") else Path(f"{out}.onnx")
    return atomic_write(path, onnx_model(model, table, opset=opset).SerializeToString())


def onnx_model(model: Model, table: Optional[QuantTable] = None, *, opset: int = OPSET) -> Any:
    """Like :func:`export_onnx`, but returns the checked ``onnx.ModelProto``."""
    copy, marks = prepared(model, table)
    graph = OnnxGraph(converted(copy, opset))
    simplify(graph)
    if table is not None:
        from slimkit.deploy.onnx_qdq import write_grids

        write_grids(graph, table, marks)
    rename_ends(graph, model.feeds, model.fetches)
    return _checked(graph.to_model())


def _checked(proto: Any) -> Any:
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The ONNX model that paddle2onnx made is not valid: {lines[0].rstrip('.')}; leave it in Paddle's format."
        ) from None
    return proto
