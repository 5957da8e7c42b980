"""Every call of dygraph PTQ: PaddleDetection's slim and PaddleSlim's demo, as they write it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import paddle
import pytest
from client_networks import Classifier, Detector, enliven
from paddle import nn
from paddle.utils import try_import
from quantized_networks import assert_exported, first, names_of
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import load_quantized

pytestmark = pytest.mark.usefixtures("under_the_alias")

#: configs/slim/post_quant/*.yml
DET_CONFIGS: List[Dict[str, Any]] = [
    {"activation_quantizer": "HistQuantizer", "upsample_bins": 127, "hist_percent": 0.999},
    {"activation_quantizer": "KLQuantizer", "upsample_bins": 127},
]


class DetPTQ:
    """ppdet/slim/quant.py."""

    def __init__(self, ptq_config: Dict[str, Any], fuse: bool = True, fuse_list: Any = None) -> None:
        self.ptq_config, self.fuse, self.fuse_list = ptq_config, fuse, fuse_list

    def __call__(self, model: nn.Layer) -> Any:
        paddleslim = try_import("paddleslim")
        self.ptq = paddleslim.PTQ(**self.ptq_config)
        model.eval()
        quant_model = self.ptq.quantize(model, fuse=self.fuse, fuse_list=self.fuse_list)
        return quant_model

    def save_quantized_model(self, quant_model: nn.Layer, quantize_model_path: str, input_spec: Any = None) -> None:
        self.ptq.save_quantized_model(quant_model, quantize_model_path, input_spec)


@pytest.mark.parametrize("config", DET_CONFIGS, ids=lambda config: config["activation_quantizer"])
@pytest.mark.parametrize("fuse", [True, False])
def test_paddledetection_post_quant(tmp_path: Path, config: Dict[str, Any], fuse: bool) -> None:
    """tools/post_quant.py: the loader's batches through the model, a spec of one dict; a pair to fuse, or all."""
    from paddle.static import InputSpec

    paddle.seed(0)
    model = enliven(Detector())
    names, weights = names_of(model), [value.numpy() for value in model.parameters()]
    slim = DetPTQ(config, fuse, [["backbone.0.conv", "backbone.0.bn"]] if fuse and "hist_percent" in config else None)
    trainer_model = slim(model)
    batches = [
        {
            "image": paddle.randn([2, 3, 32, 32]), "im_shape": paddle.full([2, 2], 32.0),
            "scale_factor": paddle.to_tensor([[1.0, 2.0], [0.5, 1.0]]),
        }
        for _ in range(3)
    ]  # fmt: skip
    for data in batches:
        trainer_model(data)
    whole = first(model(batches[0]))
    spec = [{
        "image": InputSpec(shape=[None, 3, -1, -1], name="image"),
        "scale_factor": InputSpec(shape=[None, 2], name="scale_factor"),
    }]  # fmt: skip
    slim.save_quantized_model(trainer_model, str(tmp_path / "model"), input_spec=spec)
    assert paddle.in_dynamic_mode()
    simulated = first(trainer_model(batches[0]))
    feeds = [batches[0][name].numpy() for name in ("image", "scale_factor")]
    found = assert_exported(tmp_path / "model", simulated, *feeds, ops=4)
    assert 0 < np.linalg.norm(simulated - whole) < 0.15 * np.linalg.norm(whole)  # 0.999 of values are kept
    assert ("batch_norm" in found.op_counts()) is not (fuse and slim.fuse_list is None)
    scales = load_quantized(tmp_path / "model").table.params["image"].scale
    most = max(float(data["image"].abs().max()) for data in batches)
    assert 0.4 * most < scales[0] <= most
    # The float model is as it was, and a copy of the quantized one computes the same.
    assert names_of(model) == names
    for value, before in zip(model.parameters(), weights):
        np.testing.assert_array_equal(value.numpy(), before)
    np.testing.assert_array_equal(first(copy.deepcopy(trainer_model)(batches[0])), simulated)


@pytest.mark.parametrize("settings", [{}, {"activation_quantizer": "AbsmaxQuantizer"}])
def test_paddleslim_demo(tmp_path: Path, settings: Dict[str, Any]) -> None:
    """demo/dygraph/post_quant/ptq.py: PTQ() as it stands, its fuse_list, the spec a list of one; the float model."""
    from paddleslim import PTQ

    paddle.seed(0)
    fp32_model = enliven(Classifier())
    fp32_model.eval()
    count = 0
    fuse_list: Any = []
    for name, layer in fp32_model.named_sublayers():
        if isinstance(layer, nn.Conv2D) and "conv.conv" in name:
            fuse_list.append([name])
        if isinstance(layer, nn.BatchNorm2D) and "conv.bn" in name:
            fuse_list[count].append(name)
            count += 1
    ptq = PTQ(**settings)
    quant_model = ptq.quantize(fp32_model, fuse=True, fuse_list=fuse_list)
    images = paddle.randn([4, 3, 32, 32])
    for image in images:
        quant_model(image.unsqueeze(0))
    input_spec = paddle.static.InputSpec(shape=[None, 3, 32, 32], dtype="float32")
    quant_model.train()
    ptq.save_quantized_model(quant_model, str(tmp_path / "int8_infer" / "model"), [input_spec])
    assert quant_model.training
    quant_model.eval()
    assert_exported(tmp_path / "int8_infer" / "model", first(quant_model(images)), images.numpy(), ops=7)
    paddle.jit.save(fp32_model, str(tmp_path / "fp32_infer" / "model"), [input_spec])


def test_names_of_quantizers() -> None:
    """paddleslim.dygraph.quant's names: each by its name, as PTQ takes them."""
    import paddleslim
    from paddleslim.dygraph.quant import PTQ, AbsmaxQuantizer, HistQuantizer, KLQuantizer, PerChannelAbsmaxQuantizer

    assert paddleslim.PTQ is PTQ
    for kind in (AbsmaxQuantizer, HistQuantizer, KLQuantizer):
        quantizer = PTQ(activation_quantizer=kind.__name__, weight_quantizer="AbsmaxQuantizer").activation_quantizer
        assert isinstance(quantizer, kind)
    assert isinstance(PTQ().weight_quantizer, PerChannelAbsmaxQuantizer)
