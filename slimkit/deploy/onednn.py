"""What oneDNN executed: its verbose profile of one inference, and Paddle's program after the int8 passes.

The verbose format is oneDNN's (https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html); the passes are
Paddle's ``cpu_quantize_pass``, ``compute_propagate_scales_onednn_pass`` and their neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from slimkit.deploy.program_desc import OpDesc, ProgramView, read_program
from slimkit.deploy.workers.worker_protocol import MARK

__all__ = ["between_marks", "executed", "fallbacks", "hazards", "parse_verbose"]

# Primitives that hold the multiply-adds; the others move or reduce data.
COMPUTE = ("convolution", "deconvolution", "inner_product", "matmul", "rnn")
# Ops of the optimized program that hold them.
COMPUTE_OPS = (
    *("fused_conv2d", "conv2d", "depthwise_conv2d", "conv2d_transpose", "conv2d_transpose_bias", "fc", "mul"),
    *("matmul", "matmul_v2", "fused_matmul", "fused_conv3d", "fusion_gru", "multi_gru", "fusion_lstm"),
)
WEIGHT_SLOTS = ("Filter", "W", "Y", "WeightX")
_MEMORY = re.compile(r"\b(src|src0|wei|dst)(?:_\d+)?[:_](\w+):")


def executed(log: str, optimized: Optional[Path], label: str = "one") -> Dict[str, Any]:
    """Counts what ran.

    Args:
        log: the worker's log with the marks "start LABEL" and "end LABEL" around one inference.
        optimized: the program after Paddle's passes (``.pdmodel``), when it was saved.
        label: the inference's label in the log.

    Returns:
        ``int8`` and ``float``: compute primitives run in s8/u8 and otherwise; ``primitives``: kind ->
        precision -> count; ``ms``: kind of work -> its share of the profiled time; ``isa``; ``ops``: op type ->
        precision -> count, of the optimized program; ``fallback``: compute ops left float, with the reason;
        ``hazards``: ops that run int8 but that Paddle is known to get wrong; ``summary``: a sentence.
    """
    primitives, milliseconds = parse_verbose(between_marks(log, label))
    result: Dict[str, Any] = {
        "int8": sum(primitives[kind]["int8"] for kind in COMPUTE if kind in primitives),
        "float": sum(sum(primitives[k].values()) - primitives[k]["int8"] for k in COMPUTE if k in primitives),
        "primitives": {kind: dict(counts) for kind, counts in primitives.items()},
        "ms": {kind: round(value, 4) for kind, value in milliseconds.items()},
        "isa": _isa(log),
        "ops": {},
        "fallback": [],
        "hazards": [],
    }
    if optimized is not None:
        program = read_program(optimized)
        for op in program.ops:
            if op.type in COMPUTE_OPS:
                result["ops"].setdefault(op.type, Counter())[_precision(op)] += 1
        result["ops"] = {type_: dict(counts) for type_, counts in result["ops"].items()}
        result["fallback"] = fallbacks(program)
        result["hazards"] = hazards(program)
    result["summary"] = _summary(result)
    return result


def _summary(result: Dict[str, Any]) -> str:
    """One sentence for people."""
    total = result["int8"] + result["float"]
    sentence = f"{result['int8']} of {total} convolutions and matrix products ran in int8"
    if result["fallback"]:
        reasons = Counter(item["reason"] for item in result["fallback"])
        sentence += "; float: " + ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
    if result["hazards"]:
        sentence += f"; {len(result['hazards'])} int8 ops are known to be computed wrongly here (see hazards)"
    return sentence + "."


def parse_verbose(lines: str) -> Tuple[Dict[str, Counter], Dict[str, float]]:
    """Reads oneDNN's verbose lines.

    Returns:
        Primitive kind -> Counter of "int8", "f32", "bf16", ...; and the time in ms per kind of work:
        ``int8 compute``, ``float compute``, ``reorder`` (layout changes, quantize, dequantize), ``other``.
    """
    primitives: Dict[str, Counter] = {}
    spent: Dict[str, float] = {}
    for line in lines.splitlines():
        fields = line.split(",")
        if not line.startswith(("onednn_verbose", "dnnl_verbose")) or "exec" not in fields:
            continue
        fields = fields[fields.index("exec") + 1 :]
        if len(fields) < 6:
            continue
        kind, memory = fields[1], fields[4]
        precision = _primitive_precision(kind, memory)
        primitives.setdefault(kind, Counter())[precision] += 1
        if kind in COMPUTE:
            work = "int8 compute" if precision == "int8" else "float compute"
        else:
            work = "reorder" if kind == "reorder" else "other"
        try:
            spent[work] = spent.get(work, 0.0) + float(fields[-1])
        except ValueError:
            continue
    return primitives, spent


def _primitive_precision(kind: str, memory: str) -> str:
    types = dict(reversed(_MEMORY.findall(memory)))
    if kind == "reorder":
        return f"{types.get('src', '?')}->{types.get('dst', '?')}"
    if kind in COMPUTE and types.get("wei") in ("s8", "u8"):
        return "int8"
    source = types.get("src") or types.get("src0") or types.get("dst") or "?"
    return "int8" if source in ("s8", "u8") and kind not in COMPUTE else source


def between_marks(log: str, label: str) -> str:
    """The part of a log that one marked inference printed; all of it when there is no such mark."""
    start, end = f"{MARK}start {label}\n", f"{MARK}end {label}\n"
    return log.split(start, 1)[1].split(end, 1)[0] if start in log else log


def _isa(log: str) -> str:
    found = re.search(r"verbose,(?:v\d,)?info,cpu,isa:(.*)", log)
    return found.group(1).strip() if found else "unknown"


def _precision(op: OpDesc) -> str:
    return "int8" if op.attrs.get("mkldnn_data_type") == "int8" else "float"


def _weight(op: OpDesc) -> str:
    return next((name for slot in WEIGHT_SLOTS for name in op.inputs.get(slot, [])), "")


def fallbacks(program: ProgramView) -> List[Dict[str, str]]:
    """Lists the compute ops of an optimized program that stayed float, with the pass's reason."""
    found = []
    for op in program.ops:
        if op.type in COMPUTE_OPS and _precision(op) == "float":
            found.append({"op": op.type, "weight": _weight(op), "output": op.output_names[0], "reason": _why(op)})
    return found


