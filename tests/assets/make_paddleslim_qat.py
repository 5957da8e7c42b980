"""Makes ``paddleslim_qat.zip``: checkpoints of a small network that PaddleSlim 2.6 trained quantized, and its exports.

Run it where paddlepaddle 2.6.2 and paddleslim 2.6.0 are installed (CPython 3.10), nothing of slimkit is needed:

    python make_paddleslim_qat.py make [OUT.zip]
    python make_paddleslim_qat.py load FILE.npz    loads what test_checkpoints_of_paddleslim.py says it wrote

For each of ``KINDS`` the archive has ``KIND.pdparams``, what PaddleSlim's ``save_quantized_model`` wrote, and in
``reference.npz`` the input ``x`` and the network's outputs in eval mode, without the preprocess layer as PaddleSlim
exports it (``KIND``) and with it (``KIND.trained``).
"""

import os
import sys
import tempfile
import zipfile

import numpy as np
import paddle
from paddle import nn

#: Kind -> what differs from the config that PaddleOCR and PaddleClas spell out.
KINDS = {
    "plain": {},
    "pact": {"activation_preprocess_type": "PACT"},
    "users_pact": {},
    "old_format": {"onnx_format": False},
}
CONFIG = {
    "weight_preprocess_type": None,
    "activation_preprocess_type": None,
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "weight_bits": 8,
    "activation_bits": 8,
    "dtype": "int8",
    "window_size": 10000,
    "moving_rate": 0.9,
    "quantizable_layer_type": ["Conv2D", "Conv2DTranspose", "Linear"],
}


class PACT(nn.Layer):
    """PaddleOCR's, with an alpha small enough to clip."""

    def __init__(self):
        super().__init__()
        alpha_attr = paddle.ParamAttr(
            name=self.full_name() + ".pact",
            initializer=paddle.nn.initializer.Constant(value=1.5),
            learning_rate=1.0,
            regularizer=paddle.regularizer.L2Decay(2e-5),
        )
        self.alpha = self.create_parameter(shape=[1], attr=alpha_attr, dtype="float32")

    def forward(self, x):
        out_left = paddle.nn.functional.relu(x - self.alpha)
        out_right = paddle.nn.functional.relu(-self.alpha - x)
        x = x - out_left + out_right
        return x


class Network(nn.Layer):
    """One of each kind of layer, one of them left float; [N, 3, 8, 8] to [N, 4]."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2D(3, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8)
        self.depthwise = nn.Conv2D(8, 8, 3, stride=2, padding=1, groups=8)
        self.up = nn.Conv2DTranspose(8, 6, 2, stride=2)
        self.skipped = nn.Conv2D(6, 6, 1)
        self.skipped.skip_quant = True
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = nn.functional.relu(self.bn(self.conv(x)))
        x = nn.functional.relu(self.depthwise(x))
        x = nn.functional.relu(self.skipped(self.up(x)))
        return self.fc(x.mean([2, 3]))


def quantizer(kind, qat):
    """The object of a kind, by the class QAT."""
    return qat(config={**CONFIG, **KINDS[kind]}, act_preprocess=PACT if kind == "users_pact" else None)


def images(seed=0):
    return np.random.RandomState(seed).standard_normal((4, 3, 8, 8)).astype("float32")


def train(net, steps=6):
    """Some steps; every batch another, so that the moving averages move."""
    random = np.random.RandomState(1)
    for name, value in net.named_parameters():
        if "alpha" not in name and "scale" not in name and "state" not in name and "accum" not in name:
            fan = np.prod(value.shape[1:]) if len(value.shape) > 1 else 1
            spread = random.standard_normal(value.shape) * np.sqrt(2 / fan) * (1 if len(value.shape) > 1 else 0.1)
            if not name.endswith(("_mean", "_variance")):
                value.set_value((spread + ("bn" in name and "weight" in name)).astype("float32"))
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=net.parameters())
    net.train()
    for step in range(steps):
        (net(paddle.to_tensor(images(step) * (1 + step / 4))) ** 2).mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    net.eval()


def make(path):
    from paddleslim import QAT

    arrays = {"x": images(9)}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in KINDS:
            paddle.seed(0)
            net = Network()
            quanter = quantizer(kind, QAT)
            quanter.quantize(net)
            train(net)
            state = {key: value.numpy() for key, value in net.state_dict().items()}
            paddle.save(state, os.path.join(folder, kind + ".pdparams"))
            arrays[kind + ".trained"] = net(paddle.to_tensor(arrays["x"])).numpy()
            bare = Network()
            plain = QAT(config={**CONFIG, **KINDS[kind], "activation_preprocess_type": None})
            plain.quantize(bare)
            bare.set_state_dict({key: value for key, value in state.items() if "alpha" not in key})
            bare.eval()
            arrays[kind] = bare(paddle.to_tensor(arrays["x"])).numpy()
            spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
            plain.save_quantized_model(bare, os.path.join(folder, kind), input_spec=spec)
            for end in (".pdparams", ".pdmodel", ".pdiparams"):
                archive.write(os.path.join(folder, kind + end), kind + end)
        np.savez(os.path.join(folder, "reference.npz"), **arrays)
        archive.write(os.path.join(folder, "reference.npz"), "reference.npz")


def load(path):
    """Loads checkpoints of slimkit, KIND.pdparams in the folder of the .npz, and compares what the networks compute."""
    from paddleslim import QAT

    reference = np.load(path)
    for kind in KINDS:
        net = Network()
        quantizer(kind, QAT).quantize(net)
        state = paddle.load(os.path.join(os.path.dirname(path), kind + ".pdparams"))
        missing = [key for key in net.state_dict() if key not in state]
        net.set_state_dict(state)
        net.eval()
        error = np.abs(net(paddle.to_tensor(reference["x"])).numpy() - reference[kind + ".trained"]).max()
        print(kind, "error", error, "missing", [key for key in missing if "_ma_output_scale" not in key])


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(sys.argv[2])
    else:
        make(sys.argv[2] if len(sys.argv) > 2 else "paddleslim_qat.zip")
