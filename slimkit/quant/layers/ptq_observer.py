"""``InputObserver``: a hook on a layer that measures its input while the network runs, and quantizes it afterwards.

Hooks leave the network as it is: its structure, its layers, their parameters and the keys of ``state_dict``. Nothing of
an activation is kept but its histogram, which is taken from the tensor's own memory.
"""

from __future__ import annotations

import zlib  # noqa: F401  (must precede paddle)
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

import numpy as np
import paddle
from paddle import _C_ops, nn

from slimkit.errors import NumericsError, TrainingError
from slimkit.numerics.histogram import AbsHistogram
from slimkit.quant.layers.fake_quant import fixed_scale
from slimkit.quant.layers.ptq_quantizers import AbsmaxQuantizer, BaseQuantizer
from slimkit.quant.quantizers import ROUND_TYPE

__all__ = ["OBSERVED", "OBSERVED_TYPES", "Calibration", "InputObserver", "array_of", "observe_layer", "observers"]

#: Class of a layer -> axis of its weight along which the output channels lie.
OBSERVED: Dict[Type[nn.Layer], int] = {nn.Conv2D: 0, nn.Conv2DTranspose: 1, nn.Linear: 1}

OBSERVED_TYPES: Tuple[Any, ...] = tuple(OBSERVED)

OBSERVE, SIMULATE, TRACE = "observe", "simulate", "trace"


@dataclass(eq=False)
class Calibration:
    """What the observers of one network share.

    Attributes:
        activation, weight: the quantizers.
        fuse: whether batch norms are folded when the network is saved.
        listed: whether only those of a ``fuse_list`` are.
        input_spec: that of a forward ``to_static`` had wrapped, or None.
        mode: ``observe``, ``simulate`` or ``trace``.
    """

    activation: BaseQuantizer
    weight: BaseQuantizer
    fuse: bool = False
    listed: bool = False
    input_spec: Optional[List[Any]] = None
    mode: str = OBSERVE

    @contextmanager
    def switched(self, mode: str) -> Iterator[None]:
        """Another mode for a while."""
        before, self.mode = self.mode, mode
        try:
            yield
        finally:
            self.mode = before


@dataclass(eq=False)
class InputObserver:
    """A forward pre-hook; see the module.

    Attributes:
        path: of the layer in the network, for messages.
        calibration: shared by the network's observers.
        norm: the batch norm that a ``fuse_list`` pairs with the layer.
        histogram: of all inputs so far.
    """

    path: str
    calibration: Calibration
    norm: Optional[nn.Layer] = field(default=None, repr=False)
    histogram: AbsHistogram = field(init=False)
    _scale: Any = field(default=None, init=False, repr=False)
    _value: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.histogram = AbsHistogram(self.calibration.activation.bins)

    @property
    def seen(self) -> bool:
        """Whether there were values to measure."""
        return self.histogram.total > 0

    def threshold(self) -> np.float32:
        """Where the layer's input is clipped."""
        return self.calibration.activation.threshold(self.histogram)

    def fix(self) -> None:
        """Takes the threshold of what was seen; afterwards the layer can be simulated and traced."""
        if self.seen:
            self._value = float(self.threshold())
            initial = nn.initializer.Constant(self._value)
            self._scale = paddle.create_parameter([1], "float32", default_initializer=initial)
            self._scale.stop_gradient = True

    def __call__(self, layer: nn.Layer, args: Tuple[Any, ...], named: Dict[str, Any]) -> Any:
        mode, dynamic = self.calibration.mode, paddle.in_dynamic_mode()
        if mode == OBSERVE:
            if dynamic:
                self._observe(args[0] if args else next(iter(named.values())))
            return None
        if self._scale is None:
            return None
        if mode == SIMULATE:
            self._put_weight(layer)
        if args:
            return (self._on_grid(args[0]), *args[1:]), named
        first = next(iter(named))
        return args, {**named, first: self._on_grid(named[first])}

    def _observe(self, x: Any) -> None:
        try:
            self.histogram.update(array_of(x))
        except NumericsError as error:
            raise TrainingError(
                f"The input of the layer '{self.path}' cannot be calibrated in its call {self.histogram.batches + 1}: "
                f"{error}; check the images' normalisation and the float weights."
            ) from None

    def _on_grid(self, x: Any) -> Any:
        kind, bits, scale = x.dtype, self.calibration.activation.quant_bits, self._scale
        if paddle.in_dynamic_mode() and 0 in x.shape:  # Paddle's kernels crash on a tensor without elements
            return x
        if self.calibration.mode == SIMULATE and not paddle.in_dynamic_mode():
            scale = paddle.full([1], self._value)  # paddle.jit.save knows no parameters but the layers'
        if kind == paddle.float32:
            return fixed_scale(x, scale, bits)
        return fixed_scale(x.astype("float32"), scale, bits).astype(kind)

    def _put_weight(self, layer: nn.Layer) -> None:
        """Until :func:`_take_weight`, ``layer.weight`` reads the weight on its grid; the parameter stays what it is."""
        weight = layer._parameters["weight"]
        kind, quantizer = weight.dtype, self.calibration.weight
        value = weight if kind == paddle.float32 else weight.astype("float32")
        if isinstance(quantizer, AbsmaxQuantizer):
            value = _C_ops.fake_quantize_dequantize_abs_max(value, quantizer.quant_bits, ROUND_TYPE)[0]
        else:
            axis = next(axis for kind, axis in OBSERVED.items() if isinstance(layer, kind))
            value = _C_ops.fake_channel_wise_quantize_dequantize_abs_max(value, quantizer.quant_bits, ROUND_TYPE, axis)[
                0
            ]
        vars(layer)["weight"] = value if kind == paddle.float32 else value.astype(kind)


def _take_weight(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
    """A forward post-hook: the weight is the parameter again."""
    vars(layer).pop("weight", None)


def observe_layer(layer: nn.Layer, observer: InputObserver) -> None:
    """Puts an observer on a layer, behind the hooks that it has."""
    layer.register_forward_pre_hook(observer, with_kwargs=True)
    layer.register_forward_post_hook(_take_weight)


def observers(model: nn.Layer) -> List[Tuple[nn.Layer, InputObserver]]:
    """(layer, its observer) of every observed layer in a network, each once."""
    found = []
    for layer in model.sublayers(include_self=True):
        hook = next((h for h in layer._forward_pre_hooks.values() if isinstance(h, InputObserver)), None)
        if hook is not None:
            found.append((layer, hook))
    return found


def array_of(x: Any) -> np.ndarray:
    """A tensor's values; on the CPU a view of its own memory, to be read at once.

    Args:
        x: dygraph tensor; of a dtype that numpy has not (bfloat16), float32 is made.
    """
    x = x.detach()
    if x.dtype not in (paddle.float32, paddle.float64):
        x = x.astype("float32")
    if x.place.is_cpu_place() and x.size:
        return np.from_dlpack(x)
    return np.asarray(x.numpy())
