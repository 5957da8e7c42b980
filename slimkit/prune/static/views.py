"""What users' criterion and selector functions are called with: PaddleSlim's views of a group and of a program.

``criterion(group, values, graph) -> {parameter: {axis: scores}}`` and
``idx_selector(group, scores, ratios) -> [(parameter, axis, indices, transforms), ...]``, as in PaddleSlim 2.6.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from slimkit.prune.groups import Group, Member

__all__ = ["OpView", "ProgramView", "PruningCollection", "PruningDetails", "VarView"]


class VarView:
    """A variable: its ``name()`` and ``shape()``, the ops that write it (``inputs()``) and read it (``outputs()``)."""

    def __init__(self, program: ProgramView, var: Any) -> None:
        self._program, self._var = program, var

    def name(self) -> str:
        return str(self._var.name)

    def shape(self) -> List[int]:
        return list(self._var.shape)

    def inputs(self) -> List[OpView]:
        return self._program.writers.get(self.name(), [])

    def outputs(self) -> List[OpView]:
        return self._program.readers.get(self.name(), [])


class OpView:
    """An op: its ``type()``, the variables in a slot (``inputs("Filter")``, ``outputs("Y")``), and ``attr(name)``."""

    def __init__(self, program: ProgramView, op: Any, index: int) -> None:
        self._program, self._op, self._index = program, op, index

    def idx(self) -> int:
        return self._index

    def type(self) -> str:
        return str(self._op.type)

    def inputs(self, slot: str) -> List[VarView]:
        return self._vars(self._op.input(slot) if slot in self._op.input_names else [])

    def outputs(self, slot: str) -> List[VarView]:
        return self._vars(self._op.output(slot) if slot in self._op.output_names else [])

    def all_inputs(self) -> List[VarView]:
        return self._vars(self._op.input_arg_names)

    def all_outputs(self) -> List[VarView]:
        return self._vars(self._op.output_arg_names)

    def attr(self, name: str) -> Any:
        return self._op.attr(name) if self._op.has_attr(name) else None

    def _vars(self, names: Iterable[str]) -> List[VarView]:
        return [found for found in map(self._program.var, names) if found is not None]


class ProgramView:
    """A program's first block, without its backward and optimizer ops.

    Args:
        program: a legacy program.
    """

    def __init__(self, program: Any) -> None:
        self.program = program
        self.readers: Dict[str, List[OpView]] = {}
        self.writers: Dict[str, List[OpView]] = {}
        self._ops: List[OpView] = []
        for index, op in enumerate(program.global_block().ops):
            if int(op.attr("op_role") or 0) & 3:
                continue
            view = OpView(self, op, index)
            self._ops.append(view)
            for names, table in ((op.input_arg_names, self.readers), (op.output_arg_names, self.writers)):
                for name in dict.fromkeys(names):
                    table.setdefault(name, []).append(view)

    def ops(self) -> List[OpView]:
        return list(self._ops)

    def vars(self) -> List[VarView]:
        return [VarView(self, var) for var in self.program.global_block().vars.values()]

    def var(self, name: str) -> Optional[VarView]:
        block = self.program.global_block()
        return VarView(self, block.var(name)) if block.has_var(name) else None

    def all_parameters(self) -> List[VarView]:
        return [VarView(self, var) for var in self.program.global_block().all_parameters()]

    def batch_norm_of(self, output: str) -> Optional[str]:
        """The scale of the first batch norm behind a tensor, over additions of biases and activations.

        Args:
            output: the tensor, such as the result of a convolution.
        """
        for _ in range(4):
            ops = self.readers.get(output, [])
            found = next((op for op in ops if op.type() in ("batch_norm", "sync_batch_norm")), None)
            if found is not None:
                return found.inputs("Scale")[0].name()
            if len(ops) != 1 or len(ops[0].all_outputs()) != 1 or ops[0].inputs("Filter"):
                return None
            output = ops[0].all_outputs()[0].name()
        return None


class PruningDetails:
    """One axis of one parameter that shrinks with a group.

    Attributes:
        name, axis: of the parameter.
        var, op: views of it and of the op that uses it.
        transform: always []: which of its indices go with which of the master's is known to the group, and needs no
            arithmetic.
        is_parameter: True.
    """

    def __init__(self, member: Member, program: ProgramView) -> None:
        self.name, self.axis = member.parameter, member.axis
        self.var = program.var(member.parameter)
        writers = program.writers.get(member.op_output, [])
        self.op = next((op for op in writers if op.type() == member.op_type), None)
        self.transform: List[Mapping[str, int]] = []
        self.is_parameter = True


class PruningCollection:
    """A group, seen from the parameter that it is pruned by.

    Args:
        group: with the members of the master first.
        program: view of its program.

    Attributes:
        master: ``{"name": parameter, "axis": axis}``.
    """

    def __init__(self, group: Group, program: ProgramView) -> None:
        first = group.members[0]
        self.master: Dict[str, Any] = {"name": first.parameter, "axis": first.axis}
        self.master_name, self.master_axis = first.parameter, first.axis
        self._details = [PruningDetails(member, program) for member in group.members]

    def variables(self) -> List[str]:
        """Names of the parameters of the group."""
        return list(dict.fromkeys(details.name for details in self._details))

    def all_pruning_details(self) -> List[PruningDetails]:
        return list(self._details)


#: What a selector returns: parameter, axis, indices along the master's axis, transforms (ignored).
Selected = Tuple[str, int, Any, Any]
