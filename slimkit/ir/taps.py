"""Taps: Python functions that see tensors while a program computes them, so that nothing has to be kept.

Fetching a hundred activations keeps all of them alive until the run ends; a tap (Paddle's ``py_func`` op, put right
behind the op that computes the tensor) sees each once and lets it go. Tensors inside control-flow blocks, which cannot
be fetched at all, are seen in every turn.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Set

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model

__all__ = ["Taps"]

Tap = Callable[[np.ndarray], None]

#: Paddle never gives a registered function back, so numbered slots are registered once and used again.
_SLOTS: List[int] = []
_ACTIVE: Dict[int, Callable[[Any], None]] = {}


def _slot(index: int) -> int:
    """The id, in Paddle's registry, of the function that calls ``_ACTIVE[index]``."""
    from paddle.static.nn.common import PyFuncRegistry

    while len(_SLOTS) <= index:
        _SLOTS.append(PyFuncRegistry(_dispatcher(len(_SLOTS))).id)
    return _SLOTS[index]


def _dispatcher(number: int) -> Callable[[Any], None]:
    return lambda tensor: _ACTIVE[number](tensor)  # one argument: Paddle counts them


class Taps:
    """A model whose tensors are watched; a context manager.

    Args:
        model: in test mode; it is not changed.
        taps: variable name -> function of its value, an array that is valid during the call only.
        place: device; None: CPU.
        fetches: results to return from :meth:`run`; None: nothing but the taps' needs is computed.

    Raises:
        ModelError: a tapped variable is not computed by the program.
    """

    def __init__(
        self, model: Model, taps: Mapping[str, Tap], place: Any = None, fetches: Optional[List[str]] = None
    ) -> None:
        import paddle

        self._model, self._taps = model, dict(taps)
        self._fetches = list(fetches or ())
        self._fed = [name for name in self._taps if name in model.feeds]
        self._error: Optional[BaseException] = None
        self._first = 0
        with legacy_ir():
            self._program = self._pruned()
            self._insert()
            self._executor = paddle.static.Executor(place or paddle.CPUPlace())

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Lets the functions go."""
        for number in range(self._first, self._first + len(self._taps)):
            _ACTIVE.pop(number, None)

    def run(self, feed: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Runs one batch; what a tap raises is raised here, once the batch is through.

        Args:
            feed: arrays by feed name; feeds that nothing tapped depends on may be missing.

        Returns:
            The fetches.

        Raises:
            ModelError: the program fails on this feed.
        """
        known = self._program.global_block().vars
        arrays = {name: np.ascontiguousarray(value) for name, value in feed.items() if name in known}
        missing = [name for name in self._model.feeds if name in known and name not in arrays]
        if missing:
            wanted = ", ".join(self._model.feeds)
            raise ModelError(f"the feed lacks {', '.join(missing)}; the model's feeds are {wanted}.")
        for name in self._fed:
            self._taps[name](np.asarray(feed[name]))
        found: List[np.ndarray] = []
        if self._program.global_block().ops:
            with legacy_ir():
                found = self._execute(arrays)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return found

    def _execute(self, arrays: Dict[str, np.ndarray]) -> List[np.ndarray]:
        from slimkit.ir.model import native_summary

        try:
            return self._executor.run(
                self._program, feed=arrays, fetch_list=self._fetches, scope=self._model.scope, return_numpy=True
            )
        except Exception as error:
            shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
            raise ModelError(
                f"the model failed on feeds of shape {shapes}: {native_summary(error)}; give arrays of the shape and "
                "dtype the program declares."
            ) from error

    # ---------------------------------------------------------------- making it

    def _pruned(self) -> Any:
        """A copy of the program without what neither taps nor fetches need."""
        block = self._model.program.global_block()
        inner = {name for b in self._model.program.blocks[1:] for op in b.ops for name in op.output_arg_names}
        targets = [name for name in [*self._taps, *self._fetches] if name not in self._model.feeds]
        if any(name in inner for name in targets):
            return self._model.program.clone()  # a control-flow op is kept whole
        unknown = [name for name in targets if name not in block.vars]
        if unknown:
            raise ModelError(f"The program has no variable '{unknown[0]}' to be watched; it was renamed or removed.")
        return self._model.program._prune_with_input(list(self._model.feeds), [block.vars[name] for name in targets])

    def _insert(self) -> None:
        self._first = max(_ACTIVE, default=-1) + 1
        numbers = {name: self._first + i for i, name in enumerate(self._taps)}
        for name, number in numbers.items():
            _ACTIVE[number] = self._caller(self._taps[name])
        found = set(self._fed)
        wanted = set(numbers) - found
        inner = self._program.blocks[1:]
        carried = {name for b in inner for op in b.ops for name in op.input_arg_names if name not in b.vars}
        for block in self._program.blocks:
            for index, names in sorted(self._places(block, wanted, carried).items(), reverse=True):
                for name in names:
                    found.add(name)
                    attrs = {
                        "forward_callable_id": _slot(numbers[name]),
                        "backward_callable_id": -1,
                        "backward_skip_vars": [],
                    }
                    block._insert_op(index, type="py_func", inputs={"X": [name]}, outputs={"Out": []}, attrs=attrs)
        lost = [name for name in numbers if name not in found]
        if lost:
            self.close()
            raise ModelError(f"The variable '{lost[0]}' is not computed by the program, so it cannot be watched.")

    @staticmethod
    def _places(block: Any, wanted: Set[str], carried: Set[str]) -> Dict[int, List[str]]:
        """Index of an op -> the tensors to watch before it: behind what computes them; what is carried from turn to
        turn of a loop, which its body computes once more than it reads, before the first op that reads it."""
        places: Dict[int, List[str]] = {}
        read: Set[str] = set()
        for index, op in enumerate(block.ops):
            for name in dict.fromkeys(op.input_arg_names):
                if name in wanted & carried - read and not op.has_attr("sub_block"):
                    places.setdefault(index, []).append(name)
                    read.add(name)
            for name in dict.fromkeys(op.output_arg_names):
                if name in wanted - carried:
                    places.setdefault(index + 1, []).append(name)
        return places

    def _caller(self, tap: Tap) -> Callable[[Any], None]:
        def call(tensor: Any) -> None:
            if self._error is not None:
                return
            try:
                tap(np.asarray(tensor))
            except Exception as error:  # must not travel through native code
                self._error = error

        return call
