"""Runs a model over several batches from tensor to tensor, so that what comes later can still be changed in between.

Methods that go from layer to layer (AdaRound, bias correction) need the input of each layer from the model as it is
after the layers before were changed. Running the model from the start for each layer costs the square of its depth;
here the tensors that later ops still need are kept for each batch, and every op runs once.

Memory: these tensors, of as many batches as fit into ``budget`` bytes. The batches that do not are left out, the last
ones first.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Set

import numpy as np

from slimkit.errors import ModelError, TrainingError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.calibrate import NO_BATCH

__all__ = ["BUDGET", "Stepwise", "keep_within", "read_batches"]

#: Bytes of activations kept, of float and quantized model together.
BUDGET = 1 << 28

Values = Dict[str, np.ndarray]


def read_batches(feeds: Iterable[Mapping[str, np.ndarray]], names: List[str], budget: int = BUDGET) -> List[Values]:
    """As many batches as half the budget holds, at least one.

    Args:
        feeds: batches by feed name.
        names: feeds of the model.
        budget: bytes.

    Raises:
        TrainingError: no batch.
    """
    held: List[Values] = []
    used = 0
    for feed in feeds:
        batch = {name: np.ascontiguousarray(feed[name]) for name in names if name in feed}
        used += sum(value.nbytes for value in batch.values())
        if held and used > budget // 2:
            break
        held.append(batch)
    if not held:
        raise TrainingError(NO_BATCH)
    return held


def keep_within(budget: int, *models: Stepwise) -> None:
    """Leaves out last batches, all models' alike, until what they keep fits; the first batch stays."""
    while len(models[0].batches) > 1 and sum(model.bytes() for model in models) > budget:
        for model in models:
            del model.batches[-1]


class Stepwise:
    """A model that is run piece by piece.

    A program with control flow cannot be cut; it runs from its feeds each time.

    Args:
        model: in test mode; parameters may be changed between the pieces.
        batches: feeds of each batch.
        wanted: tensors that :meth:`advance` will be asked for.
        place: device; None: CPU.

    Attributes:
        batches: tensor -> value, of each batch: what later ops or :meth:`advance` still need. Values may be replaced.
    """

    def __init__(self, model: Model, batches: List[Values], wanted: Iterable[str], place: Any = None) -> None:
        import paddle

        self._model = model
        self._place = place or paddle.CPUPlace()
        self._whole = len(model.program.blocks) > 1
        self._wanted = set(wanted)
        self._at = 0
        self._program: Optional[Any] = None
        self._executor: Any = None
        self.batches: List[Values] = [dict(batch) for batch in batches]
        block = model.program.global_block()
        self._vars = block.vars
        self._reads: List[Set[str]] = [set(op.input_arg_names) for op in block.ops]
        self._writes: List[Set[str]] = [set(op.output_arg_names) for op in block.ops]

    def order(self, names: Iterable[str]) -> List[str]:
        """Names by when they are computed, feeds first."""
        return sorted(names, key=self._computed_at)

    def advance(self, name: str) -> None:
        """Runs all batches up to the op that computes a tensor; its values are in ``batches`` then.

        Raises:
            ModelError: there is no such tensor, or the program fails.
        """
        end = self._computed_at(name) + 1
        if end <= self._at or end == 0:
            missing = [i for i, values in enumerate(self.batches) if name not in values]
            if missing:
                raise ModelError(f"The tensor '{name}' was computed earlier and is not kept; ask for it in `wanted`.")
            return
        needed = self._needed(end)
        for values in self.batches:
            made = self._run(values, [n for n in needed if n not in values or self._written(n, end)])
            if not self._whole:
                for old in [n for n in values if n not in needed]:
                    del values[old]
            values.update(made)
        if not self._whole:
            self._at = end
        self._program = None

    def release(self, name: str) -> None:
        """Says that :meth:`advance` will not be asked for a tensor any more."""
        self._wanted.discard(name)

    def bytes(self) -> int:
        """What is kept."""
        return sum(value.nbytes for values in self.batches for value in values.values())

    # ------------------------------------------------------------------------------------------------ pieces

    def _computed_at(self, name: str) -> int:
        """The op that computes a tensor first; -1 for a feed."""
        if name in self._model.feeds:
            return -1
        found = next((i for i, names in enumerate(self._writes) if name in names), None)
        if found is None:
            raise ModelError(f"The program does not compute a tensor '{name}'; it was renamed or removed.")
        return found

    def _written(self, name: str, end: int) -> bool:
        return any(name in names for names in self._writes[self._at : end])

    def _needed(self, end: int) -> List[str]:
        """What is known after the first ``end`` ops and asked for later."""
        if self._whole:
            return [*self._model.feeds, *(n for n in self._wanted if 0 <= self._computed_at(n) < end)]
        known = set(self._model.feeds).union(*self._writes[:end])
        later = set().union(*self._reads[end:]) | self._wanted
        return sorted(n for n in known & later if not self._persistable(n))

    def _persistable(self, name: str) -> bool:
        return name in self._vars and bool(self._vars[name].persistable)

    def _run(self, values: Values, fetches: List[str]) -> Values:
        """The fetches, computed from what is kept."""
        import paddle

        with legacy_ir():
            if self._program is None:
                given = list(self._model.feeds) if self._whole else list(values)
                source = self._model.program
                self._program = source._prune_with_input(given, [source.global_block().vars[n] for n in fetches])
                self._executor = paddle.static.Executor(self._place)
            known = self._program.global_block().vars
            feed = {n: v for n, v in values.items() if n in known and not (self._whole and n not in self._model.feeds)}
            try:
                found = self._executor.run(
                    self._program, feed=feed, fetch_list=fetches, scope=self._model.scope, return_numpy=True
                )
            except Exception as error:
                from slimkit.ir.model import native_summary

                raise ModelError(
                    f"the model failed while it was run in pieces, before '{fetches[0]}': {native_summary(error)}; "
                    "check the shapes and dtypes of the calibration data."
                ) from error
        return dict(zip(fetches, found))
