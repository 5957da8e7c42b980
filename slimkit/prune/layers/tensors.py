"""``LayerTensors``: a layer's parameters and buffers by name; ``Undo``: how a changed layer becomes what it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, MutableMapping, Tuple

import numpy as np
import paddle
from paddle import nn

from slimkit.errors import ModelError, suggestion

__all__ = ["LayerTensors", "Undo", "core_layer", "drop_gradient", "forget_programs", "without"]


def core_layer(layer: nn.Layer) -> nn.Layer:
    """The layer inside ``DataParallel``, or the layer itself."""
    while isinstance(layer, paddle.DataParallel):
        layer = layer._layers
    return layer


class LayerTensors(MutableMapping[str, np.ndarray]):
    """``name -> array`` over a layer's parameters and buffers, get and set; bfloat16 as float32.

    Names are those of the tensors (``conv2d_0.w_0``), which are those of the traced program, not those of
    ``state_dict``. A weight that layers share is there once.
    """

    def __init__(self, layer: nn.Layer) -> None:
        self._tensors: Dict[str, paddle.Tensor] = {}
        for tensor in [*layer.parameters(), *layer.buffers()]:
            self._tensors.setdefault(tensor.name, tensor)

    def variable(self, name: str) -> paddle.Tensor:
        """The tensor itself.

        Raises:
            ModelError: the layer has none of this name.
        """
        if name not in self._tensors:
            raise ModelError(f"The layer has no parameter or buffer '{name}'{suggestion(name, self._tensors)}")
        return self._tensors[name]

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Name -> shape."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Any:
        """The dense tensor that holds the values."""
        return self.variable(name).get_tensor()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._tensors:
            raise KeyError(f"the layer has no parameter or buffer '{name}'{suggestion(str(name), self._tensors)}")
        tensor = self._tensors[name].detach()
        return np.asarray((tensor.astype("float32") if tensor.dtype == paddle.bfloat16 else tensor).numpy())

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        tensor = self.variable(name)
        tensor.set_value(paddle.to_tensor(value).astype(tensor.dtype))

    def __delitem__(self, name: str) -> None:
        raise ModelError(f"'{name}' cannot be removed from a layer.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors


def without(tensor: paddle.Tensor, axes: Mapping[int, np.ndarray]) -> paddle.Tensor:
    """A copy of a tensor, on its device and of its dtype, without some indices of some axes."""
    found = tensor.detach()
    for axis, indices in axes.items():
        keep = np.delete(np.arange(found.shape[axis]), indices)
        found = paddle.index_select(found, paddle.to_tensor(keep, place=tensor.place), axis)
    return found


def _holder(tensor: paddle.Tensor) -> paddle.Tensor:
    """Another tensor that holds the same memory, and goes on holding it."""
    holder = paddle.empty([0], tensor.dtype)
    holder.get_tensor()._share_data_with(tensor.get_tensor())
    return holder


def drop_gradient(tensor: paddle.Tensor) -> None:
    """Clears the gradient of a tensor that has another shape by now."""
    if tensor.grad is not None and list(tensor.grad.shape) != list(tensor.shape):
        tensor.clear_gradient(False)


def forget_programs(layer: nn.Layer) -> None:
    """Programs that ``to_static`` made for former shapes are made anew."""
    for part in [layer, *layer.sublayers()]:
        cache = getattr(vars(part).get("forward"), "_program_cache", None)
        if cache is not None:
            cache._caches.clear()
            cache._recent_key = cache._recent_cache_key = None


@dataclass
class Undo:
    """What was changed, and what was there before; the memory of replaced tensors is kept, not copied.

    Attributes:
        layer: that is changed.
        tensors: tensor and holder of its former memory.
        attributes: object, name and former value.
    """

    layer: nn.Layer
    tensors: List[Tuple[paddle.Tensor, paddle.Tensor]] = field(default_factory=list)
    attributes: List[Tuple[Any, str, Any]] = field(default_factory=list)

    def replace(self, tensor: paddle.Tensor, new: paddle.Tensor) -> None:
        """Gives a tensor other memory, of another shape; it stays the same object under the same name."""
        self.tensors.append((tensor, _holder(tensor)))
        tensor.get_tensor()._share_data_with(new.get_tensor())

    def set(self, where: Any, name: str, value: Any) -> None:
        """Sets an attribute of an object."""
        self.attributes.append((where, name, getattr(where, name)))
        setattr(where, name, value)

    def __call__(self) -> None:
        """Gives everything back, bit for bit."""
        while self.tensors:
            tensor, holder = self.tensors.pop()
            tensor.get_tensor()._share_data_with(holder.get_tensor())
            drop_gradient(tensor)
        while self.attributes:
            where, name, value = self.attributes.pop()
            setattr(where, name, value)
        forget_programs(self.layer)
