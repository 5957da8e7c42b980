"""From the config to a Paddle device and optimizer."""

from __future__ import annotations

from typing import Any, Callable, Dict

from slimkit.errors import ConfigError
from slimkit.recipe.schema import OptimizerSection

__all__ = ["device", "optimizer_factory"]


def device(name: str) -> Any:
    """Returns the Paddle place of ``cpu``, ``gpu:0``, ...

    Raises:
        ConfigError: this Paddle was built without that device, or there is none of that number.
    """
    import paddle

    kind, _, number = name.partition(":")
    index = int(number or 0)
    if kind == "cpu":
        return paddle.CPUPlace()
    built = {"gpu": paddle.is_compiled_with_cuda, "xpu": paddle.is_compiled_with_xpu}
    there = built[kind]() if kind in built else kind in paddle.device.get_all_custom_device_type()
    if not there:
        raise ConfigError(
            f"run.place is {name}, but paddlepaddle {paddle.__version__} here was built without {kind}; "
            "install the build for it, or set run.place=cpu."
        )
    if kind == "gpu" and index >= paddle.device.cuda.device_count():
        raise ConfigError(
            f"run.place is {name}, but there are {paddle.device.cuda.device_count()} GPUs, counted from 0."
        )
    places = {"gpu": paddle.CUDAPlace, "xpu": getattr(paddle, "XPUPlace", None)}
    return places[kind](index) if kind in places else paddle.CustomPlace(kind, index)


def _momentum(paddle: Any, section: OptimizerSection, common: Dict[str, Any]) -> Any:
    return paddle.optimizer.Momentum(momentum=section.momentum, **common)


#: One row an optimizer: how it is made from its section and the arguments all share.
_OPTIMIZERS: Dict[str, Callable[[Any, OptimizerSection, Dict[str, Any]], Any]] = {
    "Momentum": _momentum,
    "SGD": lambda paddle, section, common: paddle.optimizer.SGD(**common),
    "Adam": lambda paddle, section, common: paddle.optimizer.Adam(**common),
    "AdamW": lambda paddle, section, common: paddle.optimizer.AdamW(**common),
}


def optimizer_factory(train: Any) -> Callable[[], Any]:
    """Returns a function that makes the optimizer of the weights.

    Args:
        train: a section with ``optimizer`` and ``lr``.
    """

    def make() -> Any:
        import paddle

        section = train.optimizer
        common: Dict[str, Any] = {"learning_rate": train.lr.base}
        if section.weight_decay:
            decay = section.weight_decay
            common["weight_decay"] = decay if section.name == "AdamW" else paddle.regularizer.L2Decay(decay)
        if section.clip_norm:
            common["grad_clip"] = paddle.nn.ClipGradByGlobalNorm(section.clip_norm)
        return _OPTIMIZERS[section.name](paddle, section, common)

    return make
