"""Networks built with Paddle's static API as PaddleSlim's tutorials and tests build them, under the same names.

They need Paddle only and are built by Paddle 2.6 (where ``assets/make_paddleslim_pruned.py`` runs) and, inside
``slimkit.legacy_ir()``, by Paddle 3. Weights are a function of the parameter's name and shape, so both have the same.
"""

import warnings
import zlib

import numpy as np
import paddle

warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", message=".*is deprecated since.*")


def conv_bn(x, filters, size, name, stride=1, groups=1, act=None):
    """A convolution and a batch norm, named as in PaddleSlim's documents."""
    conv = paddle.static.nn.conv2d(
        x, filters, size, stride=stride, padding=(size - 1) // 2, groups=groups,
        param_attr=paddle.ParamAttr(name=name + "_weights"), bias_attr=False, name=name + "_out",
    )  # fmt: skip
    bn = name + "_bn"
    return paddle.static.nn.batch_norm(
        conv, act=act, name=bn + "_output",
        param_attr=paddle.ParamAttr(name=bn + "_scale"), bias_attr=paddle.ParamAttr(name=bn + "_offset"),
        moving_mean_name=bn + "_mean", moving_variance_name=bn + "_variance",
    )  # fmt: skip


#: MobileNetV1 after its first layer: name, width, stride.
MOBILE = [
    ("conv2_1", 64, 1), ("conv2_2", 128, 2), ("conv3_1", 128, 1), ("conv3_2", 256, 2), ("conv4_1", 256, 1),
    ("conv4_2", 512, 2), *[(f"conv5_{i}", 512, 1) for i in range(1, 6)], ("conv5_6", 1024, 2), ("conv6", 1024, 1),
]  # fmt: skip


def mobile_net(image, scale=1.0, classes=10):
    """MobileNetV1 (arXiv:1704.04861); image [N, C, H, W] to logits [N, classes]."""
    width = int(32 * scale)
    x = conv_bn(image, width, 3, "conv1", stride=2, act="relu")
    for name, filters, stride in MOBILE:
        x = conv_bn(x, width, 3, name + "_dw", stride=stride, groups=width, act="relu")
        width = int(filters * scale)
        x = conv_bn(x, width, 1, name + "_sep", act="relu")
    x = paddle.nn.functional.adaptive_avg_pool2d(x, 1)
    return paddle.static.nn.fc(
        x, classes, weight_attr=paddle.ParamAttr(name="fc7_weights"), bias_attr=paddle.ParamAttr(name="fc7_offset")
    )


def residual(image, last=True):
    """Six convolutions with two additions: conv1, conv2 and conv4 go together; image [N, C, H, W]."""
    conv1 = conv_bn(image, 8, 3, "conv1")
    conv2 = conv_bn(conv1, 8, 3, "conv2")
    sum1 = conv1 + conv2
    conv3 = conv_bn(sum1, 8, 3, "conv3")
    conv4 = conv_bn(conv3, 8, 3, "conv4")
    sum2 = conv4 + sum1
    conv5 = conv_bn(sum2, 8, 3, "conv5")
    return conv_bn(conv5, 8, 3, "conv6") if last else conv5


def concatenated(image):
    """conv3 is added to conv1 and conv2 side by side."""
    both = paddle.concat([conv_bn(image, 8, 3, "conv1"), conv_bn(image, 8, 3, "conv2")], axis=1)
    return conv_bn(conv_bn(image, 16, 3, "conv3") + both, 4, 3, "conv4")


def fixed_values(name, shape):
    """float32 of a shape, a function of the name; variances are positive."""
    values = np.random.RandomState(zlib.crc32(name.encode()) % 2**31).standard_normal(shape).astype("float32")
    return np.abs(values) + 0.5 if "variance" in name else values * 0.5


def fill(program, scope):
    """Puts fixed values into every parameter, optimizer state too."""
    for var in program.list_vars():
        if var.persistable and scope.find_var(var.name) is not None and "learning_rate" not in var.name:
            scope.find_var(var.name).get_tensor().set(fixed_values(var.name, tuple(var.shape)), paddle.CPUPlace())
