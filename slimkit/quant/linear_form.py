"""Layers with a weight as what they are in the end: a matrix times rows of the input, in groups.

A convolution's result at one place is its weight, as a matrix, times the patch of the input that it sees there. A few
places a batch are enough for statistics of a layer, so no more patches than asked for are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import GraphOp

__all__ = ["ConvForm", "LinearForm", "MatrixForm", "linear_form"]

_CONVS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
_MATRICES = ("mul", "matmul", "matmul_v2")


class LinearForm:
    """How one op reads its weight and input; shapes below: ``g`` groups, ``o`` outputs and ``k`` inputs of a group."""

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        """The weight as ``[g, o, k]``."""
        raise NotImplementedError  # pragma: no cover - abstract

    def weight(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`matrix`."""
        raise NotImplementedError  # pragma: no cover - abstract

    def places(self, result_shape: Sequence[int]) -> int:
        """The number of places of a result."""
        raise NotImplementedError  # pragma: no cover - abstract

    def results(self, result: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The op's result at some places, ``[g, len(places), o]``."""
        raise NotImplementedError  # pragma: no cover - abstract

    def inputs(self, x: np.ndarray, places: np.ndarray, result_shape: Sequence[int]) -> np.ndarray:
        """What the weight is multiplied with there, ``[g, len(places), k]``."""
        raise NotImplementedError  # pragma: no cover - abstract


def linear_form(op: GraphOp, weight_shape: Sequence[int]) -> LinearForm:
    """The form of an op.

    Raises:
        ModelError: the op has none (its input is transposed, its result scaled, its type unknown).
    """
    shape = tuple(int(d) for d in weight_shape)
    if op.type in _CONVS and len(shape) == 4:
        return ConvForm(
            shape,
            op.type == "conv2d_transpose",
            int(op.attr("groups", 1) or 1),
            tuple(op.attr("strides", [1, 1])),
            tuple(op.attr("paddings", [0, 0])),
            tuple(op.attr("dilations", [1, 1])),
            str(op.attr("padding_algorithm", "EXPLICIT")),
            str(op.attr("data_format", "NCHW")) == "NHWC",
        )
    if op.type in _MATRICES and len(shape) == 2:
        odd = [name for name in ("trans_x", "transpose_X") if op.attr(name, False)]
        if odd or float(op.attr("alpha", 1.0)) != 1.0:
            raise ModelError(f"{op.type} has {odd[0] if odd else 'alpha'} set, so it is no plain product with a weight")
        transposed = bool(op.attr("trans_y", False) or op.attr("transpose_Y", False))
        return MatrixForm(shape, transposed, int(op.attr("x_num_col_dims", 1)) if op.type == "mul" else None)
    raise ModelError(f"{op.type} with a weight of shape {list(shape)} is no product of a matrix and rows of its input")


@dataclass(frozen=True)
class MatrixForm(LinearForm):
    """mul, matmul: one group; a place is a row of the input."""

    shape: Tuple[int, ...]
    transposed: bool
    columns: Optional[int]

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        return (weight if self.transposed else weight.T)[None]

    def weight(self, matrix: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(matrix[0] if self.transposed else matrix[0].T)

    def places(self, result_shape: Sequence[int]) -> int:
        return int(np.prod(result_shape)) // self.shape[0 if self.transposed else 1]

    def results(self, result: np.ndarray, places: np.ndarray) -> np.ndarray:
        return result.reshape(-1, self.shape[0 if self.transposed else 1])[places][None]

    def inputs(self, x: np.ndarray, places: np.ndarray, result_shape: Sequence[int]) -> np.ndarray:
        return x.reshape(-1, self.shape[1 if self.transposed else 0])[places][None]


@dataclass(frozen=True)
class ConvForm(LinearForm):
    """conv2d, depthwise_conv2d, conv2d_transpose: a place is an image, a row and a column of the result."""

    shape: Tuple[int, ...]
    transposed: bool
    groups: int
    strides: Tuple[int, ...]
    paddings: Tuple[int, ...]
    dilations: Tuple[int, ...]
    algorithm: str
    channels_last: bool

    def matrix(self, weight: np.ndarray) -> np.ndarray:
        first, second, height, width = self.shape
        if not self.transposed:
            return weight.reshape(self.groups, first // self.groups, second * height * width)
        parts = weight.reshape(self.groups, first // self.groups, second, height, width)
        return parts.transpose(0, 2, 1, 3, 4).reshape(self.groups, second, -1)

    def weight(self, matrix: np.ndarray) -> np.ndarray:
        first, second, height, width = self.shape
        if not self.transposed:
            return np.ascontiguousarray(matrix).reshape(self.shape)
        parts = matrix.reshape(self.groups, second, first // self.groups, height, width)
        return np.ascontiguousarray(parts.transpose(0, 2, 1, 3, 4)).reshape(self.shape)

    def _channels_first(self, shape: Sequence[int]) -> Tuple[int, ...]:
        return (shape[0], shape[3], shape[1], shape[2]) if self.channels_last else tuple(shape)

    def _view(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 3, 1, 2) if self.channels_last else x

    def places(self, result_shape: Sequence[int]) -> int:
        images, _, rows, columns = self._channels_first(result_shape)
        return images * rows * columns

    def results(self, result: np.ndarray, places: np.ndarray) -> np.ndarray:
        result = self._view(result)
        image, row, column = np.unravel_index(places, (result.shape[0], *result.shape[2:]))
        return result[image, :, row, column].reshape(len(places), self.groups, -1).transpose(1, 0, 2)

    def inputs(self, x: np.ndarray, places: np.ndarray, result_shape: Sequence[int]) -> np.ndarray:
        x = self._view(x)
        images, _, *size = self._channels_first(result_shape)
        image, *at = np.unravel_index(places, (images, *size))
        (row, row_ok), (column, column_ok) = (self._seen(at[d], d, x.shape[2 + d]) for d in (0, 1))
        patches = x[image[:, None, None], :, row[:, :, None], column[:, None, :]]
        patches = patches * (row_ok[:, :, None] & column_ok[:, None, :])[..., None]
        split = patches.reshape(*patches.shape[:3], self.groups, -1)
        return split.transpose(3, 0, 4, 1, 2).reshape(self.groups, len(places), -1)

    def _seen(self, at: np.ndarray, d: int, length: int) -> Tuple[np.ndarray, np.ndarray]:
        """The indices along a dimension that the kernel sees from each place, and which of them exist."""
        stride, (pad, dilation) = self.strides[d], self._padding(d, length)
        offsets = np.arange(self.shape[2 + d]) * dilation
        if self.transposed:
            reached = at[:, None] + pad - offsets
            index, exists = reached // stride, reached % stride == 0
        else:
            index = at[:, None] * stride - pad + offsets
            exists = np.ones(index.shape, bool)
        exists = exists & (index >= 0) & (index < length)
        return np.where(exists, index, 0), exists

    def _padding(self, d: int, length: int) -> Tuple[int, int]:
        """Padding before the first row or column, and dilation, which Paddle drops for SAME."""
        if self.algorithm == "VALID":
            return 0, self.dilations[d]
        if self.algorithm == "SAME":
            count = -(-length // self.strides[d])
            return max((count - 1) * self.strides[d] + self.shape[2 + d] - length, 0) // 2, 1
        return self.paddings[d if len(self.paddings) == 2 else 2 * d], self.dilations[d]
