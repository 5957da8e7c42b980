"""``Piece``: some ops of a program as a program of their own, from tensors in memory to tensors in memory."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, List, Mapping

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import native_summary

__all__ = ["Piece", "tensor_bytes", "to_tensor"]


def to_tensor(array: np.ndarray, place: Any) -> Any:
    """A dense tensor of its own with these values."""
    from paddle.base import core

    tensor = core.DenseTensor()
    tensor.set(np.ascontiguousarray(array), place)
    return tensor


def tensor_bytes(tensors: Iterable[Any]) -> int:
    """Memory of dense tensors."""
    sizes = {"float64": 8, "int64": 8, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "bool": 1}
    return sum(tensor._numel() * sizes.get(str(tensor._dtype()).rsplit(".", 1)[-1], 4) for tensor in tensors)


class Piece:
    """Some ops of a program.

    Args:
        program: legacy, without control flow unless ``ops`` is None.
        ops: numbers of the ops, in program order; None: all of them.
        inputs: names of the tensors that they read and do not compute.
        outputs: names of those to return.
        scope: where parameters are, and inputs are put.
        place: device.

    Attributes:
        seconds: what making it and its first run cost, more than a later run.
    """

    def __init__(
        self, program: Any, ops: Any, inputs: Iterable[str], outputs: Iterable[str], scope: Any, place: Any
    ) -> None:
        import paddle

        started = time.perf_counter()
        self.inputs, self.outputs = sorted(inputs), list(outputs)
        self._scope = scope
        with legacy_ir():
            self._program = program.clone() if ops is None else _extract(program, ops, self.inputs, self.outputs)
            if ops is None:
                for name in self.inputs:
                    self._program.global_block().var(name).persistable = True
            self._executor = paddle.static.Executor(place)
        self._empty = ops is not None and not len(ops)
        self.seconds = time.perf_counter() - started

    def run(self, tensors: Mapping[str, Any]) -> Dict[str, Any]:
        """Runs it.

        Args:
            tensors: the inputs, dense tensors; others are ignored.

        Returns:
            The outputs, dense tensors of their own.

        Raises:
            ModelError: an op refuses its inputs.
        """
        computed = [name for name in self.outputs if name not in tensors]
        found: List[Any] = []
        if computed and not self._empty:
            for name in self.inputs:
                tensor = self._scope.var(name).get_tensor()
                tensor._share_data_with(tensors[name])
                tensor.set_lod(tensors[name].lod())  # how many boxes are of which image
            with legacy_ir():
                found = self._execute(computed)
        made = dict(zip(computed, found))
        return {name: made[name] if name in made else tensors[name] for name in self.outputs}

    def _execute(self, names: List[str]) -> List[Any]:
        try:
            return self._executor.run(self._program, fetch_list=names, scope=self._scope, return_numpy=False)
        except Exception as error:
            shapes = {name: list(self._scope.find_var(name).get_tensor().shape()) for name in self.inputs}
            raise ModelError(
                f"the model failed on tensors of shape {shapes}: {native_summary(error)}; give batches of the shape "
                "and dtype the program declares."
            ) from error


def _extract(program: Any, ops: Iterable[int], inputs: List[str], outputs: List[str]) -> Any:
    """A program of these ops, its inputs persistable; not a copy made smaller, which would keep all ops' memory."""
    import paddle
    from paddle.base import core

    source = program.desc.block(0)
    used = [source.op(index) for index in ops]
    names = {name for op in used for name in (*op.input_arg_names(), *op.output_arg_names())}
    desc = core.ProgramDesc()
    block = desc.block(0)
    for name in sorted(names.union(inputs, outputs)):
        var = source.find_var(name.encode())
        if var is None:
            continue
        declared = block.var(name.encode())
        declared.set_type(var.type())
        if var.type() == core.VarDesc.VarType.DENSE_TENSOR:
            declared.set_shape(var.shape())
            declared.set_dtype(var.dtype())
        declared.set_persistable(name in inputs or var.persistable())
    for op in used:
        block.append_op().copy_from(op)
    return paddle.static.Program._construct_from_desc(desc)
