"""The engine: walks a PIR block and emits legacy ops, row by row."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

from paddle.base import core

from slimkit.errors import TranslationError
from slimkit.ir.translate.attributes import Attributes
from slimkit.ir.translate.constants import Constants
from slimkit.ir.translate.operands import fold
from slimkit.ir.translate.records import BlockRecord, OpRecord, ParamRecord, VarRecord
from slimkit.ir.translate.rows import Row
from slimkit.ir.translate.source import PirOp, element_types, has_type, vartype

__all__ = ["Builder"]

Names = Union[str, List[str]]
_Type = core.VarDesc.VarType


class Builder:
    """Translates blocks of one program.

    Names are deterministic: a PIR value that has a name keeps it; any other result is called
    ``<legacy op>_<n>.tmp_<k>``, with n counting ops of that type in this program.
    """

    def __init__(self, rows: Dict[str, Row], table_of: Dict[str, str]) -> None:
        self.rows = rows
        self.table_of = table_of
        self.block = BlockRecord()
        self.params: Dict[str, ParamRecord] = {}
        self.fetches: List[str] = []
        self.feeds: List[str] = []
        self.constants = Constants()
        self.attributes = Attributes()
        self.int32 = _Type.INT32
        #: int64 values that an int32 variable holds too, which shapes are given by.
        self.int32_twins: Dict[str, str] = {}
        #: value -> (what it is a reshape of, to which shape).
        self.reshapes: Dict[str, Tuple[Any, List[int]]] = {}
        #: the variables the sub-block translated last ends in.
        self.yielded: List[str] = []
        #: what results are to be called, by value.
        self.wanted: Dict[str, str] = {}
        #: values fetched by the program, which an in-place op must not forget.
        self.fetched: Set[str] = set()
        self._done: Set[int] = set()
        self._names: Dict[str, Names] = {}
        self._taken: Set[str] = set()
        self._counts: Dict[str, int] = {}

    # -- names -------------------------------------------------------------------------------------------------

    def reserve(self, names: Sequence[str]) -> None:
        """Keeps names that are not this builder's to give."""
        self._taken.update(names)

    def bind(self, value: Any, name: Names) -> None:
        """Says which variable (or list of variables) holds a PIR value."""
        self._names[value.id] = name

    def name_of(self, value: Any) -> str:
        """Returns the variable of a tensor value; a constant is made one when first asked for."""
        found = self._names.get(value.id)
        if isinstance(found, list):
            raise TranslationError(f"a list of {len(found)} tensors stands where one tensor should be.")
        if found is None:
            raise TranslationError(f"a value of {value.get_defining_op().name()} is used before it is made.")
        return found

    def names_of(self, value: Any) -> List[str]:
        """Returns the variables of a tensor or list value."""
        found = self._names.get(value.id)
        if isinstance(found, list):
            return list(found)
        return [self.name_of(value)]

    def begin(self, legacy: str) -> str:
        """Returns the prefix for the results of a new op of type ``legacy``."""
        index = self._counts.get(legacy, 0)
        self._counts[legacy] = index + 1
        return f"{legacy}_{index}"

    def fresh(self, wanted: str) -> str:
        name = wanted
        suffix = 0
        while name in self._taken:
            suffix += 1
            name = f"{wanted}.{suffix}"
        self._taken.add(name)
        return name

    # -- variables and ops -------------------------------------------------------------------------------------

    def variable(self, name: str, dtype: Any, shape: Sequence[int], **more: Any) -> str:
        self.block.variables[name] = VarRecord(name, vartype(dtype), list(shape), **more)
        return name

    def result(self, value: Any, prefix: str, index: int) -> List[str]:
        """Makes the variable(s) of a result and binds them."""
        stop = bool(value.stop_gradient)
        elements = element_types(value)
        if elements is None:
            wanted = value.name if value.has_name else self.wanted.get(value.id) or f"{prefix}.tmp_{index}"
            name = self.variable(self.fresh(wanted), value.dtype, value.shape, stop_gradient=stop)
            self.bind(value, name)
            return [name]
        names = [
            self.variable(self.fresh(f"{prefix}.tmp_{index + k}"), dtype, shape, stop_gradient=stop)
            for k, (dtype, shape) in enumerate(elements)
        ]
        self.bind(value, names)
        return names

    def temporary(self, like: Any, prefix: str, dtype: Any = None, shape: Optional[Sequence[int]] = None) -> str:
        """Makes a variable no PIR value stands for."""
        return self.variable(
            self.fresh(f"{prefix}.aux_0"),
            like.dtype if dtype is None else dtype,
            like.shape if shape is None else shape,
        )

    def emit(self, record: OpRecord) -> OpRecord:
        self.block.ops.append(record)
        return record

    def emit_cast(self, source: str, source_dtype: Any, target: str, dtype: Any, origin: str) -> None:
        """Emits a cast between two variables that exist."""
        attrs = {"in_dtype": vartype(source_dtype), "out_dtype": vartype(dtype)}
        self.emit(OpRecord("cast", {"X": [source]}, {"Out": [target]}, attrs, origin=origin))

    def copy(self, name: str, origin: str, wanted: str = "") -> str:
        """Emits a copy of a variable and returns its name."""
        like = self.find(name)
        target = self.variable(self.fresh(wanted or f"{name}.copy"), like.dtype, like.shape)
        self.emit(OpRecord("assign", {"X": [name]}, {"Out": [target]}, origin=origin))
        return target

    def find(self, name: str) -> Union[VarRecord, ParamRecord]:
        """Returns the record of a variable of this block, a block around it, or a parameter."""
        block: Optional[BlockRecord] = self.block
        while block is not None:
            if name in block.variables:
                return block.variables[name]
            block = block.parent
        return self.params[name]

    @contextmanager
    def inside(self) -> Iterator[BlockRecord]:
        """Emits into a new sub-block of the current block."""
        outer = self.block
        self.block = BlockRecord(parent=outer)
        try:
            yield self.block
        finally:
            self.block = outer

    # -- translation -------------------------------------------------------------------------------------------

    def translate_block(self, block: Any) -> None:
        """Translates every op of a PIR block into the current block record."""
        for raw in block.ops:
            self._done.add(raw.id())
            self.translate_op(PirOp(raw))

    def translate_op(self, op: PirOp) -> None:
        row = self.row_of(op)
        try:
            self.constants.note(op)
            if row.build is not None:
                row.build(op, self)
            else:
                self._by_table(op, row)
        except TranslationError as error:
            if "(op " in str(error):
                raise
            raise TranslationError(
                f"{error} (op {op.full_name}, {op.where()}; its row is in slimkit/ir/translate/"
                f"{self.table_of.get(row.full_name, 'tables/')}.)"
            ) from None

    def row_of(self, op: PirOp) -> Row:
        row = self.rows.get(op.full_name) or self.rows.get(op.full_name.rstrip("_"))
        if row is None:
            raise TranslationError(
                f"{op.full_name} has no legacy form in slimkit's table (op {op.full_name} from {op.where()}): add its "
                "row to the file of its family in slimkit/ir/translate/tables/, or rewrite the layer without it."
            )
        return row

    def _by_table(self, op: PirOp, row: Row) -> None:
        record = OpRecord(row.legacy, origin=f"{op.full_name} from {op.where()}")
        prefix = self.begin(row.legacy)
        folded = set(row.folds)
        for operand, value in op.inputs.items():
            if operand in row.inputs:
                record.inputs[row.inputs[operand]] = self.names_of(value)
            elif operand in folded:
                fold(self, op, record, operand, row.folds[operand])
            elif operand not in row.ignored:
                raise TranslationError(f"operand {operand} of {op.full_name} has no slot.")
        self._attrs(op, row, record)
        self._results(op, row, record, prefix)
        if row.adapt is not None:
            row.adapt(op, record, self)
        self.emit(record)

    def _attrs(self, op: PirOp, row: Row, record: OpRecord) -> None:
        record.attrs.update(row.constants)
        for name, value in op.meaningful_attrs().items():
            legacy = row.attrs.get(name, name)
            if name in row.dropped:
                continue
            if not self.attributes.has(row.legacy, legacy):
                raise TranslationError(f"attribute {name}={value!r} of {op.full_name} is unknown to {row.legacy}.")
            record.attrs[legacy] = value

    def _results(self, op: PirOp, row: Row, record: OpRecord, prefix: str) -> None:
        index = 0
        for result, value in op.outputs.items():
            slot = row.outputs.get(result)
            if slot is None:
                if has_type(value) and not value.use_empty():
                    raise TranslationError(f"result {result} of {op.full_name} has no slot but is used.")
                continue
            if not has_type(value):
                continue
            holder = self.holder(op, row, result)
            if holder is not None:
                self.bind(value, self.name_of(holder))
                record.outputs[slot] = self.names_of(value)
            else:
                record.outputs[slot] = self.result(value, prefix, index)
            index += len(record.outputs[slot])
        if row.xshape is not None:
            source = op.operands[0]
            name = self.fresh(f"{prefix}.xshape")
            self.variable(name, source.dtype, [0, *source.shape], stop_gradient=False)
            record.outputs[row.xshape] = [name]

    def holder(self, op: PirOp, row: Row, result: str) -> Optional[Any]:
        """Returns the operand whose variable a result is to be written into, if any.

        That is state (the row says so), or the operand of an in-place op (``add_``) that something reads later
        or that outlives the run. Otherwise an in-place op writes a variable of its own, which every pass that
        thinks in SSA form is grateful for.
        """
        if result in row.in_place:
            return op.inputs.get(row.in_place[result])
        if not op.name.endswith("_"):
            return None
        written = op.in_place_operand(result)
        if written is None:
            return None
        later = written.id in self.fetched or any(user.id() not in self._done for user in written.all_used_ops())
        if not later and self.name_of(written) not in self.params:
            return None
        self.constants.forget(written)
        return written
