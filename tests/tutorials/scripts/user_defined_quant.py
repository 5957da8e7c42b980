"""quant_aware with quantizers of the user's: weight_quantize_func, act_quantize_func, weight_preprocess_func.

After the API page (docs/zh_cn/api_cn/static/quant/quantization_api.rst) and tests/test_quant_aware_user_defined.py, on
a small network of paddle.static.nn; the data set is fashion_data's.
"""

import numpy as np
import paddle
from fashion_data import FashionMNIST, batch
from paddle.common_ops_import import LayerHelper
from paddleslim.quant import convert, quant_aware

paddle.enable_static()

image = paddle.static.data(name="image", shape=[None, 1, 28, 28], dtype="float32")
label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
hidden = paddle.static.nn.conv2d(image, num_filters=8, filter_size=5, stride=2, padding=2, act="relu")
hidden = paddle.static.nn.batch_norm(hidden)
hidden = paddle.static.nn.conv2d(hidden, num_filters=16, filter_size=3, stride=2, padding=1)
hidden = paddle.nn.functional.swish(hidden)
hidden = paddle.nn.functional.dropout(hidden, p=0.1)
out = paddle.static.nn.fc(hidden, size=10, activation="softmax")
avg_cost = paddle.mean(paddle.nn.functional.cross_entropy(out, label, use_softmax=False))
acc_top1 = paddle.static.accuracy(input=out, label=label, k=1)
train_prog = paddle.static.default_main_program()
val_prog = train_prog.clone(for_test=True)
scheduler = paddle.optimizer.lr.PiecewiseDecay(boundaries=[60], values=[0.003, 0.001])
opt = paddle.optimizer.Adam(scheduler, grad_clip=paddle.nn.ClipGradByGlobalNorm(5.0), weight_decay=1e-5)
opt.minimize(avg_cost)

place = paddle.CPUPlace()
exe = paddle.static.Executor(place)
exe.run(paddle.static.default_startup_program())


def transform(image):
    return image.transpose(2, 0, 1) / 127.5 - 1


def loader(mode):
    return paddle.io.DataLoader(
        FashionMNIST(mode, transform=transform), places=place, feed_list=[image, label], batch_size=batch(64),
        drop_last=True, return_list=False, shuffle=mode == "train",
    )  # fmt: skip


def train(program):
    for data in loader("train")():
        exe.run(program, feed=data, fetch_list=[avg_cost])
        scheduler.step()


def test(program):
    return np.mean([exe.run(program, feed=data, fetch_list=[acc_top1])[0] for data in loader("test")()])


def weight_quantize(weight):
    scale = paddle.max(paddle.abs(weight)) / 127.0
    return weight + (paddle.round(weight / scale) * scale - weight).detach()


def act_quantize(x):
    helper = LayerHelper("act_quantize")
    scale = helper.create_parameter(
        attr=paddle.ParamAttr(name=x.name + "_range", initializer=paddle.nn.initializer.Constant(6.0)),
        shape=[1], dtype="float32",
    )  # fmt: skip
    scale = paddle.abs(scale)
    clipped = paddle.minimum(paddle.maximum(x, -scale), scale)
    return clipped + (paddle.round(clipped / scale * 127.0) / 127.0 * scale - clipped).detach()


def optimizer():
    return paddle.optimizer.Momentum(0.001, 0.9)


config = {
    "weight_quantize_type": "channel_wise_abs_max",
    "activation_quantize_type": "moving_average_abs_max",
    "quantize_op_types": ["depthwise_conv2d", "mul", "conv2d"],
}
train(train_prog)
float_top1 = test(val_prog)
functions = {
    "weight_quantize_func": weight_quantize, "act_quantize_func": act_quantize, "optimizer_func": optimizer,
    "executor": exe,
}  # fmt: skip
user_train_prog = quant_aware(train_prog, place, config, for_test=False, **functions)
user_val_prog = quant_aware(val_prog, place, config, for_test=True, **functions)
train(user_train_prog)
user_top1 = test(user_val_prog)

# The same weights with the built-in quantizers, to deploy.
quant_train_prog = quant_aware(train_prog, place, config, for_test=False)
quant_val_prog = quant_aware(val_prog, place, config, for_test=True)
train(quant_train_prog)
quant_top1 = test(quant_val_prog)
print("top1: float {}, with the user's quantizers {}, built-in {}".format(float_top1, user_top1, quant_top1))
quant_infer_prog = convert(quant_val_prog, place, config)
paddle.static.save_inference_model("./user_defined/model", [image], [out], exe, program=quant_infer_prog)
