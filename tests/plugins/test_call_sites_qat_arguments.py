"""Every call of dygraph QAT by PaddleNLP and PaddleSlim's demo, as they write it; every argument and value."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle
import pytest
from client_networks import (
    Classifier,
    TextDetector,
    enliven,
)
from paddle import nn
from quantized_networks import (
    PACT,
    assert_exported,
    assert_goes_on,
    first,
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


@pytest.mark.parametrize("onnx_format", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"activation_quantize_type": "abs_max"},
        {"activation_quantize_type": "range_abs_max", "window_size": 2},
        {"weight_quantize_type": "abs_max", "moving_rate": 0.5},
        {"weight_bits": 4, "activation_bits": 4, "activation_preprocess_type": "PACT"},
        {"weight_bits": 16, "activation_bits": 16, "weight_preprocess_type": "PACT"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_values_of_the_config(tmp_path: Path, changes: Dict[str, Any], onnx_format: bool) -> None:
    """The values that COMPAT's keys may have: what is exported is what was trained."""
    from paddleslim import QAT

    net = enliven(nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)))
    quanter = QAT(config=quant_config(**changes, onnx_format=onnx_format))
    quanter.quantize(net)
    trained(net, square(paddle.randn([4, 3, 8, 8])))
    net.eval()
    quanter.save_quantized_model(net, str(tmp_path / "model"), [paddle.static.InputSpec([None, 3, 8, 8])])
    x = paddle.randn([2, 3, 8, 8])
    assert_exported(tmp_path / "model", first(net(x)), x.numpy(), ops=2)
    weights = load_quantized(tmp_path / "model").table.weights()
    assert {params.bits for params in weights.values()} == {changes.get("weight_bits", 8)}
