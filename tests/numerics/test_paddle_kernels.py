"""slimkit.numerics against Paddle's own kernels: equal to the bit where the arithmetic is the same."""

import numpy as np
import pytest

from slimkit.numerics.affine import affine_grid, fake_quantize_affine
from slimkit.numerics.rounding import PADDLE_ROUND_TYPES, round_half_even
from slimkit.numerics.scales import MovingAverageScale, WindowMaxScale, abs_max, channel_wise_abs_max
from slimkit.numerics.straight_through import pact_clip, pact_gradients
from slimkit.numerics.symmetric import dequantize, fake_quantize, quantize

BITS = (2, 4, 8, 12, 16)
ROUNDINGS = tuple(PADDLE_ROUND_TYPES)
CASES = [(bits, rounding) for bits in BITS for rounding in ROUNDINGS]


def one(value):
    return np.full(1, value, np.float32)


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    spread = rng.normal(0, 3, (6, 8, 50)).astype(np.float32)
    spread[:, :, :20] = np.round(spread[:, :, :20] * 2) / 2  # ties, for scales that are whole
    return spread


@pytest.mark.parametrize("bits, rounding", CASES)
@pytest.mark.parametrize("scale", [2.7182817, 1.0, 127.0, 7.0, 1e-20, 2e-31, 0.0])
def test_fixed_scale(run_op, x, bits, rounding, scale):
    attrs = {"bit_length": bits, "is_test": True, "round_type": PADDLE_ROUND_TYPES[rounding], "moving_rate": 0.9}
    inputs = {"X": x, "InScale": one(scale)}
    outputs = {"Out": x.shape, "OutScale": "InScale"}
    both = run_op("fake_quantize_dequantize_moving_average_abs_max", inputs, outputs, attrs)["Out"]
    assert np.array_equal(both, fake_quantize(x, scale, bits, rounding=rounding))
    whole = run_op("fake_quantize_moving_average_abs_max", inputs, outputs, attrs)["Out"]
    assert np.array_equal(whole, quantize(x, scale, bits, rounding=rounding))


@pytest.mark.parametrize("bits, rounding", CASES)
def test_dynamic_abs_max(run_op, x, bits, rounding):
    attrs = {"bit_length": bits, "round_type": PADDLE_ROUND_TYPES[rounding]}
    outputs = {"Out": x.shape, "OutScale": (1,)}
    both = run_op("fake_quantize_dequantize_abs_max", {"X": x}, outputs, attrs)
    whole = run_op("fake_quantize_abs_max", {"X": x}, outputs, attrs)
    scale = abs_max(x)
    assert both["OutScale"][0] == whole["OutScale"][0] == scale
    assert np.array_equal(both["Out"], fake_quantize(x, scale, bits, rounding=rounding))
    assert np.array_equal(whole["Out"], quantize(x, scale, bits, rounding=rounding))


@pytest.mark.parametrize("bits, rounding", CASES)
@pytest.mark.parametrize("axis", [0, 1])
def test_channel_wise_abs_max(run_op, x, bits, rounding, axis):
    attrs = {"bit_length": bits, "round_type": PADDLE_ROUND_TYPES[rounding], "quant_axis": axis}
    outputs = {"Out": x.shape, "OutScale": (x.shape[axis],)}
    both = run_op("fake_channel_wise_quantize_dequantize_abs_max", {"X": x}, outputs, attrs)
    whole = run_op("fake_channel_wise_quantize_abs_max", {"X": x}, outputs, attrs)
    scale = channel_wise_abs_max(x, axis)
    assert np.array_equal(both["OutScale"], scale)
    assert np.array_equal(both["Out"], fake_quantize(x, scale, bits, axis, rounding))
    assert np.array_equal(whole["Out"], quantize(x, scale, bits, axis, rounding))


@pytest.mark.parametrize("bits, rounding", CASES)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_linear_and_dequantize_linear(run_op, x, bits, rounding, axis):
    scale = one(3.3) if axis is None else channel_wise_abs_max(x, axis)
    attrs = {
        "quant_axis": -1 if axis is None else axis,
        "bit_length": bits,
        "qmin": -(2 ** (bits - 1)),
        "qmax": 2 ** (bits - 1) - 1,
        "round_type": PADDLE_ROUND_TYPES[rounding],
        "is_test": True,
        "only_observer": False,
    }
    grid = {"Scale": scale, "ZeroPoint": np.zeros_like(scale)}
    whole = run_op("quantize_linear", {"X": x, **grid}, {"Y": x.shape}, attrs)["Y"]
    assert np.array_equal(whole, quantize(x, scale, bits, axis, rounding))
    back = run_op("dequantize_linear", {"X": whole, **grid}, {"Y": x.shape}, attrs)["Y"]
    assert np.array_equal(back, dequantize(whole, scale, bits, axis))


