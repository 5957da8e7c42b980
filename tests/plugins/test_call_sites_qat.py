"""Every call of dygraph QAT by PaddleOCR and PaddleClas, as they write it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from client_networks import (
    Classifier,
    ExportModel,
    Recognizer,
    TextDetector,
    enliven,
)
from paddle import nn
from quantized_networks import (
    PACT,
    assert_exported,
    assert_goes_on,
    dynamic,
    first,
    names_of,
    quant_config,
    square,
    trained,
)
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import load_quantized

pytestmark = pytest.mark.usefixtures("under_the_alias")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    paddle.seed(0)


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
    from slimkit import Model

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
