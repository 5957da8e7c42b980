"""Every call of dygraph QAT by PaddleDetection, PaddleSeg and PaddleX, as they write it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle
import pytest
from client_networks import (
    Classifier,
    Detector,
    Segmenter,
    WrappedModel,
    enliven,
)
from paddle import nn
from paddle.utils import try_import
from quantized_networks import (
    assert_exported,
    assert_goes_on,
    first,
    names_of,
    quant_config,
    square,
    trained,
)
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("under_the_alias")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    paddle.seed(0)


# ---------------------------------------------------------------------------------- PaddleDetection


class DetQAT:
    """ppdet/slim/quant.py."""

    def __init__(self, quant_config: Dict[str, Any], print_model: bool) -> None:
        self.quant_config = quant_config
        self.print_model = print_model

    def __call__(self, model: nn.Layer) -> nn.Layer:
        paddleslim = try_import("paddleslim")
        self.quanter = paddleslim.dygraph.quant.QAT(config=self.quant_config)
        if self.print_model:
            assert "Conv2D(3, 8" in str(model)
        for layer in model.sublayers():
            if hasattr(layer, "convert_to_deploy"):
                layer.convert_to_deploy()
        self.quanter.quantize(model)
        if self.print_model:
            assert "QuantizedConv2D" in str(model)
        return model

    def save_quantized_model(self, layer: nn.Layer, path: str, input_spec: Any = None, **config: Any) -> None:
        self.quanter.save_quantized_model(model=layer, path=path, input_spec=input_spec, **config)


#: configs/slim/quant/yolov3_mobilenet_v3_qat.yml
DET_CONFIG = {
    "weight_preprocess_type": None, "activation_preprocess_type": "PACT",
    "weight_quantize_type": "channel_wise_abs_max", "activation_quantize_type": "moving_average_abs_max",
    "weight_bits": 8, "activation_bits": 8, "dtype": "int8", "window_size": 10000, "moving_rate": 0.9,
    "quantizable_layer_type": ["Conv2D", "Linear"],
}  # fmt: skip


def det_inputs(side: int = 32) -> Dict[str, Any]:
    return {
        "image": paddle.randn([2, 3, side, side]), "im_shape": paddle.full([2, 2], float(side)),
        "scale_factor": paddle.to_tensor([[1.0, 2.0], [0.5, 1.0]]), "gt": paddle.ones([2, 5, side // 4, side // 4]),
    }  # fmt: skip


def test_paddledetection_qat(tmp_path: Path) -> None:
    """ppdet/slim/quant.py, engine/trainer.py: dicts in and out, averaged weights, a pruned input_spec of one dict."""
    from paddle.static import InputSpec

    data = det_inputs()
    model = enliven(Detector())
    names = names_of(model)
    slim = DetQAT(dict(DET_CONFIG), True)
    model = slim(model)
    assert [name for name in names_of(model) if name in names] == names
    trained(model, lambda net: net(data)["loss"])
    paddle.save(model.state_dict(), str(tmp_path / "model_final.pdparams"))
    averaged = {key: value * 0.5 + value * 0.5 for key, value in model.state_dict().items()}  # ModelEMA
    model.set_dict(averaged)
    model.eval()
    expected = first(model(data))
    copied = copy.deepcopy(model)
    np.testing.assert_array_equal(first(copied(data)), expected)

    # tools/export_model.py: another network, PACT left out of the config, the checkpoint by the keys it has
    again = Detector()
    slim = DetQAT(dict(DET_CONFIG), False)
    slim.quant_config["activation_preprocess_type"] = None
    again = slim(again)
    params = paddle.load(str(tmp_path / "model_final.pdparams"))
    again.set_dict({key: value for key, value in params.items() if key in again.state_dict()})
    again.eval()
    spec = [{
        "image": InputSpec(shape=[None, 3, -1, -1], name="image"),
        "scale_factor": InputSpec(shape=[None, 2], name="scale_factor"),
    }]  # fmt: skip
    static_model = paddle.jit.to_static(copy.deepcopy(again), input_spec=spec, full_graph=True)
    slim.save_quantized_model(again, str(tmp_path / "model"), input_spec=spec)
    found = assert_exported(
        tmp_path / "model", expected, data["image"].numpy(), data["scale_factor"].numpy(), ops=4
    )
    assert list(found.feeds) == ["image", "scale_factor"]
    static_data = {name: data[name] for name in found.feeds}
    np.testing.assert_allclose(first(static_model(static_data)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first(again(data)), expected)
    assert type(again.proj_conv) is nn.Conv2D  # skip_quant
    assert_goes_on(again, lambda net: net(data)["loss"])


def test_paddledetection_pruner_and_qat(tmp_path: Path) -> None:
    """ppdet/slim/prune.py, PrunerQAT: pruned, then quantized, by one object."""
    from paddle.static import InputSpec

    model = enliven(Detector())
    model.eval()
    paddleslim = try_import("paddleslim")
    from paddleslim.analysis import dygraph_flops as flops

    input_spec = [{
        "image": paddle.ones(shape=[1, 3, 32, 32], dtype="float32"),
        "im_shape": paddle.full([1, 2], 32, dtype="float32"),
        "scale_factor": paddle.ones(shape=[1, 2], dtype="float32"),
    }]  # fmt: skip
    ori_flops = flops(model, input_spec) / 1000
    pruner = paddleslim.dygraph.L1NormFilterPruner(model, input_spec)
    pruner.prune_vars({model.backbone[2].conv.weight.name: 0.5}, [0])
    assert flops(model, input_spec) / 1000 < ori_flops
    quanter = paddleslim.dygraph.quant.QAT(config=dict(DET_CONFIG))
    quanter.quantize(model)
    data = det_inputs()
    trained(model, lambda net: net(data)["loss"])
    model.eval()
    expected = first(model(data))
    spec = [{
        "image": InputSpec(shape=[None, 3, 32, 32], name="image"),
        "im_shape": InputSpec(shape=[None, 2], name="im_shape"),
        "scale_factor": InputSpec(shape=[None, 2], name="scale_factor"),
    }]  # fmt: skip
    quanter.save_quantized_model(model=model, path=str(tmp_path / "model"), input_spec=spec)
    from slimkit import Model

    feeds = {name: data[name].numpy() for name in Model.load(tmp_path / "model").feeds}
    found = Model.load(tmp_path / "model").run(feeds)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert flops(model, input_spec) / 1000 < ori_flops


# ------------------------------------------------------------------------------- PaddleSeg, PaddleX


def skip_quant(model: nn.Layer) -> None:
    """deploy/slim/quant/qat_train.py: only the backbone is quantized."""
    if not hasattr(model, "backbone"):
        return
    for name, cur_layer in model.named_sublayers():
        if isinstance(cur_layer, (paddle.nn.Conv2D, paddle.nn.Linear)) and "backbone" not in name:
            cur_layer.skip_quant = True


def test_paddleseg_qat_train_and_qat_export(tmp_path: Path) -> None:
    """deploy/slim/quant/qat_train.py, qat_export.py: skip_quant, a wrapper, sizes left open."""
    from paddleslim import QAT

    x = paddle.randn([2, 3, 32, 32])
    model = enliven(Segmenter())
    skip_quant(model)
    quantizer = QAT(config=quant_config())
    quantizer.quantize(model)
    assert [type(layer).__name__ for layer in model.head] == ["Conv2D", "ReLU", "Conv2D"]
    trained(model, square(x))
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))

    net = Segmenter()
    skip_quant(net)
    quantizer = QAT(config=quant_config())
    quantizer.quantize(net)
    net.set_dict(paddle.load(str(tmp_path / "model.pdparams")))
    new_net = WrappedModel(net)
    new_net.eval()
    expected = first(new_net(x))
    save_path = str(tmp_path / "model")
    shape = [None, 3, None, None]
    input_spec = [paddle.static.InputSpec(shape=shape, dtype="float32")]
    quantizer.save_quantized_model(new_net, save_path, input_spec=input_spec)
    found = assert_exported(save_path, expected, x.numpy(), ops=2)
    other = paddle.randn([1, 3, 48, 64])
    np.testing.assert_allclose(found.run([other.numpy()])[0], first(new_net(other)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first(new_net(x)), expected)
    assert_goes_on(new_net, square(x))


def test_paddlex_qat(tmp_path: Path) -> None:
    """paddlex/cv/models/base.py: arguments by position, the spec third; load_model quantizes before it loads."""
    import paddleslim

    x = paddle.randn([2, 3, 32, 32])
    net = enliven(Classifier())
    config = quant_config()
    quantizer = paddleslim.QAT(config=config)
    quantizer.quantize(net)
    assert config == quant_config()  # compared with the next one given
    trained(net, square(x))
    paddle.save(net.state_dict(), str(tmp_path / "model.pdparams"))
    net.eval()
    test_inputs = [paddle.static.InputSpec(shape=[None, 3, 32, 32], name="image", dtype="float32")]
    quantizer.save_quantized_model(net, str(tmp_path / "inference_model" / "model"), test_inputs)
    found = assert_exported(tmp_path / "inference_model" / "model", first(net(x)), x.numpy(), ops=7)
    assert list(found.feeds) == ["image"]
    loaded = Classifier()
    paddleslim.QAT(config=config).quantize(loaded)
    loaded.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    loaded.eval()
    np.testing.assert_array_equal(first(loaded(x)), first(net(x)))
