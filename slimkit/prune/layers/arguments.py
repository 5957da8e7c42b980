"""What a layer is called with: from shapes, specs or tensors, as PaddleSlim's ``inputs``."""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np
import paddle
from paddle.static import InputSpec

from slimkit.errors import ConfigError

__all__ = ["example_arguments"]

_SEED = 0


def example_arguments(inputs: Any, dtype: str = "float32") -> List[Any]:
    """The arguments of forward, with a value each.

    Args:
        inputs: a shape (``[1, 3, 224, 224]``), a list of shapes, an ``InputSpec``, a tensor, or the list of forward's
            arguments: specs, tensors, arrays, dicts and lists of them, and other values as they are.
        dtype: of shapes.

    Returns:
        Tensors in place of all of these; from shapes and specs: normally distributed numbers, or zeros where the dtype
        is no floating-point one. A size that a spec leaves open at its front is 1.

    Raises:
        ConfigError: there is no tensor and no shape in it, or another size is open.
    """
    random = np.random.default_rng(_SEED)
    count = 0

    def made(shape: List[int], kind: str) -> paddle.Tensor:
        values = random.standard_normal(shape) if "float" in kind else np.zeros(shape)
        return paddle.to_tensor(values.astype("float32")).astype(kind)

    def convert(value: Any) -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([convert(item) for item in value])
        if isinstance(value, InputSpec):
            value = made(_closed(value), str(value.dtype).rsplit(".", 1)[-1].lower())
        if isinstance(value, np.ndarray):
            value = paddle.to_tensor(value)
        count += isinstance(value, paddle.Tensor)
        return value

    shapes = _shapes(inputs)
    if shapes is not None:
        return [made(shape, dtype) for shape in shapes]
    found = [convert(item) for item in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
    if not count:
        raise ConfigError(
            f"inputs={inputs!r} holds no tensor and no shape to run the layer on; give a shape such as "
            "[1, 3, 224, 224], a list of shapes, or the list of forward's arguments."
        )
    return found


def _closed(spec: InputSpec) -> List[int]:
    sizes = [-1 if size is None else int(size) for size in spec.shape]
    if any(size < 0 for size in sizes[1:]):
        raise ConfigError(
            f"The spec {sizes} leaves sizes open that the layer must be run with to see that it works; give numbers "
            "for all but the batch."
        )
    return [abs(sizes[0]), *sizes[1:]] if sizes else []


def _shapes(inputs: Any) -> Optional[List[List[int]]]:
    """The shapes, when ``inputs`` is one or a list of them."""
    given = [inputs] if _is_shape(inputs) else inputs
    if isinstance(given, (list, tuple)) and given and all(_is_shape(shape) for shape in given):
        return [[1 if size is None or size == -1 else int(size) for size in shape] for shape in given]
    return None


def _is_shape(value: Any) -> bool:
    whole = (int, np.integer)
    return isinstance(value, (list, tuple)) and bool(value) and all(
        (isinstance(size, whole) and not isinstance(size, bool)) or size is None for size in value
    )  # fmt: skip
