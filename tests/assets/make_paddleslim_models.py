"""Makes ``paddleslim_models.zip``: small models quantized by PaddleSlim 2.6, with what its Paddle computes for them.

Run it where paddlepaddle 2.6.2 and paddleslim 2.6.0 are installed (CPython 3.10), nothing of slimkit is needed:

    python make_paddleslim_models.py [OUT.zip]

Each model is ``NAME.pdmodel`` + ``NAME.pdiparams``; ``reference.npz`` has the images and each model's first result
by its name, ``float`` included, from Paddle 2.6.2's executor on CPU. Weight-only models do not run there: theirs is the
result of the test model that ``quant_post_dynamic`` writes beside them.
"""

import os
import sys
import tempfile
import zipfile

import numpy as np
import paddle
from paddle import nn
from paddleslim.dygraph.quant import QAT
from paddleslim.quant import convert, quant_aware, quant_post_dynamic, quant_post_static

SHAPE = [3, 16, 16]
WEIGHTED = ["conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2"]
PLACE = paddle.CPUPlace()


def images(seed, count):
    return np.random.RandomState(seed).randn(count, *SHAPE).astype("float32")


def bn(channels):
    layer = nn.BatchNorm2D(channels)
    random = np.random.RandomState(channels)
    layer._mean.set_value(random.randn(channels).astype("float32") * 0.1)
    layer._variance.set_value(1 + random.rand(channels).astype("float32"))
    return layer


