"""What ONNX Runtime executed: its profile of single inferences, and the graph after its optimizations.

The profile is the JSON that ``SessionOptions.enable_profiling`` writes (Chrome trace events): a ``model_run`` event an
inference, and within its time one ``*_kernel_time`` event a node.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

__all__ = [
    "FLOAT_OPS",
    "INTEGER_OPS",
    "RUNS",
    "by_work",
    "executed",
    "fallbacks",
    "fastest",
    "in_turn",
    "parse_profile",
]

#: Inferences of each batch that are profiled: the first ones allocate.
RUNS = 4
#: Kernels that multiply integers, and those that multiply floats; the other ops move or reduce data.
INTEGER_OPS = (
    *("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm"),
    *("DynamicQuantizeMatMul", "QAttention", "DynamicQuantizeLSTM"),
)
FLOAT_OPS = (
    *("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"),
    *("LSTM", "GRU", "RNN", "Attention"),
)
MOVING_OPS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "Transpose",
    "ReorderInput",
    "ReorderOutput",
    "DynamicQuantizeLinear",
)

#: One inference: (op type, ms) of each node.
Run = List[Tuple[str, float]]


def parse_profile(text: str) -> List[Run]:
    """Reads a profile; returns its inferences in order."""
    events = [event for event in json.loads(text) if isinstance(event, dict) and "ts" in event]
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
    nodes = [e for e in events if e.get("cat") == "Node" and str(e["name"]).endswith("_kernel_time")]
    runs: List[Run] = []
    for start, end in spans:
        inside = [e for e in nodes if start <= e["ts"] <= end]
        runs.append([(e.get("args", {}).get("op_name", "?"), e["dur"] / 1e3) for e in inside])
    return runs


def in_turn(runs: Sequence[Run], parts: int) -> List[Sequence[Run]]:
    """Splits the inferences of several batches, equally many each."""
    each = max(1, len(runs) // max(1, parts))
    return [runs[i * each : (i + 1) * each] for i in range(parts)]


def fastest(runs: Sequence[Run]) -> Run:
    """The inference that was disturbed least."""
    return min(runs, key=lambda run: sum(ms for _, ms in run), default=[])


def by_work(run: Run) -> Dict[str, float]:
    """The time in ms per kind of work: ``int8 compute``, ``float compute``, ``reorder`` (Q, DQ, layout), ``other``."""
    spent: Dict[str, float] = {}
    for op, ms in run:
        if op in INTEGER_OPS or op in FLOAT_OPS:
            work = "int8 compute" if op in INTEGER_OPS else "float compute"
        else:
            work = "reorder" if op in MOVING_OPS else "other"
        spent[work] = spent.get(work, 0.0) + ms
    return {work: round(ms, 4) for work, ms in spent.items()}


def executed(run: Run, optimized: Optional[Path]) -> Dict[str, Any]:
    """Counts what ran.

    Args:
        run: the profile of one inference.
        optimized: the graph after ONNX Runtime's optimizations (``.onnx``), when it was saved.

    Returns:
        ``int8`` and ``float``: products computed on integers and floats; ``primitives``: op type -> precision -> count;
        ``ms``: kind of work -> its share of the profiled time; ``ms_of``: op type -> ms; ``ops``: op type -> count;
        ``fallback``: products left float, with the reason; ``hazards``: none are known; ``summary``: a sentence.
    """
    counts = Counter(op for op, _ in run)
    each: Dict[str, float] = {}
    for op, ms in run:
        each[op] = each.get(op, 0.0) + ms
    products = {op: {"int8" if op in INTEGER_OPS else "float": n} for op, n in counts.items() if _is_product(op)}
    result: Dict[str, Any] = {
        "int8": sum(counts[op] for op in INTEGER_OPS),
        "float": sum(counts[op] for op in FLOAT_OPS),
        "primitives": products,
        "ms": by_work(run),
        "ms_of": {op: round(ms, 4) for op, ms in sorted(each.items(), key=lambda item: -item[1])},
        "ops": dict(counts.most_common()),
        "fallback": fallbacks(optimized) if optimized is not None and optimized.is_file() else [],
        "hazards": [],
    }
    total = result["int8"] + result["float"]
    sentence = f"{result['int8']} of {total} convolutions and matrix products ran in int8"
    if result["fallback"]:
        reasons = Counter(item["reason"] for item in result["fallback"])
        sentence += "; float: " + ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
    result["summary"] = sentence + "."
    return result


def _is_product(op: str) -> bool:
    return op in INTEGER_OPS or op in FLOAT_OPS


def fallbacks(optimized: Path) -> List[Dict[str, str]]:
    """Lists the products of an optimized graph that stayed float, with the reason."""
    import onnx

    graph = onnx.load(str(optimized)).graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: Dict[str, List[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in FLOAT_OPS:
            weight = _weight(node, makers, constants)
            reason = _why(node, weight, makers, readers)
            found.append({"op": node.op_type, "weight": weight or "", "output": node.output[0], "reason": reason})
    return found


def _weight(node: Any, makers: Dict[str, Any], constants: Any) -> Optional[str]:
    """The constant that a product reads, behind its DequantizeLinear."""
    for name in list(node.input)[1::-1]:
        maker = makers.get(name)
        while maker is not None and maker.op_type in (*MOVING_OPS, "Reshape", "Squeeze", "Unsqueeze"):
            name = maker.input[0]
            maker = makers.get(name)
        if name in constants:
            return name
    return None


def _why(node: Any, weight: Optional[str], makers: Dict[str, Any], readers: Dict[str, List[Any]]) -> str:
    def dequantized(name: str) -> bool:
        return makers[name].op_type == "DequantizeLinear" if name in makers else False

    if node.op_type == "ConvTranspose":
        return "ONNX Runtime has no integer kernel for ConvTranspose"
    if node.op_type in ("LSTM", "GRU", "RNN", "Attention"):
        return f"slimkit quantizes no {node.op_type}"
    if weight is None:
        return "a product of two activations"
    if not any(dequantized(name) for name in list(node.input)[:2]):
        return "it was not quantized"
    if not all(dequantized(name) for name in list(node.input)[:2]):
        return "its input has no grid" if not dequantized(node.input[0]) else "its weight has no grid"
    if not all(reader.op_type == "QuantizeLinear" for reader in readers.get(node.output[0], [])):
        return "its result has no grid"
    return "ONNX Runtime did not fuse it with the Q and DQ around it"
