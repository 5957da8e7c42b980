"""Which ops of a graph are quantized, at how many bits, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Tuple

from paddle.base import core

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.config import QuantConfig
from slimkit.quant.ops import ACTIVATION_OPS, FLOAT_ONLY, WEIGHT_OPS, weight_axis

__all__ = ["Selected", "Selection", "nothing_quantized", "select"]

_FLOATS = (core.VarDesc.VarType.FP32, core.VarDesc.VarType.FP16, core.VarDesc.VarType.BF16)


@dataclass
class Selected:
    """An op to quantize: its tensors by slot, and the bits of each kind."""

    op: GraphOp
    weight: Optional[GraphVar]
    weight_slot: str
    weight_axis: int
    activations: List[Tuple[str, GraphVar]]
    weight_bits: int
    activation_bits: int


@dataclass
class Selection:
    """``chosen`` in topological order; ``skipped`` rows of op, type, reason; rules that matched nothing."""

    chosen: List[Selected] = field(default_factory=list)
    skipped: List[Dict[str, str]] = field(default_factory=list)
    unused_rules: List[str] = field(default_factory=list)


def _op_name(op: GraphOp) -> str:
    return op.outputs[0].name if op.outputs else op.type


def _transposed(op: GraphOp) -> bool:
    return bool(op.attr("trans_y", False) or op.attr("transpose_Y", False))


def _layer_of(op: GraphOp, layers: Mapping[str, str]) -> str:
    """The path of the layer an op belongs to, told by its parameters or its ``struct_name``."""
    for var in op.inputs:
        if var.name in layers:
            return layers[var.name].rsplit(".", 1)[0]
    return str(op.attr("struct_name", "") or "").strip("/").replace("/", ".")


def _take(op: GraphOp, weight_types: List[str], activation_types: List[str]) -> Tuple[Optional[Selected], str]:
    """The op's quantizable tensors, or the reason why there are none."""
    weight: Optional[GraphVar] = None
    slot, axis = "", 0
    slots: Tuple[str, ...]
    if op.type in weight_types:
        row = WEIGHT_OPS[op.type]
        candidate = op.input_var(row.weight)
        if candidate is not None and candidate.persistable:
            if op.type in ("mul", "matmul", "matmul_v2") and len(candidate.shape) != 2:
                return None, FLOAT_ONLY["no_matrix"]
            weight, slot, axis = candidate, row.weight, weight_axis(op.type, _transposed(op))
            slots = (row.activation,)
        elif op.type in ACTIVATION_OPS:
            slots = ACTIVATION_OPS[op.type].inputs
        else:
            return None, FLOAT_ONLY["no_weight"]
    elif op.type in activation_types:
        slots = ACTIVATION_OPS[op.type].inputs
    else:
        return None, ""
    found = [(s, v) for s in slots for v in _slot_vars(op, s)]
    activations = [(s, v) for s, v in found if not v.persistable]
    if weight is None and len(activations) < len(found):
        return None, "one of its inputs is a parameter, such as a bias, and stays float"
    tensors = [v for _, v in activations] + ([weight] if weight is not None else [])
    if not activations or any(v.dtype not in _FLOATS for v in tensors):
        return None, FLOAT_ONLY["not_float"]
    return Selected(op, weight, slot, axis, activations, 0, 0), ""


def _slot_vars(op: GraphOp, slot: str) -> List[GraphVar]:
    names = op.input_names(slot)
    return [v for i in range(len(names)) for v in [op.input_var(slot, i)] if v is not None]


def select(graph: Graph, config: QuantConfig, layers: Optional[Mapping[str, str]] = None) -> Selection:
    """Chooses the ops to quantize.

    Args:
        graph: the program's graph, with or without backward ops.
        config: op types, name scopes and ordered rules.
        layers: parameter name -> path in the network, for rules on layers.
    """
    weight_types, activation_types = config.op_types()
    result = Selection()
    used = [False] * len(config.rules)
    for op in graph.ops():
        if not op.is_forward or (op.type not in weight_types and op.type not in activation_types):
            continue
        scope = str(op.attr("op_namescope", "") or "")
        names = [v.name for v in (*op.inputs, *op.outputs)]
        layer = _layer_of(op, layers or {})
        number = next((i for i, r in enumerate(config.rules) if r.matches(op.type, names, layer, scope)), None)
        rule = config.rules[number] if number is not None else None
        if number is not None:
            used[number] = True
        item, reason = _take(op, weight_types, activation_types)
        pattern = next((p for p in config.scope_patterns() if p and p in scope), None)
        if pattern is not None:
            item, reason = None, f"{FLOAT_ONLY['scope']} '{pattern}'"
        elif rule is not None and rule.skip:
            item, reason = None, f"{FLOAT_ONLY['rule']} (rules[{number}])"
        elif op.attr("skip_quant", False):
            item, reason = None, "its attribute skip_quant is set"
        if item is None:
            result.skipped.append({"op": _op_name(op), "type": op.type, "layer": layer, "reason": reason})
            continue
        item.weight_bits = (rule and rule.weight_bits) or config.weight_bits
        item.activation_bits = (rule and rule.activation_bits) or config.activation_bits
        result.chosen.append(item)
    result.unused_rules = [
        f"rules[{i}] {config.rules[i].model_dump(exclude_defaults=True)}" for i, u in enumerate(used) if not u
    ]
    return result


def nothing_quantized(config: QuantConfig, skipped: List[Dict[str, str]]) -> str:
    """The sentence for a model of which no op is quantized: why."""
    text = "Nothing in the model can be quantized: "
    if not skipped:
        types = [*config.op_types()[0], *config.op_types()[1]]
        return f"{text}it has no {' or '.join(types)}; name the op types it has in quantize_op_types."
    first = skipped[0]
    return f"{text}{len(skipped)} ops stay float, the first, {first['type']} '{first['op']}': {first['reason']}."
