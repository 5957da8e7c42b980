"""Every call of dygraph QAT by PaddleOCR, PaddleClas, PaddleDetection, PaddleSeg, PaddleX and PaddleNLP, as written."""

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
    ExportModel,
    Recognizer,
    Segmenter,
    TextDetector,
    WrappedModel,
    enliven,
)
from paddle import nn
from paddle.utils import try_import
from quantized_networks import PACT, assert_exported, assert_goes_on, first, names_of, quant_config, trained
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("under_the_alias")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    paddle.seed(0)


def square(x: Any) -> Any:
    """A loss: batches in, a number out."""
    return lambda net: sum((value**2).mean() for value in paddle.utils.flatten(net(x)))


def dynamic(net: nn.Layer, x: Any) -> Any:
    """What a network computes whose forward to_static has wrapped, without the seconds of tracing that."""
    paddle.jit.enable_to_static(False)
    try:
        return net(x)
    finally:
        paddle.jit.enable_to_static(True)


# ---------------------------------------------------------------------------------------- PaddleOCR


@pytest.mark.parametrize("act", [PACT, None])
def test_paddleocr_quant_and_export_model(tmp_path: Path, act: Any) -> None:
    """deploy/slim/quantization/quant.py, and export_model.py: a new network, the checkpoint, to_static, no input_spec.

    ``act`` is None when a student of a distillation is frozen.
    """
    from paddleslim.dygraph.quant import QAT

    x = paddle.randn([2, 3, 32, 32])
    model = enliven(TextDetector())
    names = names_of(model)
    quanter = QAT(config=quant_config(), act_preprocess=act)
    quanter.quantize(model)
    assert [name for name in names_of(model) if name in names] == names
    alphas = [value for name, value in model.named_parameters() if name.endswith("._layer._act_preprocess.alpha")]
    assert len(alphas) == (14 if act else 0)
    for alpha in alphas:
        alpha.set_value(paddle.ones([1]))  # so that there is something to clip
    optimizer = trained(model, lambda net: ((net(x)["maps"] - 0.5) ** 2).mean())
    paddle.save(model.state_dict(), str(tmp_path / "best_accuracy.pdparams"))
    paddle.save(optimizer.state_dict(), str(tmp_path / "best_accuracy.pdopt"))

    # resume: quant.py loads the checkpoint of the quantized network and its optimizer
    with paddle.utils.unique_name.guard():
        resumed = TextDetector()
        QAT(config=quant_config(), act_preprocess=act).quantize(resumed)
    missing, unexpected = resumed.set_state_dict(paddle.load(str(tmp_path / "best_accuracy.pdparams")))
    assert not missing and not unexpected
    model.eval(), resumed.eval()
    np.testing.assert_array_equal(first(resumed(x)), first(model(x)))
    model.train(), resumed.train()

    # export_model.py: always without act_preprocess
    with paddle.utils.unique_name.guard():
        exported = TextDetector()
    quanter = QAT(config=quant_config())
    quanter.quantize(exported)
    params = paddle.load(str(tmp_path / "best_accuracy.pdparams"))
    needed = exported.state_dict()
    assert not [key for key in needed if key not in params]
    exported.set_state_dict({key: params[key] for key in needed})
    exported.eval()
    expected = first(exported(x))
    from paddle.jit import to_static

    exported = to_static(exported, input_spec=[paddle.static.InputSpec(shape=[None, 3, -1, -1], dtype="float32")])
    quanter.save_quantized_model(exported, str(tmp_path / "inference"))
    found = assert_exported(tmp_path / "inference", expected, x.numpy(), ops=13)
    assert paddle.in_dynamic_mode()
    other = paddle.randn([1, 3, 64, 48])
    np.testing.assert_allclose(found.run([other.numpy()])[0], first(dynamic(exported, other)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first(dynamic(exported, x)), expected)


def test_paddleocr_rep_after_wrapping(tmp_path: Path) -> None:
    """ppocr/utils/export_model.py on PP-LCNetV3: rep() reads the weights of wrapped layers, makes a new convolution."""
    from paddleslim.dygraph.quant import QAT

    x = paddle.randn([2, 3, 32, 64])
    model = enliven(Recognizer())
    quanter = QAT(config=quant_config(), act_preprocess=PACT)
    quanter.quantize(model)
    trained(model, square(x))
    model.eval()
    before = first(model(x))
    from paddle.jit import to_static

    model = to_static(model, input_spec=[paddle.static.InputSpec(shape=[None, 3, 32, -1], dtype="float32")])
    for layer in model.sublayers():
        if hasattr(layer, "rep") and not getattr(layer, "is_repped"):  # noqa: B009
            layer.rep()
    repped = first(dynamic(model, x))
    np.testing.assert_allclose(repped, before, atol=0.02)  # three convolutions in one, whose grids differ
    quanter.save_quantized_model(model, str(tmp_path / "inference"))
    from slimkit import Model, load_quantized

    found = Model.load(tmp_path / "inference").run([x.numpy()])[0]
    np.testing.assert_allclose(found, repped, atol=0.02)
    assert abs(found - repped).max() > 0
    table = load_quantized(tmp_path / "inference").table
    assert len(table.ops) == 7  # the stem, three that rep() made, two of squeeze and excitation, the head
    assert paddle.in_dynamic_mode()
    np.testing.assert_array_equal(first(dynamic(model, x)), repped)


def test_checkpoint_keys() -> None:
    """COMPAT.md's keys, for built-in PACT as for none; the values load into another network."""
    from paddleslim import QAT

    for kind in ("PACT", None):
        net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
        names = names_of(net)
        QAT(config=quant_config(activation_preprocess_type=kind)).quantize(net)
        of_pact = {"_act_preprocess.alpha"} if kind else set()
        each = {"weight", "bias", "_fake_quant_weight._scale", *of_pact}
        each |= {f"_fake_quant_input.{key}" for key in ("_scale", "_state", "_accum")}
        assert net.state_dict().keys() == {f"{place}._layer.{key}" for place in "03" for key in each}
        trained(net, square(paddle.randn([2, 3, 8, 8])))
        state = {key: value.numpy() for key, value in net.state_dict().items()}
        np.testing.assert_array_equal(
            state["0._layer._fake_quant_weight._scale"].shape, [4]
        )  # one a channel of the convolution
        assert state["3._layer._fake_quant_weight._scale"].shape == (2,)
        assert [name for name in names_of(net) if name in names] == names


def test_paddleocr_data_parallel(tmp_path: Path) -> None:
    """quant.py with Global.distributed: DataParallel around the quantized network."""
    from paddleslim.dygraph.quant import QAT

    x = paddle.randn([4, 3, 32, 32])
    model = enliven(Classifier())
    quanter = QAT(config=quant_config(), act_preprocess=PACT)
    quanter.quantize(model)
    inner, model = model, paddle.DataParallel(model)
    trained(model, square(x))
    model.eval()
    expected = first(model(x))
    spec = [paddle.static.InputSpec(shape=[None, 3, 32, 32], dtype="float32")]
    quanter.save_quantized_model(model, str(tmp_path / "model"), input_spec=spec)
    assert_exported(tmp_path / "model", expected, x.numpy(), ops=7)
    np.testing.assert_array_equal(first(model(x)), expected)
    np.testing.assert_array_equal(first(inner(x)), expected)
    assert_goes_on(model, square(x))


# --------------------------------------------------------------------------------------- PaddleClas

QUANT_CONFIG = quant_config()  # a global of ppcls/arch/slim/quant.py, which changes it


def test_paddleclas_quantize_model_and_export(tmp_path: Path) -> None:
    """ppcls/arch/slim/quant.py; engine.py's export: a deepcopy in a wrapper, to_static, the inner model's quanter."""
    x = paddle.randn([2, 3, 32, 32])

    def quantize_model(model: nn.Layer, mode: str = "train") -> None:
        from paddleslim.dygraph.quant import QAT

        QUANT_CONFIG["activation_preprocess_type"] = "PACT"
        if mode in ["infer", "export"]:
            QUANT_CONFIG["activation_preprocess_type"] = None
        for layer in model.sublayers():
            if hasattr(layer, "re_parameterize"):
                layer.re_parameterize()
        model.quanter = QAT(config=QUANT_CONFIG)
        model.quanter.quantize(model)
        paddle.summary(model, (1, 3, 32, 32))

    model = enliven(Classifier())
    quantize_model(model)
    trained(model, square(x))
    paddle.save(model.state_dict(), str(tmp_path / "best_model.pdparams"))
    model.eval()
    with_pact = first(model(x))

    for mode, net in (("export", Classifier()), ("train", model)):  # from a checkpoint, and the model at hand
        if mode == "export":
            quantize_model(net, mode)
            net.set_state_dict(paddle.load(str(tmp_path / "best_model.pdparams")))
        net = ExportModel(copy.deepcopy(net))
        net.eval()
        np.testing.assert_array_equal(first(net.base_model(x)), with_pact)  # PACT's alpha is the scale
        expected = first(net(x))
        save_path = str(tmp_path / mode / "inference")
        net = paddle.jit.to_static(
            net, input_spec=[paddle.static.InputSpec(shape=[None, 3, 32, 32], dtype="float32")]
        )  # fmt: skip
        net.base_model.quanter.save_quantized_model(net, save_path + "_int8")
        assert_exported(save_path + "_int8", expected, x.numpy(), ops=7)
        np.testing.assert_array_equal(first(dynamic(net, x)), expected)
    assert_goes_on(model, square(x))


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


# ------------------------------------------------------------------------------ PaddleNLP, the demos


class TextClassifier(nn.Layer):
    """A transformer layer in small; (ids, mask=None) to [N, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder = nn.Embedding(50, 16), nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)
        self.classifier = nn.Linear(16, 3)

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        x = self.embeddings(input_ids)
        if attention_mask is not None:
            attention_mask = (1.0 - attention_mask.unsqueeze([1, 2]).astype("float32")) * -1e4
        return self.classifier(self.encoder(x, attention_mask).mean(1))


@pytest.mark.parametrize("use_pact", [True, False])
def test_paddlenlp_trainer_compress(tmp_path: Path, use_pact: bool) -> None:
    """paddlenlp/trainer/trainer_compress.py: PACT of weights too, forward by keywords, onnx_format, two inputs."""
    from paddleslim import QAT

    config = {
        "activation_preprocess_type": "PACT" if use_pact else None,
        "weight_preprocess_type": "PACT" if use_pact else None,
        "weight_quantize_type": "channel_wise_abs_max", "activation_quantize_type": "moving_average_abs_max",
        "weight_bits": 8, "activation_bits": 8, "dtype": "int8", "window_size": 10000,
        "quantizable_layer_type": ["Linear", "Conv2D"], "moving_rate": 0.9, "onnx_format": use_pact,
    }  # fmt: skip
    model = enliven(TextClassifier())
    quanter = QAT(config=config)
    quanter.quantize(model)
    ids, mask = paddle.randint(0, 50, [2, 6]), paddle.to_tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": mask}
    trained(model, lambda net: (net(**batch) ** 2).mean())
    paddle.save(model.state_dict(), str(tmp_path / "best_quant.pdparams"))
    model.set_state_dict(paddle.load(str(tmp_path / "best_quant.pdparams")))
    input_spec = [paddle.static.InputSpec([None, None], "int64"), paddle.static.InputSpec([None, None], "int64")]
    quanter.save_quantized_model(model, str(tmp_path / "int8"), input_spec=input_spec)
    assert model.training
    model.eval()
    assert_exported(tmp_path / "int8", first(model(**batch)), ids.numpy(), mask.numpy(), ops=7)
    assert_goes_on(model, lambda net: (net(**batch) ** 2).mean())


def test_paddleslim_demo(tmp_path: Path) -> None:
    """demo/dygraph/quant/train.py: summaries, DataParallel, checkpoints of it; and the tutorial's paddle.Model."""
    from paddleslim import QAT

    x = paddle.randn([4, 3, 32, 32])
    net = enliven(Classifier())
    whole = paddle.summary(net, (1, 3, 32, 32))["total_params"]
    quanter = QAT(config=quant_config(activation_preprocess_type="PACT", onnx_format=False))
    quanter.quantize(net)
    assert paddle.summary(net, (1, 3, 32, 32))["total_params"] >= whole
    net = paddle.DataParallel(net)
    trained(net, square(x))
    paddle.save(net.state_dict(), str(tmp_path / "best_model.pdparams"))
    net.set_dict(paddle.load(str(tmp_path / "best_model.pdparams")))
    net.eval()
    quanter.save_quantized_model(
        net, str(tmp_path / "qat_model"), input_spec=[paddle.static.InputSpec(shape=[None, 3, 32, 32], dtype="float32")]
    )
    found = assert_exported(tmp_path / "qat_model", first(net(x)), x.numpy(), ops=7)
    assert "quantize_linear" not in found.op_counts()  # onnx_format: False

    net = enliven(Classifier())
    quanter = QAT(quant_config())
    quanter.quantize(net)
    inputs = [paddle.static.InputSpec([None, 3, 32, 32], "float32", name="image")]
    labels = [paddle.static.InputSpec([None, 1], "int64", name="label")]
    model = paddle.Model(net, inputs, labels)
    optimizer = paddle.optimizer.Momentum(learning_rate=1e-3, parameters=net.parameters())
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy(topk=(1, 5)))
    model.train_batch([x], [paddle.zeros([4, 1], "int64")])
    model.eval_batch([x], [paddle.zeros([4, 1], "int64")])
    net.eval()
    quanter.save_quantized_model(net, str(tmp_path / "hapi"), input_spec=inputs)
    assert_exported(tmp_path / "hapi", first(net(x)), x.numpy(), ops=7)


