"""An exported network's inputs have the names that ``paddle.jit.save`` gives them."""

import paddle
from paddle import nn
from paddle.static import InputSpec

from slimkit.ir import Model
from slimkit.quant.layers import QAT

FEED = InputSpec([None, 3, 8, 8], "float32")


class Net(nn.Layer):
    """One convolution; its arguments as PaddleOCR and PaddleDetection have them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 2, 3)

    def forward(self, x, data=None):
        """What is exported."""
        return self.conv(x["image"] if isinstance(x, dict) else x[0] + x[1] if isinstance(x, list) else x)


def feeds(path, spec, compiled=False):
    """Feeds of the exported network."""
    network = Net()
    quanter = QAT()
    quanter.quantize(network)
    network.train()
    network(paddle.ones([1, 3, 8, 8]))
    network.eval()
    if compiled:
        network = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
    quanter.save_quantized_model(network, str(path / "m"), None if compiled else spec)
    return Model.load(path / "m").feeds


def test_of_the_argument(tmp_path):
    assert feeds(tmp_path, [FEED]) == ["x"]


def test_of_a_network_that_to_static_wrapped(tmp_path):
    assert feeds(tmp_path, [FEED], compiled=True) == ["x"]


def test_own_name(tmp_path):
    assert feeds(tmp_path, [InputSpec([None, 3, 8, 8], "float32", "picture")]) == ["picture"]


def test_of_a_list(tmp_path):
    assert sorted(feeds(tmp_path, [[FEED, FEED]])) == ["x_0", "x_1"]


def test_of_a_dict(tmp_path):
    assert feeds(tmp_path, [{"image": FEED}]) == ["image"]