class SqueezeExcite(nn.Layer):
    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.reduce = nn.Conv2D(channels, 4, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2D(4, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x):
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class SmallNet(nn.Layer):
    """Every kind of layer that has a weight: conv, depthwise, 1x1, transposed, linear; and squeeze-excitation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False), bn(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2D(8, 8, 3, 1, 1, groups=8, bias_attr=False), bn(8), nn.ReLU6())
        self.excite = SqueezeExcite(8)
        self.project = nn.Sequential(nn.Conv2D(8, 8, 1, bias_attr=False), bn(8))
        self.up = nn.Conv2DTranspose(8, 6, 2, 2)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(6, 10)
        self.softmax = nn.Softmax()

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project(self.excite(self.depthwise(x)))
        return self.softmax(self.head(self.flatten(self.pool(self.relu(self.up(x))))) * 40.0)


def small_net():
    paddle.seed(7)
    net = SmallNet()
    net.eval()
    return net


def spec():
    return [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]


def static(work):
    """Runs ``work(executor, scope)`` in static mode with a scope of its own."""
    paddle.enable_static()
    scope = paddle.static.Scope()
    try:
        with paddle.static.scope_guard(scope), paddle.utils.unique_name.guard():
            return work(paddle.static.Executor(PLACE), scope)
    finally:
        paddle.disable_static()


def post(folder, name, **settings):
    """Post-training quantization; on Paddle 2.6.2 PaddleSlim takes a DataLoader only."""

    class Images(paddle.io.Dataset):
        def __getitem__(self, index):
            return images(index, 1)[0]

        def __len__(self):
            return 16

    def work(executor, scope):
        feed = paddle.static.data("x", [None, *SHAPE], "float32")
        loader = paddle.io.DataLoader(Images(), batch_size=4, feed_list=[feed], places=[PLACE], return_list=False)
        quant_post_static(
            executor, folder, f"{folder}/{name}.files", data_loader=loader,
            model_filename="float.pdmodel", params_filename="float.pdiparams", scope=scope, batch_size=4,
            quantizable_op_type=settings.pop("quantizable_op_type", WEIGHTED), **settings
        )  # fmt: skip

    static(work)
    for suffix in ("pdmodel", "pdiparams"):
        os.replace(f"{folder}/{name}.files/model.{suffix}", f"{folder}/{name}.{suffix}")


def dynamic(folder, name, bits):
    def work(executor, scope):
        quant_post_dynamic(
            folder, f"{folder}/{name}.files", "float.pdmodel", "float.pdiparams", weight_bits=bits,
            quantizable_op_type=["conv2d", "depthwise_conv2d"], generate_test_model=True
        )  # fmt: skip

    static(work)
    for kind, target in (("quantized_model", name), ("test_model", f"{name}_test")):
        for suffix in ("pdmodel", "pdiparams"):
            os.replace(f"{folder}/{name}.files/{kind}/model.{suffix}", f"{folder}/{target}.{suffix}")


def aware(folder, name, frozen=True, **config):
    """quant_aware on the inference program, scales found by running train mode, then convert (or not)."""

    def work(executor, scope):
        config.setdefault("quantize_op_types", WEIGHTED)
        program, feeds, fetches = paddle.static.load_inference_model(f"{folder}/float", executor)
        train = quant_aware(program, PLACE, config, scope=scope, for_test=False, return_program=True)
        test = quant_aware(program, PLACE, config, scope=scope, for_test=True)
        for i in range(4):
            executor.run(train, feed={feeds[0]: images(i, 4)}, fetch_list=[], scope=scope)
        done = convert(test, PLACE, config, scope=scope) if frozen else test
        done = getattr(done, "_program", done)
        block = done.global_block()
        paddle.static.save_inference_model(
            f"{folder}/{name}", [block.var(feeds[0])], [block.var(fetches[0].name)], executor, program=done
        )

    static(work)


def dygraph(folder, name, **config):
    net = small_net()
    quanter = QAT(config={"quantizable_layer_type": ["Conv2D", "Linear", "Conv2DTranspose"], **config})
    quanter.quantize(net)
    net.train()
    for i in range(4):
        net(paddle.to_tensor(images(i, 4)))
    net.eval()
    quanter.save_quantized_model(net, f"{folder}/{name}", input_spec=spec())
    paddle.disable_static()


MODELS = {
    "post_onnx": lambda f, n: post(f, n, onnx_format=True, algo="hist"),
    "post_old": lambda f, n: post(f, n, onnx_format=False, algo="avg"),
    "post_old_tensor": lambda f, n: post(
        f, n, onnx_format=False, algo="abs_max", weight_quantize_type="abs_max",
        activation_quantize_type="moving_average_abs_max", quantizable_op_type=[*WEIGHTED, "elementwise_add", "pool2d"],
    ),
    "post_onnx_full": lambda f, n: post(f, n, onnx_format=True, algo="abs_max", is_full_quantize=True),
    "aware_onnx": lambda f, n: aware(f, n, onnx_format=True, weight_quantize_type="channel_wise_abs_max"),
    "aware_old": lambda f, n: aware(f, n, onnx_format=False, weight_quantize_type="channel_wise_abs_max",
                                    activation_quantize_type="moving_average_abs_max"),
    "aware_old_4": lambda f, n: aware(f, n, onnx_format=False, weight_quantize_type="abs_max", weight_bits=4,
                                      activation_bits=6, activation_quantize_type="range_abs_max"),
    "unfrozen_onnx": lambda f, n: aware(f, n, False, onnx_format=True, weight_quantize_type="channel_wise_abs_max"),
    "unfrozen_old": lambda f, n: aware(f, n, False, onnx_format=False, weight_quantize_type="abs_max",
                                       activation_quantize_type="moving_average_abs_max"),
    "dygraph_onnx": lambda f, n: dygraph(f, n, onnx_format=True, weight_quantize_type="channel_wise_abs_max"),
    "dygraph_old": lambda f, n: dygraph(f, n, onnx_format=False, weight_quantize_type="channel_wise_abs_max"),
    "dynamic_8": lambda f, n: dynamic(f, n, 8),
}  # fmt: skip


def result(prefix, x):
    def work(executor, scope):
        program, feeds, fetches = paddle.static.load_inference_model(prefix, executor)
        return executor.run(program, feed={feeds[0]: x}, fetch_list=fetches, scope=scope)[0]

    return static(work)


def main(out):
    reference = {"x": images(99, 4)}
    with tempfile.TemporaryDirectory() as folder:
        paddle.jit.save(small_net(), f"{folder}/float", input_spec=spec())
        only = os.environ.get("ONLY", "").split(",") if os.environ.get("ONLY") else list(MODELS)
        made = ["float"]
        for name in only:
            MODELS[name](folder, name)
            made += [n for n in (name, f"{name}_test") if os.path.exists(f"{folder}/{n}.pdmodel")]
        for name in made:
            if not (name.startswith("dynamic") and not name.endswith("test")):
                reference[name.replace("_test", "")] = result(f"{folder}/{name}", reference["x"])
        np.savez_compressed(f"{folder}/reference.npz", **reference)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in (n for n in made if not n.endswith("_test")):
                for suffix in ("pdmodel", "pdiparams"):
                    archive.write(f"{folder}/{name}.{suffix}", f"{name}.{suffix}")
            archive.write(f"{folder}/reference.npz", "reference.npz")
    print(out, os.path.getsize(out), "bytes")


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "paddleslim_models.zip"))
