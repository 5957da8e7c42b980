"""Float ``Model`` + ``QuantTable`` -> a deployable quantized ``Model``."""

from __future__ import annotations

from typing import Any, Optional

from slimkit.errors import ConfigError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.passes.freeze import FORMATS
from slimkit.quant.passes.legalize_onednn import LegalizeOnednn
from slimkit.quant.table import QuantTable

__all__ = ["RUNTIMES", "export_program"]

#: Runtime -> pass that rewrites an exported graph for it, arithmetic unchanged.
RUNTIMES = {"onednn": LegalizeOnednn}


def export_program(
    model: Model, table: QuantTable, fmt: str = "onnx", place: Any = None, runtime: Optional[str] = None
) -> Model:
    """Writes a table into a float model.

    Args:
        model: float inference model; it is not changed.
        table: the grids.
        fmt: ``onnx`` or ``old``.
        place: device of the new constants; None: CPU.
        runtime: None or a key of ``RUNTIMES``.

    Returns:
        A ``Model`` with integer weights and quantize/dequantize ops.

    Raises:
        ConfigError: an unknown format or runtime.
    """
    import paddle

    if fmt not in FORMATS:
        raise ConfigError(f"export format '{fmt}': allowed are {', '.join(FORMATS)}.")
    if runtime is not None and runtime not in RUNTIMES:
        raise ConfigError(f"export runtime '{runtime}': allowed are {', '.join(RUNTIMES)} or none.")
    frozen = model.clone(copy_params=True)
    with legacy_ir():
        graph = Graph(frozen.program, for_test=True)
        FORMATS[fmt](table, frozen.scope, place or paddle.CPUPlace()).apply(graph)
        if runtime is not None:
            names = {*model.params, *model.feeds, *model.fetches}
            RUNTIMES[runtime](frozen.scope, place, known=names).apply(graph)
        frozen.program = graph.to_program()
    return frozen