def test_forward_by_to_static_after_saving(tmp_path: Path) -> None:
    """A network whose forward to_static has wrapped is called and trained on after it was saved."""
    from paddleslim import QAT

    x = paddle.randn([2, 3, 8, 8])
    net = enliven(nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)))
    quanter = QAT(quant_config())
    quanter.quantize(net)
    trained(net, square(x))
    paddle.save(net.state_dict(), str(tmp_path / "best.pdparams"))
    net.eval()
    expected = first(net(x))
    net = paddle.jit.to_static(net, input_spec=[paddle.static.InputSpec([None, 3, 8, 8])], full_graph=True)
    quanter.save_quantized_model(net, str(tmp_path / "model"))
    assert_exported(tmp_path / "model", expected, x.numpy(), ops=2)
    np.testing.assert_allclose(first(net(x)), expected, atol=1e-6)
    assert_goes_on(net, square(x))

    loaded = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    QAT(quant_config()).quantize(loaded)
    loaded.set_state_dict(paddle.load(str(tmp_path / "best.pdparams")))
    loaded.eval()  # traced before it ever ran in dynamic mode: its checkpoint says that it has seen activations
    loaded = paddle.jit.to_static(loaded, input_spec=[paddle.static.InputSpec([None, 3, 8, 8])], full_graph=True)
    np.testing.assert_allclose(first(loaded(x)), expected, atol=1e-6)


