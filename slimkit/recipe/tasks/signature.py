"""What a model takes and gives: names, shapes and types of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Tuple

import numpy as np

from slimkit.errors import DataError

__all__ = ["Signature", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, its shape with -1 where a side is open, and its numpy type."""

    name: str
    shape: Tuple[int, ...]
    dtype: np.dtype

    @property
    def text(self) -> str:
        """The shape for people: ``(any, 3, 224, 224)``."""
        return "(" + ", ".join("any" if side < 0 else str(side) for side in self.shape) + ")"

    def takes(self, shape: Tuple[int, ...]) -> bool:
        """Whether an array of this shape fits, whatever its number of samples."""
        return len(shape) == len(self.shape) and all(b < 0 or a == b for a, b in zip(shape[1:], self.shape[1:]))


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs, in order."""

    inputs: List[TensorSpec]
    outputs: List[TensorSpec]

    @classmethod
    def of(cls, model: Any) -> Signature:
        """Reads it from a :class:`slimkit.ir.Model`; a Signature is returned as it is."""
        if isinstance(model, cls):
            return model
        block = model.program.global_block()
        inputs, outputs = ([_spec(block.var(name)) for name in names] for names in (model.feeds, model.fetches))
        return cls(inputs, outputs)

    def image(self, task: str) -> TensorSpec:
        """The model's one image input, of shape (N, C, H, W) with 1 or 3 channels.

        Raises:
            DataError: the model has several inputs, or one that is no image.
        """
        if len(self.inputs) != 1:
            names = ", ".join(spec.name for spec in self.inputs)
            raise DataError(
                f"The task {task} feeds images to one input, but the model has {len(self.inputs)}: {names}; give a "
                "FILE.npz with one array for each of them (task array)."
            )
        spec = self.inputs[0]
        if len(spec.shape) != 4 or spec.shape[1] not in (-1, 1, 3) or spec.dtype.kind != "f":
            raise DataError(
                f"The task {task} feeds images of shape (N, 3, H, W) in float32, but the model's input '{spec.name}' "
                f"takes {spec.text} in {spec.dtype}; give a FILE.npy with arrays of that shape (task array)."
            )
        return spec

    @property
    def samples(self) -> int:
        """How many samples the model takes at a time; -1: any. One input with a fixed first side fixes it for all."""
        return max((spec.shape[0] for spec in self.inputs if spec.shape), default=-1)

    @property
    def scores_classes(self) -> bool:
        """Whether the first output is a row of class scores: (N, C), perhaps with sides of 1 after it."""
        shape = self.outputs[0].shape if self.outputs else ()
        return len(shape) >= 2 and all(side == 1 for side in shape[2:])

    @property
    def classes(self) -> int:
        """How many classes the first output tells apart, a row of scores or a row a step; -1 when that is open."""
        shape = self.outputs[0].shape if self.outputs else ()
        return -1 if len(shape) < 2 else shape[1] if self.scores_classes else shape[-1]


def _spec(variable: Any) -> TensorSpec:
    from slimkit.ir.params_file import NUMPY_OF_PROTO

    dtype = NUMPY_OF_PROTO.get(int(variable.desc.dtype()), np.dtype("float32"))
    return TensorSpec(variable.name, tuple(int(side) for side in variable.shape), dtype)
