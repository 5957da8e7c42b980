"""Runtime -> the function that writes a quantized (or float) model as that runtime's file: one row a runtime."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Optional, Union

from slimkit.errors import ConfigError, RuntimeUnavailableError, suggestion
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantTable

__all__ = ["EXPORTERS", "Exporter", "export_for", "exporter", "files_of"]


@dataclass(frozen=True)
class Exporter:
    """A row of :data:`EXPORTERS`.

    Attributes:
        write: (model and table, path without suffix) -> the main file written.
        title: what is written, for people.
        missing: None when it can be written here, else what is missing and how to get it.
    """

    write: Callable[[Quantized, Path], Path]
    title: str
    missing: Callable[[], Optional[str]] = lambda: None


def _paddle(fmt: str, runtime: Optional[str]) -> Callable[[Quantized, Path], Path]:
    def write(quantized: Quantized, prefix: Path) -> Path:
        from slimkit.quant.export import export_program

        table = _for_onednn(quantized) if runtime == "onednn" else quantized.table
        return export_program(quantized.model, table, fmt, runtime=runtime).save(prefix)

    return write


def _for_onednn(quantized: Quantized) -> QuantTable:
    """Without the activation grids that its int8 computes wrongly, which models quantized for any runtime have: those
    of products over more than rows, whose weights stay stored as integers, and of two activations."""
    from slimkit.ir.graph import Graph
    from slimkit.ir.guards import legacy_ir
    from slimkit.quant.onednn_conditions import both_computed, no_matrix_of_rows

    table = quantized.table
    with legacy_ir():
        graph = Graph(quantized.model.program)
    ops = [op for part in graph.all_graphs() for op in part.ops()]
    wrong = {op.outputs[0].name for op in ops if no_matrix_of_rows(op) or both_computed(op)}
    rows = []
    for row in table.ops:
        weights = {slot: key for slot, key in row.inputs.items() if table.params[key].is_weight}
        kept = replace(row, inputs=weights) if row.output in wrong else row
        rows += [kept] if kept.inputs else []
    return QuantTable(table.params, rows, table.skipped)


def _onnx(quantized: Quantized, prefix: Path) -> Path:
    from slimkit.deploy.onnx_export import export_onnx
    from slimkit.quant.passes.fold_on_grid import fold_on_grid

    if not quantized.table.ops:
        return export_onnx(quantized.model, None, prefix)
    folded = fold_on_grid(quantized)  # ONNX Runtime folds batch norm into float weights only
    return export_onnx(folded.model, folded.table, prefix)


def _onnx_missing() -> Optional[str]:
    from slimkit.deploy.onnx_convert import can_convert

    return can_convert()


def _lite(target: str) -> Callable[[Quantized, Path], Path]:
    def write(quantized: Quantized, prefix: Path) -> Path:
        from slimkit.deploy.lite import convert

        with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
            plain = _paddle("onnx", None)(quantized, Path(folder) / "model")
            return convert(plain, prefix, target).path

    return write


def _lite_missing() -> Optional[str]:
    from slimkit.deploy.lite import ARM

    return ARM.available()


EXPORTERS: Dict[str, Exporter] = {
    "paddle": Exporter(_paddle("onnx", "onednn"), "Paddle Inference, for its int8 on oneDNN"),
    "paddle-old": Exporter(_paddle("old", None), "Paddle's old format, plain"),
    "paddle-onnx": Exporter(_paddle("onnx", None), "Paddle's onnx format, plain"),
    "onnx": Exporter(_onnx, "ONNX", _onnx_missing),
    "lite-arm": Exporter(_lite("arm"), "Paddle-Lite, ARM", _lite_missing),
    "lite-x86": Exporter(_lite("x86"), "Paddle-Lite, x86", _lite_missing),
}


def exporter(runtime: str) -> Exporter:
    """The row of a runtime.

    Raises:
        ConfigError: there is none.
    """
    row = EXPORTERS.get(runtime)
    if row is None:
        meant = suggestion(runtime, EXPORTERS)
        raise ConfigError(f"There is no runtime '{runtime}' to export to; allowed are {', '.join(EXPORTERS)}{meant}")
    return row


def export_for(runtime: str, quantized: Quantized, out_dir: Union[str, Path], name: str = "model") -> Path:
    """Writes a model for a runtime.

    Args:
        runtime: a key of :data:`EXPORTERS`.
        quantized: float model and grids; an empty table writes the float model.
        out_dir: folder, made if it is missing.
        name: of the file, without suffix.

    Returns:
        The main file: ``.pdmodel``, ``.onnx`` or ``.nb``.

    Raises:
        ConfigError: no such runtime.
        RuntimeUnavailableError: a package or the side interpreter is missing.
        ModelError, RuntimeFailedError: the model cannot be written in that form.
    """
    row = exporter(runtime)
    missing = row.missing()
    if missing:
        raise RuntimeUnavailableError(missing)
    return row.write(quantized, Path(out_dir) / name)


def files_of(main: Path) -> Dict[str, int]:
    """The files that belong to a main file, and their bytes."""
    beside = main.with_suffix(".pdiparams")
    files = [main, beside] if main.suffix == ".pdmodel" and beside.is_file() else [main]
    return {file.name: file.stat().st_size for file in files}
