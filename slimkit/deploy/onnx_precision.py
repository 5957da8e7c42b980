"""What ONNX Runtime executed: its profile of single inferences, and why the file left products float.

The profile is the JSON that ``SessionOptions.enable_profiling`` writes (Chrome trace events): a ``model_run`` event an
inference, and within its time one ``*_kernel_time`` event a node.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from slimkit.deploy.onnx_graph import OnnxGraph

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


def executed(run: Run, file: Path) -> Dict[str, Any]:
    """Counts what ran.

    Args:
        run: the profile of one inference.
        file: the ``.onnx`` file that ran.

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
        "fallback": fallbacks(file),
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


def fallbacks(file: Path) -> List[Dict[str, str]]:
    """Lists the products of a file that ONNX Runtime has no integer kernel for, with the reason.

    Args:
        file: the ``.onnx`` file as it was exported.
    """
    import onnx

    graph = OnnxGraph(onnx.load(str(file)))
    found = []
    for node in graph.nodes:
        if node.op_type in FLOAT_OPS:
            weight = _weight(graph, node)
            reason = _why(graph, node, weight)
            if reason is not None:
                found.append({"op": node.op_type, "weight": weight, "output": node.output[0], "reason": reason})
    return found


def _weight(graph: OnnxGraph, node: Any) -> str:
    """The constant that a product reads, "" when it reads two activations."""
    for name in list(node.input)[1::-1]:
        while name in graph.producers and graph.producers[name].op_type in (*MOVING_OPS, "Cast", "Mul", "Sub"):
            name = graph.producers[name].input[0]
        if name in graph.constants:
            return name
    return ""


def _why(graph: OnnxGraph, node: Any, weight: str) -> Optional[str]:
    from slimkit.deploy.onnx_weights import runs_in_integers

    makers = [graph.producers[name].op_type if name in graph.producers else "" for name in list(node.input)[:2]]
    if node.op_type == "ConvTranspose":
        return "ONNX Runtime has no integer kernel for transposed convolutions"
    if node.op_type in ("LSTM", "GRU", "RNN", "Attention"):
        return f"slimkit quantizes no {node.op_type}"
    if not weight:
        return None if makers == ["DequantizeLinear"] * 2 else "it is a product of two activations"
    if makers[1] == "DequantizeLinear" and runs_in_integers(graph, node):
        return None
    if makers[0] == "DequantizeLinear":
        return "its result has no grid" if node.op_type == "Conv" else "its weight has no grid"
    stored = makers[1] == "Mul"
    return "its weight is stored in integers but its input has no grid" if stored else "it was not quantized"
