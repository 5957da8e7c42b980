"""What of a model a runtime is to compute in integers: the capability table applied to a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Dict, List, Mapping, Optional, Tuple

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.capabilities import Capability, Refusal
from slimkit.quant.config import QuantConfig
from slimkit.quant.ops import ACTIVATION_OPS, WEIGHT_OPS
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.selection import Selected, nothing_quantized, select

__all__ = ["Plan", "PlannedOp", "make_plan"]

_BIAS = "one of its inputs is a parameter"


@dataclass(frozen=True)
class PlannedOp:
    """An op to quantize, by names.

    Attributes:
        type, output: the op.
        activations: slot -> tensor; further ones of a slot as ``X:1``.
        weight: (slot, parameter, channel axis or None), or None.
        result: the tensor behind the op that lies on a grid too, or None.
    """

    type: str
    output: str
    activations: Mapping[str, str]
    weight: Optional[Tuple[str, str, Optional[int]]]
    result: Optional[str]
    weight_bits: int
    activation_bits: int


@dataclass
class Plan:
    """The ops of a model that a runtime computes in integers, and why the others stay float."""

    capability: Capability
    ops: List[PlannedOp] = field(default_factory=list)
    skipped: List[Dict[str, str]] = field(default_factory=list)
    unused_rules: List[str] = field(default_factory=list)

    def tensors(self) -> List[str]:
        """The activations to calibrate, each once, in order."""
        names: List[str] = []
        for op in self.ops:
            names += [*op.activations.values(), *([op.result] if op.result else [])]
        return list(dict.fromkeys(names))


def make_plan(graph: Graph, capability: Capability, config: PtqConfig, results: Collection[str] = ()) -> Plan:
    """Chooses the ops to quantize for a runtime.

    Args:
        graph: of the prepared float model.
        capability: the runtime's row.
        config: op types, bits and rules.
        results: the model's fetches; they stay float.

    Raises:
        ConfigError: bits, a zero point or op types that the runtime does not execute.
        ModelError: nothing can be quantized.
    """
    _check(capability, config)
    types = config.quantize_op_types
    if types is None:
        types = [*capability.weight_ops, *capability.activation_ops]
    settings = QuantConfig(
        quantize_op_types=list(types),
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        rules=list(config.rules),
    )
    plan = Plan(capability)
    for part in graph.all_graphs():
        selection = select(part, settings)
        plan.unused_rules += selection.unused_rules
        plan.skipped += [row for row in selection.skipped if not row["reason"].startswith(_BIAS)]
        for item in selection.chosen:
            reason = _refused(capability.refusals, item.op)
            stored = _refused(capability.weight_only, item.op) if reason is None and item.weight is not None else None
            if stored is not None:
                item.activations = []
                plan.skipped.append(_skip(item.op, stored))
            if reason is None:
                chosen = capability.slots.get(item.op.type)
                wanted = chosen(item.op) if chosen is not None else None
                item.activations = [a for a in item.activations if wanted is None or a[0] in wanted]
                plan.ops.append(_planned(item, capability, config, results))
            elif item.weight is not None:
                plan.skipped.append(_skip(item.op, reason))
        plan.skipped += _not_listed(part, types, capability)
    if not plan.ops:
        raise ModelError(nothing_quantized(settings, plan.skipped))
    return plan


def _refused(refusals: Collection[Refusal], op: GraphOp) -> Optional[str]:
    """The first reason that any refusal gives."""
    return next((reason for refuse in refusals for reason in [refuse(op)] if reason), None)


def _check(capability: Capability, config: PtqConfig) -> None:
    for kind, bits, allowed in (
        ("activation_bits", config.activation_bits, capability.activation_bits),
        ("weight_bits", config.weight_bits, capability.weight_bits),
    ):
        if bits not in allowed:
            listed = ", ".join(map(str, allowed))
            raise ConfigError(f"{kind} = {bits}: runtime '{capability.runtime}' executes {listed}; choose of these.")
    if config.affine and not capability.affine_activations:
        raise ConfigError(
            f"affine = true: runtime '{capability.runtime}' executes activations without a zero point only; leave "
            "affine out, which uses it where it is executed."
        )
    for name in config.quantize_op_types or ():
        if name not in WEIGHT_OPS and name not in ACTIVATION_OPS:
            raise ConfigError(f"quantize_op_types: '{name}' cannot be quantized; see slimkit/quant/ops.py.")


def _planned(item: Selected, capability: Capability, config: PtqConfig, results: Collection[str]) -> PlannedOp:
    activations: Dict[str, str] = {}
    for slot, var in item.activations:
        number = sum(name.split(":")[0] == slot for name in activations)
        activations[f"{slot}:{number}" if number else slot] = var.name
    weight = None
    if item.weight is not None:
        one = config.weight_quantize_type == "abs_max" or item.op.type in capability.per_tensor_ops
        weight = (item.weight_slot, item.weight.name, None if one else item.weight_axis)
    result = None
    if item.op.type in capability.output_ops and item.activations:
        behind = _result(item.op, capability)
        result = behind.name if behind is not None and behind.name not in results else None
    return PlannedOp(
        item.op.type,
        item.op.outputs[0].name,
        activations,
        weight,
        result,
        item.weight_bits,
        item.activation_bits,
    )


def _result(op: GraphOp, capability: Capability) -> Optional[GraphVar]:
    """The op's result behind the bias and activation that the runtime fuses with it."""
    row = WEIGHT_OPS.get(op.type)
    var = op.output_var(row.output if row is not None else "Out")
    while var is not None and len(var.consumers) == 1:
        following = var.consumers[0]
        if following.type not in capability.fused_behind:
            break
        others = [v for v in following.inputs if v is not var]
        if any(not v.persistable for v in others):
            break  # a residual, not a bias
        after = following.output_var("Out")
        if after is None:
            break
        var = after
    return var


def _skip(op: GraphOp, reason: str) -> Dict[str, str]:
    return {"op": op.outputs[0].name if op.outputs else op.type, "type": op.type, "layer": "", "reason": reason}


def _not_listed(graph: Graph, types: Collection[str], capability: Capability) -> List[Dict[str, str]]:
    """Rows for the ops with a weight that were not asked for."""
    rows = []
    for op in graph.ops():
        if op.type in types or not op.outputs:
            continue
        reason = capability.float_reasons.get(op.type)
        if reason is None and op.type in WEIGHT_OPS:
            weight = op.input_var(WEIGHT_OPS[op.type].weight)
            if weight is not None and weight.persistable:
                reason = f"{op.type} is not among the op types to quantize"
        if reason is not None:
            rows.append(_skip(op, reason))
    return rows
