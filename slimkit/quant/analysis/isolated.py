"""The error of each op when nothing else is quantized: of its own output, and of the model's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.ir.model import Model
from slimkit.numerics.error_sums import ErrorSums
from slimkit.quant.analysis.accumulated import output_errors
from slimkit.quant.analysis.errors import ResultErrors, grouped, sizes
from slimkit.quant.analysis.feeds import Feed
from slimkit.quant.analysis.probe import ACTIVATION, BOTH, FLOAT, WEIGHT, Probe, Probes
from slimkit.quant.analysis.subset import only
from slimkit.quant.export import export_program
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantizedOp, QuantTable

__all__ = ["Isolated", "isolated_errors"]

Tick = Callable[[], None]


@dataclass
class Isolated:
    """Errors of one op; ``own`` by what of it lies on its grid: ``BOTH``, ``WEIGHT``, ``ACTIVATION``."""

    own: Dict[str, ErrorSums] = field(default_factory=dict)
    final: ResultErrors = field(default_factory=lambda: ResultErrors(()))


def isolated_errors(
    quantized: Quantized,
    feeds: Sequence[Feed],
    reference: Sequence[Mapping[str, np.ndarray]],
    place: Any = None,
    tick: Optional[Tick] = None,
) -> Dict[str, Isolated]:
    """Measures every op of a table on its own.

    Args:
        quantized: float model and table.
        feeds: small batches.
        reference: the float model's results for each feed.
        place: device.
        tick: called after each op and batch.

    Returns:
        The op's output -> its errors.
    """
    model, tick = quantized.model, tick or (lambda: None)
    found = {op.output: Isolated(final=ResultErrors(model.fetches)) for op in quantized.table.ops}
    probes = Probes(quantized, place)
    needs = {op.output: probes.needs(op.output) for op in quantized.table.ops if op.output in probes.possible}
    once = sizes(model, [name for names in needs.values() for name in names], feeds[0]) if needs else {}
    for group in grouped(needs, {name: size * len(feeds) for name, size in once.items()}):
        names = list(dict.fromkeys(name for item in group for name in needs[item]))
        held = _values(model, feeds, names, place)
        for item in group:
            probe = probes.probe(item)
            for values, exact in zip(held, reference):
                probes.fill({name: values[name] for name in probe.needs})
                _measure(probe, found[item], exact, place)
                tick()
            probes.drop(probe.needs)
    for op in quantized.table.ops:
        if op.output not in probes.possible:
            _measure_whole(quantized, op, found[op.output], feeds, reference, place)
            for _ in feeds:
                tick()
    return found


def _values(model: Model, feeds: Sequence[Feed], names: List[str], place: Any) -> List[Dict[str, np.ndarray]]:
    """Variables of the float model for each feed, by a program of their own: a model keeps those it has run."""
    if not names:
        return [{} for _ in feeds]
    passing = Model(model.program, model.scope, model.feeds, model.fetches)
    return [dict(zip(names, passing.run(feed, names, place))) for feed in feeds]


def _measure(probe: Probe, into: Isolated, exact: Mapping[str, np.ndarray], place: Any) -> None:
    values = probe.run(place)
    for kind in probe.kinds:
        if kind != FLOAT:
            into.own.setdefault(kind, ErrorSums()).add(values[FLOAT], values[kind])
    into.final.add(exact, {name: values[name] for name in probe.results})


def _measure_whole(
    quantized: Quantized,
    op: QuantizedOp,
    into: Isolated,
    feeds: Sequence[Feed],
    reference: Sequence[Mapping[str, np.ndarray]],
    place: Any,
) -> None:
    """The same by programs that are exported whole; for ops inside control flow."""
    table = quantized.table
    weights = {slot: key for slot, key in op.inputs.items() if table.params[key].is_weight}
    others = {slot: key for slot, key in op.inputs.items() if slot not in weights}
    kinds = {BOTH: dict(op.inputs), **({WEIGHT: weights, ACTIVATION: others} if weights and others else {})}
    alone = only(table, [op.output])
    for kind, inputs in kinds.items():
        part = QuantTable(alone.params, [QuantizedOp(op.type, op.output, inputs)])
        exported = export_program(quantized.model, part, place=place)
        into.own[kind] = output_errors(quantized.model, exported, [op.output], feeds, place)[op.output]
        if kind == BOTH:
            for feed, exact in zip(feeds, reference):
                into.final.add(exact, dict(zip(exported.fetches, exported.run(feed, place=place))))
