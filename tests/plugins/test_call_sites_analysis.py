"""Every call of the analysis of layers: PaddleDetection, PaddleClas, PaddleSeg and PaddleX, as they write it."""

from __future__ import annotations

from typing import Any, Dict

import paddle
import pytest
from client_networks import Classifier, Detector, Segmenter, TextDetector, enliven
from paddle import nn
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("under_the_alias")


def test_paddledetection_flops() -> None:
    """engine/trainer.py, _flops: one image of a loader's batch, by name, and the model left in eval mode."""
    import paddleslim

    model = enliven(Detector())
    input_data: Dict[str, Any] = {
        "image": paddle.randn([4, 3, 32, 32]), "im_shape": paddle.ones([4, 2]), "scale_factor": paddle.ones([4, 2]),
    }  # fmt: skip
    model.eval()
    from paddleslim.analysis import dygraph_flops as flops

    input_spec = [{
        "image": input_data["image"][0].unsqueeze(0),
        "im_shape": input_data["im_shape"][0].unsqueeze(0),
        "scale_factor": input_data["scale_factor"][0].unsqueeze(0),
    }]  # fmt: skip
    flops = flops(model, input_spec) / (1000**3)
    convolutions = 256 * 8 * 27 + 64 * 16 * 72 + 64 * 16 * 16 + 64 * 5 * 16 + 64 * 5 * 5
    assert convolutions <= flops * 1e9 < 1.3 * convolutions  # and what PaddleSlim counts besides
    assert f" Model FLOPs : {flops:.6f}G. (image shape is {input_data['image'][0].unsqueeze(0).shape})"
    assert paddleslim.dygraph_flops is paddleslim.analysis.dygraph_flops and not model.training
    model.train()
    assert paddleslim.dygraph_flops(model, input_spec) / 1e9 == flops and model.training


@pytest.mark.parametrize("quantized", [False, True])
def test_flops_of_quantized_layers(quantized: bool) -> None:
    """ppcls/arch/slim/prune.py, PaddleSeg's prune.py, PaddleX's base.py; of a quantized network the same."""
    from paddleslim import QAT
    from paddleslim.analysis import dygraph_flops, flops

    model = enliven(Classifier())
    plain = flops(model, [1, 3, 32, 32], only_conv=True)
    if quantized:
        QAT({"quantizable_layer_type": ["Conv2D", "Linear"]}).quantize(model)
    shape = [1] + [3, 32, 32]  # noqa: RUF005
    assert dygraph_flops(model, shape, only_conv=True) == flops(model, shape, only_conv=True) == plain
    assert dygraph_flops(model, shape) / 1e9 > plain / 1e9
    total, each = dygraph_flops(model, shape, only_conv=True, detail=True)
    assert total == plain == sum(each.values()) and len(each) == 7
    assert isinstance(model.fc, nn.Linear) is not quantized


def test_paddles_own_summaries_of_quantized_and_pruned_layers() -> None:
    """paddle.flops (with the repair that the launcher makes) and paddle.summary, after quantize and prune."""
    from paddleslim import QAT, L1NormFilterPruner

    from slimkit.plugins import startup

    installed = startup.is_installed()
    startup.install()
    try:
        for kind, shape in ((TextDetector, [1, 3, 64, 64]), (Segmenter, [1, 3, 32, 32])):
            model = enliven(kind())
            model.eval()
            whole = paddle.flops(model, shape)
            parameters = paddle.summary(model, tuple(shape))["total_params"]
            convolution = next(layer for layer in model.sublayers() if isinstance(layer, nn.Conv2D))
            L1NormFilterPruner(model, shape).prune_vars({convolution.weight.name: 0.5}, [0])
            pruned = paddle.flops(model, shape)
            assert 0 < pruned < whole
            assert paddle.summary(model, tuple(shape))["total_params"] < parameters
            QAT().quantize(model)
            assert 0.8 * pruned < paddle.flops(model, shape) < 1.2 * pruned
            assert paddle.summary(model, tuple(shape))["total_params"] > 0
    finally:
        if not installed:
            startup.uninstall()