def _why(op: OpDesc) -> str:
    if op.type.startswith("conv2d_transpose"):
        return "oneDNN int8 of Paddle has no conv2d_transpose"
    if op.type == "mul":
        return "a mul without a bias add is not an int8 op of Paddle"
    if op.attrs.get("skip_quant") == 1:
        return "an input has no quantize op in front of it"
    if op.inputs.get("ResidualData"):
        return "its residual input or its output has no scale"
    return "its input has no scale" if _weight(op) else "an input has no scale"


def hazards(program: ProgramView) -> List[Dict[str, str]]:
    """Lists int8 ops of an optimized program whose result Paddle 3.3 is known to get wrong."""
    producers = program.producers()
    found = []
    for op in program.ops:
        if _precision(op) != "int8":
            continue
        problem = _hazard(op, producers)
        if problem:
            found.append({"op": op.type, "weight": _weight(op), "output": op.output_names[0], "problem": problem})
    return found


def _hazard(op: OpDesc, producers: Dict[str, OpDesc]) -> Optional[str]:
    if op.type == "fc":
        return (
            "Paddle computes the weight scales of an int8 fc over the wrong elements; "
            "leave the layer float or express it as a 1x1 convolution"
        )
    average = op.type == "pool2d" and op.attrs.get("pooling_type") == "avg"
    if average and (op.attrs.get("global_pooling") or op.attrs.get("adaptive")):
        return (
            "input and output of this average pool share one scale, so the larger of the two is clipped or the "
            "smaller one loses its resolution; an assign op behind the pool keeps them apart"
        )
    residual = op.input("ResidualData")
    if residual and _unsigned(op) and not _unsigned(producers.get(residual)):
        return (
            "a signed residual is added in front of a relu, so the output saturates at half its range; "
            "leave the shortcut's output without a scale, or write the relu as leaky_relu with alpha 0"
        )
    return None


def _unsigned(op: Optional[OpDesc]) -> bool:
    """Whether the op's int8 output is u8: behind a relu or relu6, or a quantize op of such."""
    if op is None:
        return False
    if op.type in ("quantize", "dequantize"):
        return not op.attrs.get("is_negative_input", False)
    if op.type in ("requantize", "pool2d", "transpose2", "reshape2"):
        return True  # not told apart here; say nothing rather than something wrong
    return op.attrs.get("fuse_activation") in ("relu", "relu6") or op.attrs.get("activation_type") == "relu"
