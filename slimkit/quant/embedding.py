"""``quant_embedding``: embedding tables stored as integers; what is looked up is dequantized, not the table.

``abs_max`` is the symmetric grid; ``log`` has 128 levels at powers of two an eighth apart, for values that spread over
many magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import paddle
from paddle.base import core

from slimkit.errors import ConfigError, ModelError, nearest
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.site import FP32, set_tensor

__all__ = ["quant_embedding"]

OP_TYPES = ("lookup_table", "lookup_table_v2")
_ALSO = ("fused_embedding_seq_pool", "pyramid_hash")  # PaddleSlim's default names them; Paddle 3 has no int8 kernel
_KEYS = ("quantize_type", "quantize_bits", "dtype", "threshold")
_INTEGERS = {8: (np.int8, core.VarDesc.VarType.INT8), 16: (np.int16, core.VarDesc.VarType.INT16)}
_STEP, _LEVELS = 0.125, 128  # of log2|x|, and how many


@dataclass(frozen=True)
class _Settings:
    kind: str = "abs_max"
    bits: int = 8
    threshold: Optional[float] = None


@legacy_ir()
def quant_embedding(
    program: Any, place: Any, config: Optional[Mapping[str, Any]] = None, scope: Optional[Any] = None
) -> Any:
    """Quantizes the embedding tables of an inference program.

    Args:
        program: legacy ``paddle.static.Program``; it is not changed.
        place: device of the stored tables.
        config: ``quantize_op_types`` (lookup_table, lookup_table_v2: one stands for both, unless the other has settings
            of its own), and for each of them a dict of ``quantize_type`` (abs_max or log), ``quantize_bits`` (8 or 16),
            ``dtype`` and ``threshold``: values are clipped there first; without it, tables that reach 1.0 or more are
            clipped at their 99.99th percentile.
        scope: holds the tables and gets the stored ones, ``NAME.int`` beside ``NAME``; None: the global scope.

    Returns:
        The program that looks up integers.

    Raises:
        ConfigError: a setting that is not allowed.
        ModelError: a table has no value.
    """
    settings = _read(config)
    held = paddle.static.global_scope() if scope is None else scope
    graph = Graph(program, for_test=True)
    for part in graph.all_graphs():
        done: Dict[str, Tuple[GraphVar, Any]] = {}
        for op in part.ops(*settings):
            table = op.input_var("W")
            if table is not None and table.persistable and table.dtype == FP32:
                _Lookup(part, held, place, settings[op.type]).rewrite(op, table, done)
    return graph.to_program()


def _read(config: Optional[Mapping[str, Any]]) -> Dict[str, _Settings]:
    values = dict(config or {})
    names = values.pop("quantize_op_types", [*OP_TYPES, *_ALSO])
    names = [names] if isinstance(names, str) else list(names)
    for name in (*names, *values):
        if name not in (*OP_TYPES, *_ALSO):
            raise ConfigError(f"quantize_op_types: '{name}' is not an embedding op; allowed are {', '.join(OP_TYPES)}.")
    found = {name: _settings(name, values.get(name, {})) for name in names if name in OP_TYPES}
    for own, other in (OP_TYPES, OP_TYPES[::-1]):  # documents say lookup_table; Paddle 2.x makes lookup_table_v2
        if own in found and other not in values:
            found.setdefault(other, found[own])
    return found


def _settings(name: str, values: Any) -> _Settings:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: the setting is a {type(values).__name__}; give a dict of {', '.join(_KEYS)}.")
    for key in values:
        if key not in _KEYS:
            close = nearest(key, _KEYS)
            meant = f"; did you mean '{close}'?" if close else f"; allowed are {', '.join(_KEYS)}."
            raise ConfigError(f"{name}.{key} is no setting{meant}")
    kind, bits = values.get("quantize_type", "abs_max"), values.get("quantize_bits", 8)
    dtype, threshold = values.get("dtype", f"int{bits}"), values.get("threshold")
    if kind not in ("abs_max", "log"):
        raise ConfigError(f"{name}.quantize_type = '{kind}': allowed are abs_max, log.")
    if bits not in _INTEGERS or (kind == "log" and bits != 8):
        raise ConfigError(f"{name}.quantize_bits = {bits}: allowed are 8 and 16, with log 8.")
    if dtype != f"int{bits}":
        raise ConfigError(f"{name}.dtype = '{dtype}': {bits} bits are stored as int{bits}.")
    if threshold is not None and not (isinstance(threshold, (int, float)) and threshold > 0):
        raise ConfigError(f"{name}.threshold = {threshold!r}: a number above 0 is needed.")
    return _Settings(kind, bits, threshold)


class _Lookup:
    """Makes one lookup op read integers, and dequantizes behind it."""

    def __init__(self, graph: Graph, scope: Any, place: Any, settings: _Settings) -> None:
        self.graph, self.scope, self.place, self.settings = graph, scope, place, settings

    def rewrite(self, op: GraphOp, table: GraphVar, done: Dict[str, Tuple[GraphVar, Any]]) -> None:
        out = op.output_var("Out")
        if out is None:
            return
        if table.name not in done:
            done[table.name] = self._store(table)
        stored, constant = done[table.name]
        wide = self.settings.bits == 16
        read = self._float_copy(stored) if wide else stored  # there is no int16 kernel
        self.graph.replace_input(op, table, read)
        raw = self.graph.create_var(f"{out.name}.int", out.shape, read.dtype)
        self.graph.replace_output(op, out, raw)
        self._dequantize(raw, out, constant)
        self.graph.drop_unread(table)

    def _store(self, table: GraphVar) -> Tuple[GraphVar, Any]:
        value = self._clipped(table.name)
        dtype, var_type = _INTEGERS[self.settings.bits]
        if self.settings.kind == "log":
            q, levels = _log_integers(value)
            constant = self._parameter(f"{table.name}.dict", levels, FP32)
        else:
            top, scale = 2 ** (self.settings.bits - 1) - 1, np.float32(np.abs(value).max(initial=0))
            q = np.round(value / max(scale, np.float32(1e-30)) * top)
            constant = self._parameter(f"{table.name}.scale", np.full(1, scale, np.float32), FP32)
        return self._parameter(f"{table.name}.int", q.astype(dtype), var_type), constant

    def _clipped(self, name: str) -> np.ndarray:
        value = scope_value(self.scope, name)
        if not np.all(np.isfinite(value)):
            raise ModelError(f"The embedding table '{name}' holds NaN or infinity; check the model.")
        threshold = self.settings.threshold
        if self.settings.kind == "log" or (threshold is None and np.abs(value).max(initial=0) < 1):
            return value
        threshold = np.percentile(np.abs(value), 99.99) if threshold is None else threshold
        return np.clip(value, -threshold, threshold)

    def _parameter(self, name: str, value: np.ndarray, dtype: Any) -> GraphVar:
        set_tensor(self.scope, name, value, self.place)
        return self.graph.create_var(name, value.shape, dtype, persistable=True, stop_gradient=True)

    def _float_copy(self, stored: GraphVar) -> GraphVar:
        name = f"{stored.name}.float"
        if self.graph.has_var(name):
            return self.graph.var(name)
        copy = self.graph.create_var(name, stored.shape, FP32)
        attrs = {"in_dtype": int(stored.dtype), "out_dtype": int(FP32)}
        self.graph.insert_op("cast", {"X": stored}, {"Out": copy}, attrs)
        return copy

    def _dequantize(self, raw: GraphVar, out: GraphVar, constant: GraphVar) -> None:
        if self.settings.kind == "log":
            self.graph.insert_op("dequantize_log", {"X": raw, "Dict": constant}, {"Out": out})
        elif self.settings.bits == 8:
            inputs = {"X": raw, "Scale": constant}
            self.graph.insert_op("dequantize_abs_max", inputs, {"Out": out}, {"max_range": 127.0})
        else:
            step = float(scope_value(self.scope, constant.name)[0]) / 32767
            attrs = {"scale": step, "bias": 0.0, "bias_after_scale": True}
            self.graph.insert_op("scale", {"X": raw}, {"Out": out}, attrs)
            self.graph.drop_unread(constant)


def _log_integers(value: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The index of each value's level, 128 less where it is negative, and the levels.

    The levels are the 128 largest of ``2**(round(8 log2|x|) / 8)`` that occur; smaller values take the smallest one.
    """
    magnitude = np.abs(value).astype(np.float64)
    smallest = magnitude[magnitude > 0].min(initial=1.0)
    exponents = np.round(np.log2(np.maximum(magnitude, smallest)) / _STEP) * _STEP
    levels = np.unique(exponents)[-_LEVELS:]
    index = np.searchsorted(levels, np.maximum(exponents, levels[0]))  # each exponent is one of them
    padded: List[float] = [*np.exp2(levels), *[0.0] * (_LEVELS - len(levels))]
    return np.where(value < 0, index - _LEVELS, index), np.array(padded, np.float32)
