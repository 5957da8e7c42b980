"""Concrete shapes of every tensor of a program, for given shapes of its feeds.

Most shapes follow from Paddle's own shape inference, op by op on a copy of the description. Behind ops whose result
depends on values (a reshape to a computed shape, a loop) the program is run once, and the shapes are looked at.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Union

import numpy as np
from paddle.base import core

from slimkit.analysis.op_view import LOOPS, NoShapeError, Shape, forward_ops, is_forward, sub_block
from slimkit.analysis.sources import model_of, numpy_type, stripped
from slimkit.errors import ConfigError, ModelError, suggestion
from slimkit.ir import Model, legacy_ir
from slimkit.ir.taps import Taps

__all__ = ["InputShapes", "Shapes", "feed_shapes", "tensor_shapes"]

InputShapes = Optional[Union[Mapping[str, Sequence[int]], Sequence[Any]]]
_DENSE = core.VarDesc.VarType.DENSE_TENSOR
#: Side that the remedy of an error message gives a dynamic dimension.
_EXAMPLE = 320


def tensor_shapes(model: Any, input_shapes: InputShapes = None) -> Dict[str, Shape]:
    """Returns the shape of every tensor the forward pass reads or computes.

    Args:
        model: Model, program of either format, or path of a saved model.
        input_shapes: feed name -> shape; see :func:`slimkit.analysis.complexity`.

    Returns:
        Name -> shape; in a loop that of the last turn; tensors of branches that did not run are left out.

    Raises:
        ModelError: a feed's shape is not known, or the program does not run with it.
    """
    model = model_of(model)
    shapes = Shapes(model, feed_shapes(model, input_shapes))
    ops = [op for _, op in forward_ops(shapes.program) if sub_block(op) < 0]
    names = dict.fromkeys(name for op in ops for name in [*op.input_arg_names(), *op.output_arg_names()])
    shapes.learn(names)
    found = {}
    for name in names:
        try:
            found[name] = shapes.of(name, -1)
        except NoShapeError:
            continue
    return found


def feed_shapes(model: Model, given: InputShapes) -> Dict[str, Shape]:
    """Returns the concrete shape of every feed.

    Args:
        model: it.
        given: feed name -> shape, a list of shapes in the order of the feeds, or one shape.

    Raises:
        ConfigError: the name of no feed, or another number of shapes.
        ModelError: a dimension is neither declared nor given; the first one of a feed, the batch, is then 1.
    """
    named = _by_name(model, given)
    shapes, block = {}, model.program.desc.block(0)
    for name in model.feeds:
        var = block.find_var(name.encode())
        if var is None:  # nothing reads it
            continue
        declared = list(var.shape())
        shape = [int(side) for side in named.get(name, declared)]
        if len(shape) != len(declared):
            raise ModelError(
                f"input_shapes gives the feed '{name}' the shape {shape}, but it has {len(declared)} dimensions, "
                f"{declared}; give {_example(name, declared)}."
            )
        shape = [own if side < 0 else side for side, own in zip(shape, declared)]
        if any(own >= 0 and own != side for side, own in zip(shape, declared)):
            raise ModelError(
                f"input_shapes gives the feed '{name}' the shape {shape}, but the network was made for {declared}, in "
                f"which only -1 can be chosen; give {_example(name, declared)}."
            )
        if shape and shape[0] < 0:
            shape[0] = 1
        if any(side < 0 for side in shape):
            raise ModelError(
                f"The feed '{name}' has the dynamic shape {declared}, and what the network costs depends on it; give "
                f"{_example(name, declared)}."
            )
        shapes[name] = tuple(shape)
    return shapes


def _example(name: str, declared: Sequence[int]) -> str:
    sides = [1 if side < 0 and i == 0 else _EXAMPLE if side < 0 else side for i, side in enumerate(declared)]
    listed = ",".join(map(str, sides))
    return f"input_shapes={{'{name}': {sides}}}, on the command line --input {name}={listed}"


def _by_name(model: Model, given: InputShapes) -> Dict[str, Sequence[int]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        shapes = [given] if all(isinstance(side, (int, np.integer)) for side in given) else list(given)
        if len(shapes) != len(model.feeds):
            raise ConfigError(
                f"{len(shapes)} input shapes were given to a network with the feeds {', '.join(model.feeds)}; give one "
                "each, or a dict of name and shape."
            )
        return dict(zip(model.feeds, shapes))
    for name in given:
        if name not in model.feeds:
            raise ConfigError(
                f"input_shapes names '{name}', which is no feed of the network{suggestion(name, model.feeds)} The "
                f"feeds are {', '.join(model.feeds)}."
            )
    return dict(given)


class Shapes:
    """Shapes of a program's tensors.

    Args:
        model: it; not changed.
        feeds: name -> concrete shape.
        arrays: values of feeds for the run, where it comes to one; others are ones.

    Attributes:
        program: a copy of the description (``core.ProgramDesc``).
        loops: numbers of the blocks that run once a turn.
    """

    def __init__(
        self, model: Model, feeds: Mapping[str, Shape], arrays: Optional[Mapping[str, np.ndarray]] = None
    ) -> None:
        self._model, self._feeds, self._arrays = model, dict(feeds), dict(arrays or {})
        self.program = core.ProgramDesc(model.program.desc)
        self._vars: Dict[str, Any] = {}
        self._unknown: Set[str] = set()
        self._seen: Dict[str, List[Shape]] = {}
        self._turns: Dict[int, int] = {}
        self.loops: Set[int] = set()
        for name, shape in self._feeds.items():
            self._var(0, name).set_shape(list(shape))
        with legacy_ir():
            self._infer(0)

    def of(self, name: str, turn: int = 0) -> Shape:
        """The shape of a tensor, in a loop that of one of its turns.

        Raises:
            NoShapeError: not known; :meth:`learn` may find it.
        """
        if name in self._seen:
            seen = self._seen[name]
            return seen[min(turn, len(seen) - 1)]
        var = self._vars.get(name)
        if name in self._unknown or var is None:
            raise NoShapeError(name)
        return tuple(var.shape())

    def turns(self, block: int) -> int:
        """How often the ops of a block run: a loop's as often as they ran, a branch's as if it were taken."""
        return self._turns.get(block, 1)

    def learn(self, names: Iterable[str]) -> None:
        """Runs the program once for those of some tensors whose shape is not known.

        Raises:
            ModelError: it does not run.
        """
        computed = {name for _, op in forward_ops(self.program) for name in op.output_arg_names()}
        wanted = [name for name in dict.fromkeys(names) if name in self._unknown & computed]
        if not wanted:
            return
        model = stripped(self._model)
        feed = {}
        for name, shape in self._feeds.items():
            var = model.program.global_block().vars.get(name)
            if var is not None:
                var.desc.set_shape(list(shape))
                feed[name] = self._arrays.get(name, np.ones(shape, numpy_type(var.dtype)))
        seen: Dict[str, List[Shape]] = {name: [] for name in wanted}

        def watch(name: str) -> Any:
            return lambda array: seen[name].append(tuple(array.shape))

        with Taps(model, {name: watch(name) for name in wanted}) as taps:
            taps.run(feed)
        self._seen.update({name: shapes for name, shapes in seen.items() if shapes})
        self._count_turns()

    # ---------------------------------------------------------------- inference

    def _var(self, block: int, name: str) -> Any:
        """The description of a dense tensor, None for what is none."""
        var = self.program.block(block).find_var_recursive(name.encode())
        if var is None or var.type() != _DENSE:
            return None
        self._vars[name] = var
        return var

    def _infer(self, number: int, looped: bool = False) -> None:
        block = self.program.block(number)
        if looped:
            self.loops.add(number)
        for index in range(block.op_size()):
            op = block.op(index)
            if not is_forward(op):
                continue
            inner = sub_block(op)
            if inner >= 0:
                self._infer(inner, looped or op.type() in LOOPS)
                self._unknown.update(name for name in op.output_arg_names() if self._computed(number, name))
            else:
                self._infer_op(block, number, op, looped)

    def _computed(self, block: int, name: str) -> bool:
        var = self._var(block, name)
        return var is not None and not var.persistable()

    def _infer_op(self, block: Any, number: int, op: Any, looped: bool) -> None:
        read = [name for name in op.input_arg_names() if self._var(number, name) is not None]
        written = [name for name in op.output_arg_names() if self._computed(number, name)]
        for name in written:
            if name not in read:
                self._vars[name].set_shape([-1] * len(self._vars[name].shape()))
        doubtful = looped or any(name in self._unknown for name in read) or self._broadcast(op)
        try:
            op.infer_shape(block)
        except Exception:  # an op without shape inference, or one that only a run can tell
            doubtful = True
        for name in written:
            if doubtful or any(side < 0 for side in self._vars[name].shape()):
                self._unknown.add(name)
            else:
                self._unknown.discard(name)

    def _broadcast(self, op: Any) -> bool:
        """Whether Paddle's shape inference errs: of batches of different rank it takes the longer one as it is."""
        if op.type() not in ("matmul", "matmul_v2"):
            return False
        batches = [list(self._vars[op.input(slot)[0]].shape())[:-2] for slot in ("X", "Y")]
        short, long = sorted(batches, key=len)
        return 0 < len(short) < len(long) and 1 in long

    def _count_turns(self, number: int = 0, times: int = 1) -> None:
        self._turns[number] = times
        block = self.program.block(number)
        for index in range(block.op_size()):
            op = block.op(index)
            inner = sub_block(op)
            if inner >= 0:
                self._count_turns(inner, self._runs(inner) if op.type() in LOOPS else times)

    def _runs(self, number: int) -> int:
        block = self.program.block(number)
        written = [name for i in range(block.op_size()) for name in block.op(i).output_arg_names()]
        return max((len(self._seen.get(name, ())) for name in written), default=0)

