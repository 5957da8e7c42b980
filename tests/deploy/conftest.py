from __future__ import annotations

import pytest

from slimkit.deploy import paddle_inference
from slimkit.deploy.lite import X86

from .programs import CONV, HARD_SWISH, POINT, POOL, Builder, conv2d, hard_swish, integers, random

WEIGHT, SECOND = random(1, 8, 4, 3, 3, size=0.2), random(2, 8, 8, 3, 3, size=0.2)
INPUT = random(3, 2, 4, 10, 10).clip(-3, 3)
SHAPE = [-1, 4, 10, 10]
MIDDLE = float(abs(hard_swish(conv2d(INPUT, WEIGHT))).max())


def two_convolutions(builder: Builder, quantize: bool) -> str:
    """conv -> hard_swish -> conv; with Q/DQ on what the convolutions read."""
    x = builder.qdq("x", 3.0, "a") if quantize else "x"
    first = builder.weight(WEIGHT, "w") if quantize else builder.param("w", WEIGHT)
    y = builder.op("hard_swish", {"X": builder.conv(x, first, "y")}, {"Out": "h"}, **HARD_SWISH)
    y = builder.qdq(y, MIDDLE, "b") if quantize else y
    second = builder.weight(SECOND, "v") if quantize else builder.param("v", SECOND)
    return builder.conv(y, second, "out")


def old_format(builder: Builder) -> str:
    """fake_quantize -> conv with integers as float32 -> fake_dequantize."""
    attrs = {"bit_length": 8, "is_test": True, "moving_rate": 0.9, "round_type": 0}
    scale = builder.param("a.scale", random(0, 1) * 0 + 3.0)
    x = builder.op(
        "fake_quantize_moving_average_abs_max", {"X": "x", "InScale": scale}, {"Out": "q", "OutScale": scale}, **attrs
    )
    q, w_scale = integers(WEIGHT)
    y = builder.conv(x, builder.param("w", q.astype("float32")), "y")
    scales = [builder.param("w.scale", w_scale), scale]
    attrs = {"quant_bits": [8, 8], "quant_axis": 0, "x_num_col_dims": 1}
    return builder.op("fake_channel_wise_dequantize_max_abs", {"X": y, "Scales": scales}, {"Out": "out"}, **attrs)


def squeeze_excite(builder: Builder, blocker: bool) -> str:
    """conv -> hard_swish -> (average pool [-> assign] -> conv -> hard_sigmoid) * -> conv, all convs quantized."""
    y = builder.conv(builder.qdq("x", 3.0, "a"), builder.weight(WEIGHT, "w"), "y")
    y = builder.op("hard_swish", {"X": y}, {"Out": "h"}, **HARD_SWISH)
    pooled = builder.op("pool2d", {"X": y}, {"Out": "p"}, **POOL)
    pooled = builder.op("assign", {"X": pooled}, {"Out": "pa"}) if blocker else pooled
    means = abs(hard_swish(conv2d(INPUT, WEIGHT)).mean((2, 3))).max()
    point = builder.weight(random(5, 8, 8, 1, 1), "s")
    gate = builder.conv(builder.qdq(pooled, float(means), "pq"), point, "g", **POINT)
    gate = builder.op("hard_sigmoid", {"X": gate}, {"Out": "gs"}, slope=0.2, offset=0.5)
    y = builder.op("elementwise_mul", {"X": y, "Y": gate}, {"Out": "m"}, axis=-1)
    return builder.conv(builder.qdq(y, MIDDLE, "b"), builder.weight(SECOND, "v"), "out")


def fully_connected(builder: Builder) -> str:
    """4*10*10 -> 16 -> bias, quantized: int8 fc, which Paddle gets wrong."""
    flat = builder.op("reshape2", {"X": "x"}, {"Out": "f", "XShape": "fx"}, shape=[-1, 400])
    weight = random(6, 400, 16) * [[10.0**i for i in (0, 1)] * 8]
    y = builder.op(
        "matmul_v2",
        {"X": builder.qdq(flat, 3.0, "a"), "Y": builder.weight(weight.astype("float32"), "w", axis=1)},
        {"Out": "y"},
        trans_x=False,
        trans_y=False,
    )
    return builder.op("elementwise_add", {"X": y, "Y": builder.param("b", random(7, 16))}, {"Out": "out"}, axis=-1)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, str]:
    """name -> prefix of a small model with input x (-1, 4, 10, 10)."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "float": lambda b: two_convolutions(b, False),
        "onnx": lambda b: two_convolutions(b, True),
        "old": old_format,
        "se": lambda b: squeeze_excite(b, False),
        "se_assign": lambda b: squeeze_excite(b, True),
        "fc": fully_connected,
        "four_bits": lambda b: b.conv(b.qdq("x", 3.0, "a", bits=4), b.weight(WEIGHT, "w"), "out"),
        "transposed": lambda b: b.conv(
            b.qdq("x", 3.0, "a"), b.weight(random(8, 4, 8, 3, 3), "w"), "out", type_="conv2d_transpose", **CONV
        ),
    }
    prefixes = {}
    for name, build in made.items():
        builder = Builder()
        prefixes[name] = builder.save(folder / name, SHAPE, build(builder))
    return prefixes


@pytest.fixture(scope="session")
def paddle_session():
    """One Paddle Inference worker for all tests that need no clean one."""
    with paddle_inference.open_session(pin=False) as session:
        yield session


@pytest.fixture(scope="session")
def outputs_of(paddle_session, models):
    """``outputs_of(name, mode, batch)``: the first output of a model of :func:`models`."""

    def run(name, mode, batch=INPUT):
        key = f"{name}-{mode}"
        if key not in paddle_session.inputs:
            paddle_inference.load(paddle_session, key, models[name], mode)
        return paddle_session.run(key, batch)[0]

    return run


@pytest.fixture(scope="session")
def needs_lite():
    missing = X86.available()
    if missing:
        pytest.skip(missing)
