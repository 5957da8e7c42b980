"""``QuantTable``: what a quantizer leaves behind and every exporter starts from.

After training or calibration the scales leave the graph: the model is float again, and the table says which
tensors lie on which grid and which ops read them so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np

from slimkit.errors import ModelError
from slimkit.files import atomic_write

__all__ = ["QuantParams", "QuantTable", "QuantizedOp"]

_FORMAT = 1


@dataclass(frozen=True)
class QuantParams:
    """The integer grid of one tensor.

    A symmetric grid has levels ``q * scale / (2**(bits-1) - 1)`` for integers ``|q| <= 2**(bits-1) - 1``: ``scale`` is
    the clipping threshold in real units (Paddle's convention). An affine grid has levels ``(q - zero_point) * step``
    with ``step = scale / (2**bits - 1)``, ``0 <= q <= 2**bits - 1``: ``scale`` is the width of the range.

    Attributes:
        tensor: name of the variable.
        scale: float32, shape ``[1]`` or ``[channels]``.
        bits: 2 to 16.
        axis: the channel axis, None for one scale.
        symmetric: symmetric max-abs or affine min-max.
        zero_point: int64, shape of ``scale``; zeros when symmetric.
        is_weight: a parameter, stored as integers by exporters.
        dynamic: the scale is computed anew in every run; ``scale`` is the last one seen.
        rounding: ``half_even`` or ``half_away`` (from zero).
    """

    tensor: str
    scale: np.ndarray
    bits: int = 8
    axis: Optional[int] = None
    symmetric: bool = True
    zero_point: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    is_weight: bool = False
    dynamic: bool = False
    rounding: str = "half_away"

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float32).reshape(-1)
        if not np.all(np.isfinite(scale)) or np.any(scale < 0):
            raise ModelError(
                f"The scale of tensor '{self.tensor}' is {scale.min()}..{scale.max()}; scales must be finite and not "
                "negative: the training diverged or the calibration data holds NaN."
            )
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", np.asarray(self.zero_point, np.int64).reshape(-1))

    @property
    def qmax(self) -> int:
        """The largest integer of the grid: ``2**(bits-1) - 1`` symmetric, ``2**bits - 1`` affine."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1


@dataclass(frozen=True)
class QuantizedOp:
    """An op that reads quantized tensors: ``inputs`` maps slot to key in the table, ``output`` is its output's name.

    ``outputs`` maps the name of a result (the op's own, or the one behind the bias and activation fused with it) to its
    key, where the runtime needs the result on a grid too; Paddle's formats, which do not, leave it out.
    """

    type: str
    output: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass
class QuantTable:
    """Key -> ``QuantParams``, the ops that read them, and what stayed float and why.

    A key is the tensor's name; where two readers want one tensor on two grids, the further keys carry the bits
    (``x@4bit``).
    """

    params: Dict[str, QuantParams] = field(default_factory=dict)
    ops: List[QuantizedOp] = field(default_factory=list)
    skipped: List[Dict[str, str]] = field(default_factory=list)

    def add(self, params: QuantParams) -> str:
        """Adds a grid and returns its key."""
        key = params.tensor
        held = self.params.get(key)
        if held is not None and (held.bits, held.axis, held.symmetric) != (
            params.bits,
            params.axis,
            params.symmetric,
        ):
            key = f"{params.tensor}@{params.bits}bit" + ("" if params.axis is None else f"@axis{params.axis}")
        self.params[key] = params
        return key

    def weights(self) -> Dict[str, QuantParams]:
        return {k: p for k, p in self.params.items() if p.is_weight}

    def activations(self) -> Dict[str, QuantParams]:
        return {k: p for k, p in self.params.items() if not p.is_weight}

    def __len__(self) -> int:
        return len(self.params)

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": _FORMAT,
            "params": {
                k: {**asdict(p), "scale": p.scale.tolist(), "zero_point": p.zero_point.tolist()}
                for k, p in self.params.items()
            },
            "ops": [
                {"type": o.type, "output": o.output, "inputs": dict(o.inputs), "outputs": dict(o.outputs)}
                for o in self.ops
            ],
            "skipped": list(self.skipped),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuantTable:
        """The inverse of ``to_dict``.

        Raises:
            ModelError: not a table of this format.
        """
        found = values.get("format") if isinstance(values, Mapping) else None
        if found is None:
            raise ModelError("This is not a quantization table, it has no 'format'; QuantTable.save writes one.")
        if found != _FORMAT:
            raise ModelError(f"This quantization table has format {found!r}; this slimkit reads format {_FORMAT}.")
        return cls(
            {k: QuantParams(**p) for k, p in values["params"].items()},
            [QuantizedOp(**o) for o in values["ops"]],
            list(values["skipped"]),
        )

    def save(self, path: Union[str, Path]) -> Path:
        """Writes the table as JSON, atomically."""

        return atomic_write(path, json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: Union[str, Path]) -> QuantTable:
        """Reads a table that ``save`` wrote."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is not a quantization table ({error}); it is written by QuantTable.save."
            ) from None