def test_old_format_dequantize(run_op, x):
    q = quantize(x, 3.0).astype(np.float32)
    back = run_op("fake_dequantize_max_abs", {"X": q, "Scale": one(3.0)}, {"Out": x.shape}, {"max_range": 127.0})
    assert np.array_equal(back["Out"], dequantize(q, 3.0))


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_moving_average_uses_the_new_scale_in_the_same_step(run_op, rounding):
    rng = np.random.default_rng(1)
    tracker = MovingAverageScale(0.9)
    accum, state, scale = one(0), one(0), one(0.001)
    attrs = {"bit_length": 8, "is_test": False, "round_type": PADDLE_ROUND_TYPES[rounding], "moving_rate": 0.9}
    for _ in range(12):
        batch = rng.normal(0, rng.uniform(0.1, 5), 40).astype(np.float32)
        got = run_op(
            "fake_quantize_dequantize_moving_average_abs_max",
            {"X": batch, "InScale": scale, "InAccum": accum, "InState": state},
            {"Out": batch.shape, "OutScale": "InScale", "OutAccum": "InAccum", "OutState": "InState"},
            attrs,
        )
        tracked = tracker.update(batch)
        scale, accum, state = got["OutScale"], got["OutAccum"], got["OutState"]
        assert np.array_equal(got["Out"], fake_quantize(batch, scale, rounding=rounding))
        assert np.allclose([scale[0], accum[0], state[0]], [tracked, tracker.accum, tracker.state], rtol=1e-6, atol=0)


def test_range_abs_max_is_the_windows_maximum(run_op):
    tracker = WindowMaxScale(window=3)
    scale, ring = one(0.001), np.zeros(3, np.float32)
    for step, magnitude in enumerate([1, 5, 2, 3, 1, 0.5, 0.25, 4, 0.1, 0.1, 0.1, 0.2]):
        batch = np.array([magnitude, -magnitude / 2, 0], np.float32)
        got = run_op(
            "fake_quantize_range_abs_max",
            {"X": batch, "InScale": scale, "Iter": np.full(1, step, np.int64), "OutScales": ring},
            {"Out": (3,), "OutScale": "InScale", "OutScales": "OutScales"},
            {"window_size": 3, "bit_length": 8, "is_test": False, "round_type": 1},
        )
        scale, ring = got["OutScale"], got["OutScales"]
        assert scale[0] == tracker.update(batch)
        assert np.array_equal(got["Out"], quantize(batch, scale))


def test_round_op_rounds_ties_to_even(run_op):
    ties = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388609.0], np.float32)
    got = run_op("round", {"X": ties}, {"Out": ties.shape}, {})["Out"]
    assert np.array_equal(got, round_half_even(ties))


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_affine_grid_against_a_chain_of_ops(run_op, x, bits):
    grid = affine_grid(x.min(), x.max(), bits)
    step, zero = one(grid.step), one(float(grid.zero_point))
    scaled = run_op("elementwise_div", {"X": x, "Y": step}, {"Out": x.shape}, {"axis": -1})["Out"]
    rounded = run_op("round", {"X": scaled}, {"Out": x.shape}, {})["Out"]
    q = np.clip(rounded + zero, 0, 2**bits - 1)
    back = run_op("elementwise_mul", {"X": q - zero, "Y": step}, {"Out": x.shape}, {"axis": -1})["Out"]
    assert np.array_equal(back, fake_quantize_affine(x, grid))


def test_pact_is_paddles_clip(run_op, x):
    ends = {"Min": one(-2.0), "Max": one(2.0)}
    attrs = {"min": 0.0, "max": 0.0}
    assert np.array_equal(run_op("clip", {"X": x, **ends}, {"Out": x.shape}, attrs)["Out"], pact_clip(x, 2.0))


def test_pact_gradient_is_that_of_paddles_autograd(x):
    import paddle

    data, weight = paddle.to_tensor(x, stop_gradient=False), np.random.default_rng(2).normal(size=x.shape)
    alpha = paddle.to_tensor(one(2.0), stop_gradient=False)
    upstream = weight.astype(np.float32)
    y = data - paddle.nn.functional.relu(data - alpha) + paddle.nn.functional.relu(-alpha - data)
    (y * paddle.to_tensor(upstream)).sum().backward()
    dx, dalpha = pact_gradients(x, upstream, 2.0)
    off_the_ends = np.abs(np.abs(x) - 2.0) > 0
    assert np.allclose(data.grad.numpy()[off_the_ends], dx[off_the_ends], atol=1e-6)
    assert float(alpha.grad.numpy()[0]) == pytest.approx(float(dalpha), rel=1e-4)
