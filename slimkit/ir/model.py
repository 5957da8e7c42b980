"""``Model``: a legacy program, its parameters, its feeds and its fetches."""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import paddle
from paddle import nn
from paddle.base import core

from slimkit.errors import ModelError, nearest
from slimkit.files import atomic_write
from slimkit.ir.guards import legacy_ir
from slimkit.ir.params import Params, new_scope
from slimkit.ir.params_file import pack_tensors
from slimkit.ir.program_file import inference_desc
from slimkit.ir.tracing import trace
from slimkit.ir.translate import translate

__all__ = ["Model", "native_summary"]

Feed = Union[Mapping[str, np.ndarray], Sequence[np.ndarray]]


class Model:
    """A network in the one form slimkit works on: a ProgramDesc and a scope of parameters.

    Attributes:
        program: ``paddle.static.Program`` (legacy), without feed and fetch ops. Edit it under
            :func:`slimkit.ir.legacy_ir`.
        scope: ``paddle.static.Scope`` with the parameters' values.
        feeds: names of the inputs, in order.
        fetches: names of the results, in order.
    """

    def __init__(self, program: Any, scope: Any, feeds: Sequence[str], fetches: Sequence[str]) -> None:
        self.program = program
        self.scope = scope
        self.feeds = list(feeds)
        self.fetches = list(fetches)
        self._executors: Dict[str, Any] = {}

    # -- making one --------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        path: Union[str, Path],
        *,
        model_filename: Optional[str] = None,
        params_filename: Optional[str] = None,
    ) -> Model:
        """Loads a saved inference model: legacy ``.pdmodel`` or PIR ``.json``, with its parameters.

        Args:
            path: a folder, a prefix (``dir/inference``) or the model file itself.
            model_filename: the model file in the folder, when it cannot be told from the names there.
            params_filename: the parameter file in the folder; default: the one beside the model file, or one
                file per parameter.

        Raises:
            ModelError: files missing, damaged, ambiguous or not of one model.
            TranslationError: the PIR program has an op slimkit does not know.
        """
        from slimkit.ir.loading import load

        return load(path, model_filename, params_filename)

    @classmethod
    def from_layer(cls, layer: Union[nn.Layer, Callable], input_spec: Sequence[Any], *, train: bool = False) -> Model:
        """Traces a dygraph layer.

        Args:
            layer: a Layer, or a function of tensors. It is left as it was: mode, forward, parameters.
            input_spec: one ``paddle.static.InputSpec`` per argument of forward.
            train: trace in train mode: batch norm updates its statistics, dropout is live. Then forward may
                take the label too and return the loss, for ``optimizer.minimize`` under ``legacy_ir()``.

        Raises:
            ModelError: the layer cannot be traced.
            TranslationError: an op of it has no row in slimkit's table.
        """
        found = trace(layer, input_spec, train=train)
        translated = translate(found.program, found.outputs, trainable=found.trainable)
        return cls(translated.program, new_scope(found.params), translated.feeds, translated.fetches)

    # -- reading it --------------------------------------------------------------------------------------------

    @property
    def params(self) -> Params:
        """The parameters (and other persistable variables): ``name -> np.ndarray``, get and set."""
        return Params(self.program, self.scope)

    def op_counts(self) -> Dict[str, int]:
        """Returns how many ops of each type all blocks have, commonest first."""
        return dict(Counter(op.type for block in self.program.blocks for op in block.ops).most_common())

    def __repr__(self) -> str:
        counts = self.op_counts()
        top = ", ".join(f"{kind} {count}" for kind, count in list(counts.items())[:5])
        size = sum(array.size for array in self.params.values())
        return (
            f"Model(feeds={self.feeds}, fetches={self.fetches}, {sum(counts.values())} ops ({top}), "
            f"{len(self.params)} parameters of {size:,} numbers)"
        )

    # -- running it --------------------------------------------------------------------------------------------

    def run(self, feed: Feed, fetch: Optional[Sequence[str]] = None, place: Any = None) -> List[np.ndarray]:
        """Runs the program once.

        Args:
            feed: arrays by name, or in the order of :attr:`feeds`.
            fetch: names of any variables; default :attr:`fetches`.
            place: ``paddle.CPUPlace()`` (default) or another.

        Returns:
            One array per fetch.

        Raises:
            ModelError: a feed is missing, unknown or refused, or a fetch is unknown.
        """
        arrays = self._feed(feed)
        names = self._fetch(self.fetches if fetch is None else fetch)
        with legacy_ir():
            place = paddle.CPUPlace() if place is None else place
            executor = self._executors.setdefault(str(place), paddle.static.Executor(place))
            try:
                found = executor.run(self.program, feed=arrays, fetch_list=names, scope=self.scope, return_numpy=False)
                return [np.array(tensor) for tensor in found]
            except Exception as error:
                shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
                raise ModelError(
                    f"the model failed on feeds of shape {shapes}: {native_summary(error)}; give arrays of the shape "
                    "and dtype the program declares."
                ) from error

    def _feed(self, feed: Feed) -> Dict[str, np.ndarray]:
        if not isinstance(feed, Mapping):
            arrays = [feed] if isinstance(feed, np.ndarray) else list(feed)
            if len(arrays) != len(self.feeds):
                raise ModelError(
                    f"{len(arrays)} arrays were fed to a model with the feeds {self.feeds}; give one each."
                )
            feed = dict(zip(self.feeds, arrays))
        missing = [name for name in self.feeds if name not in feed]
        if missing:
            raise ModelError(f"the feed lacks {', '.join(missing)}; the model's feeds are {', '.join(self.feeds)}.")
        block = self.program.global_block()
        unknown = [name for name in feed if not block.has_var(name)]
        if unknown:
            raise ModelError(f"{unknown[0]} is fed but unknown; the model's feeds are {', '.join(self.feeds)}.")
        return {name: np.asarray(array) for name, array in feed.items()}

    def _fetch(self, fetch: Sequence[str]) -> List[str]:
        block = self.program.global_block()
        for name in fetch:
            if not block.has_var(name):
                close = nearest(name, block.vars)
                hint = f"did you mean {close}?" if close else f"the model's results are {', '.join(self.fetches)}."
                raise ModelError(f"{name} cannot be fetched: it is not a variable of the program; {hint}")
        return list(fetch)

    # -- copying and saving it ---------------------------------------------------------------------------------

    def clone(self, for_test: bool = False, *, copy_params: bool = False) -> Model:
        """Returns a model with a copy of the program.

        Args:
            for_test: drop backward and optimizer ops, and put dropout and batch norm in test mode.
            copy_params: give the copy parameters of its own; default: both share one scope, so the copy
                evaluates what the original trains.
        """
        with legacy_ir():
            program = self.program.clone(for_test=for_test)
        scope = self.scope
        if copy_params:
            scope = new_scope(dict(self.params))
        return Model(program, scope, self.feeds, self.fetches)

    def save(self, prefix: Union[str, Path]) -> Path:
        """Writes ``prefix.pdmodel`` and ``prefix.pdiparams``, for Paddle Inference and Paddle-Lite.

        Only what the fetches need is written, in test mode (batch norm, dropout). Each file appears whole or not
        at all.

        Args:
            prefix: path without suffix; missing folders are made.

        Returns:
            The path of the ``.pdmodel``.

        Raises:
            ModelError: a fetch is not computed, or a parameter has no value.
        """
        prefix = Path(str(prefix)[: -len(".pdmodel")] if str(prefix).endswith(".pdmodel") else prefix)
        desc = inference_desc(self.program, self.feeds, self.fetches)
        names, bfloat16 = _saved_names(desc)
        params, arrays = self.params, []
        for name in names:
            if name not in params:
                raise ModelError(f"parameter {name} has no value in the scope, so the model cannot be saved; set it.")
            arrays.append(params[name])
        packed = pack_tensors(arrays, [name in bfloat16 for name in names])
        atomic_write(f"{prefix}.pdiparams", packed)
        return atomic_write(f"{prefix}.pdmodel", desc.SerializeToString())


def _saved_names(desc: Any) -> Any:
    """Returns the sorted names of a program's parameters, and which of them are bfloat16."""
    types = core.VarDesc.VarType
    tensors = [v for v in desc.blocks[0].vars if v.persistable and v.type.type == int(types.DENSE_TENSOR)]
    special = {v.name for v in tensors if v.type.dense_tensor.tensor.data_type == int(types.BF16)}
    return sorted(v.name for v in tensors), special


def native_summary(error: Exception) -> str:
    """Returns Paddle's own sentence out of its error text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if "Error:" in line), lines[0] if lines else type(error).__name__)
    return found.rstrip(".")
