"""``ppcls.arch`` of the package paddleclas, as PaddleClas's tools use it, and its ``ExportModel``."""

from __future__ import annotations

import logging
import sys
from typing import Any, Iterator

import paddle
import pytest
from real_models import unpacked_wheel

__all__ = ["SIZE", "arch", "config_of", "wrapped"]

#: Height and width of the images.
SIZE = 64


@pytest.fixture(scope="module")
def arch() -> Iterator[Any]:
    """``ppcls.arch`` under the alias and its repairs; afterwards it is not imported any more."""
    from slimkit.plugins.launcher import as_paddleslim

    for name in ("sklearn", "tqdm", "six", "requests"):
        pytest.importorskip(name, reason="ppcls.arch imports it: pip install scikit-learn tqdm six requests")
    folder = str(unpacked_wheel("paddleclas", "2.6.0", lambda member: member.startswith("paddleclas/ppcls/")))
    before = list(sys.path)
    sys.path.append(f"{folder}/paddleclas")
    try:
        with as_paddleslim():
            import ppcls.arch
            from ppcls.utils import logger

            logger.init_logger(log_level=logging.ERROR)
            yield ppcls.arch
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.partition(".")[0] == "ppcls"]:
            del sys.modules[name]


def config_of(**slim: Any) -> Any:
    """What ``build_model`` reads of configs/slim/MobileNetV3_large_x1_0_*.yaml."""
    return {
        "Global": {"image_shape": [3, SIZE, SIZE], "device": "cpu"},
        "Arch": {"name": "MobileNetV3_large_x1_0", "class_num": 10, "pretrained": False},
        "Slim": slim,
    }


def wrapped(arch: Any, network: Any) -> Any:
    """The network inside a layer that adds a softmax, made static: what ``Engine.export`` exports."""

    class ExportModel(arch.TheseusLayer):
        def __init__(self) -> None:
            super().__init__()
            self.base_model = network
            self.out_act = paddle.nn.Softmax(axis=-1)

        def forward(self, x: Any) -> Any:
            return self.out_act(self.base_model(x))

    model = ExportModel()
    model.eval()
    return paddle.jit.to_static(model, input_spec=[paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32")])
