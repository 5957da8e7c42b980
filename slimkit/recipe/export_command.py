"""``slimkit export``: a float model or one quantized earlier, as the files of the runtimes asked for."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

if TYPE_CHECKING:
    from slimkit.quant.quantized import Quantized

__all__ = ["add_parser", "left_float", "run"]


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "export",
        help="write a model, float or quantized, for other runtimes: Paddle, ONNX, Paddle-Lite",
        description="Reads a float model, or one that PaddleSlim or slimkit quantized earlier in any of their "
        "formats, and writes it for each runtime into a folder of its own: OUT/paddle, OUT/onnx, OUT/lite-arm, ... "
        "Grids stay as they are, nothing is calibrated anew.",
        epilog="examples:\n  slimkit export PP-OCR_slim_infer/ out --to onnx\n"
        "  slimkit export output/mbv3/int8/model out --to paddle,paddle-old,lite-arm,lite-x86",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help=".pdmodel or .json file, prefix or folder")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--to", required=True, metavar="RUNTIME[,RUNTIME]",
        help="paddle, paddle-old, paddle-onnx, onnx, lite-arm, lite-x86",
    )  # fmt: skip
    parser.add_argument("--name", default="model", help="name of the files, without suffix (default: model)")
    parser.add_argument("--model-filename", metavar="FILE", help="the model file in the folder MODEL")
    parser.add_argument("--params-filename", metavar="FILE", help="the parameter file in the folder MODEL")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand and prints what was written.

    Raises:
        ConfigError: an unknown runtime.
        RuntimeUnavailableError: what a runtime's file needs is not installed; nothing is written then.
        ModelError: the model cannot be read, or not written in a runtime's form.
    """
    from slimkit.errors import ConfigError, RuntimeUnavailableError
    from slimkit.recipe.exporters import EXPORTERS, export_for, exporter

    runtimes = list(dict.fromkeys(name.strip() for name in arguments.to.split(",") if name.strip()))
    if not runtimes:
        raise ConfigError(f"--to names no runtime; allowed are {', '.join(EXPORTERS)}.")
    for name in runtimes:
        missing = exporter(name).missing()
        if missing:
            raise RuntimeUnavailableError(f"{name}: {missing}")
    quantized = _read(arguments.model, arguments.model_filename, arguments.params_filename)
    _show_read(arguments.model, quantized)
    for name in runtimes:
        written = export_for(name, quantized, Path(arguments.out) / name, arguments.name)
        _show_written(name, written)
    return 0


def _read(path: str, model_filename: Any, params_filename: Any) -> Quantized:
    from slimkit.ir.model import Model
    from slimkit.quant.load_quantized import is_quantized, read_quantized
    from slimkit.quant.quantized import Quantized
    from slimkit.quant.table import QuantTable

    model = Model.load(path, model_filename=model_filename, params_filename=params_filename)
    return read_quantized(model, path) if is_quantized(model) else Quantized(model, QuantTable())


def left_float(quantized: Quantized) -> List[Tuple[str, str, int]]:
    """(op type, why, how many) of the ops with a weight that stay float, commonest first."""
    from slimkit.quant.ops import WEIGHT_OPS

    rows = {op.output for op in quantized.table.ops if any(_is_weight(quantized, k) for k in op.inputs.values())}
    reasons = {entry.get("output", entry.get("op", "")): entry.get("reason", "") for entry in quantized.table.skipped}
    counts: Counter = Counter()
    parameters = quantized.model.params
    for block in quantized.model.program.blocks:
        for op in block.ops:
            row = WEIGHT_OPS.get(op.type)
            if row is None or not op.output(row.output) or op.output(row.output)[0] in rows:
                continue
            weights = op.input(row.weight)
            if weights and weights[0] in parameters:
                counts[op.type, reasons.get(op.output(row.output)[0]) or "not quantized in the model read"] += 1
    return [(kind, why, count) for (kind, why), count in counts.most_common()]


def _is_weight(quantized: Quantized, key: str) -> bool:
    return quantized.table.params[key].is_weight


def _show_read(path: str, quantized: Quantized) -> None:
    table = quantized.table
    if not table.ops:
        _say(f"read     {path}: a float model")
        return
    weights, activations = table.weights(), {k for op in table.ops for k in op.inputs.values()} - set(table.weights())
    bits = ", ".join(sorted({f"{p.bits}-bit" for p in weights.values()})) or "no"
    kinds = Counter(op.type for op in table.ops)
    listed = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    _say(f"read     {path}: {len(weights)} {bits} weights, {len(activations)} activation grids; quantized: {listed}")
    for kind, why, count in left_float(quantized):
        _say(f"float    {kind} {count}: {why}")


def _show_written(runtime: str, written: Path) -> None:
    from slimkit.recipe.exporters import files_of

    files: Dict[str, int] = files_of(written)
    sizes = ", ".join(f"{name} {_size(count)}" for name, count in files.items())
    _say(f"written  {runtime}: {written} ({_size(sum(files.values()))}: {sizes})")


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _say(line: str) -> None:
    print(line, flush=True)