def test_arguments_of_qat(tmp_path: Path) -> None:
    """Every argument by its name; a copy when asked for; classes of one's own for each of the four."""
    from paddleslim.dygraph.quant import QAT

    class Quantize(nn.Layer):
        def forward(self, x: Any) -> Any:
            scale = x.abs().max() / 127
            return x + ((x / scale).round() * scale - x).detach()

    x = paddle.randn([2, 3, 32, 32])
    net = enliven(Classifier())
    net.eval()
    whole = first(net(x))
    quantized = QAT().quantize(net, inplace=False)
    assert type(net.fc) is nn.Linear and type(quantized.fc) is not nn.Linear
    np.testing.assert_array_equal(first(net(x)), whole)
    quanter = QAT(
        config=None, weight_preprocess=PACT, act_preprocess=PACT, weight_quantize=Quantize, act_quantize=Quantize
    )
    net = quanter.quantize(net)
    error = np.abs(first(net(x)) - whole).max()
    assert 0 < error < 0.05 * np.abs(whole).max()
    trained(net, square(x))
    alphas = [value.item() for key, value in net.state_dict().items() if key.endswith("_act_preprocess.alpha")]
    assert len(alphas) == 7


def test_transposed_convolutions_and_fused_norms(tmp_path: Path) -> None:
    """quantizable_layer_type and fuse_conv_bn, which the configs of COMPAT.md name."""
    from paddleslim.dygraph.quant import QAT

    x = paddle.randn([1, 3, 32, 32])
    net = enliven(TextDetector())
    net.eval()
    whole = first(net(x))
    quanter = QAT(quant_config(quantizable_layer_type=["Conv2D", "Conv2DTranspose", "Linear"], fuse_conv_bn=True))
    quanter.quantize(net)
    np.testing.assert_allclose(first(net(x)), whole, atol=0.05)
    trained(net, lambda net: ((net(x)["maps"] - 0.5) ** 2).mean())
    net.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    quanter.save_quantized_model(net, str(tmp_path / "model"), spec)
    assert_exported(tmp_path / "model", first(net(x)), x.numpy(), ops=15)
