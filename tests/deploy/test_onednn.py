from __future__ import annotations

import pytest

from slimkit.deploy.onednn import executed, fallbacks, hazards, parse_verbose
from slimkit.deploy.program_desc import OpDesc, ProgramView

V = "onednn_verbose,v1,primitive,exec,cpu,"
C = f"{V}convolution,brg,forward_inference,"
LINES = f"""
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost
{V}reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:s8::blocked:acdb::f0,attr-scales:src0:0:f32,,1x3x8x8,0.01
{C}src:u8:a:blocked:acdb::f0 wei:s8:a:blocked:A::f0 bia:f32::b:a::f0 dst:u8:a:b:a::f0,,alg:d,mb1,0.05
{C}src:f32:a:blocked:acdb::f0 wei:f32:a:blocked:A::f0 dst:f32:a:b:a::f0,,alg:d,mb1,0.2
{V}binary,jit,undef,src:f32::b:abcd::f0 src:f32::b:abcd::f0 dst:f32::b:abcd::f0,,alg:binary_mul,1x8,0.03
{V}pooling,jit_int,forward_inference,src:u8::blocked:acdb::f0 dst:u8:a:blocked:acdb::f0,,alg:pooling_avg,mb1,0.02
onednn_verbose,v1,graph,exec,cpu,something
not a line
"""
OLDER = (
    "onednn_verbose,exec,cpu,inner_product,gemm,forward_inference,"
    "src_s8::blocked:ab:f0 wei_s8::blocked:ab:f0 dst_f32::blocked:ab:f0,,,mb1,0.04"
)


def test_parse_verbose_counts_by_kind_and_precision():
    primitives, spent = parse_verbose(LINES)
    assert primitives["convolution"] == {"int8": 1, "f32": 1}
    assert primitives["reorder"] == {"f32->s8": 1}
    assert primitives["binary"] == {"f32": 1} and primitives["pooling"] == {"int8": 1}
    assert spent == pytest.approx({"reorder": 0.01, "int8 compute": 0.05, "float compute": 0.2, "other": 0.05})


def test_parse_verbose_reads_the_older_form():
    assert parse_verbose(OLDER)[0] == {"inner_product": {"int8": 1}}


def test_executed_counts_only_between_the_marks():
    log = f"{LINES}\n@slimkit-mark start one\n{OLDER}\n@slimkit-mark end one\n{LINES}"
    found = executed(log, None)
    assert (found["int8"], found["float"]) == (1, 0)
    assert found["isa"] == "Intel AVX-512 with Intel DL Boost"


def op(type_, out, weight="w", residual=None, **attrs):
    inputs = {"Filter": [weight], "Input": ["x"], **({"ResidualData": [residual]} if residual else {})}
    return OpDesc(type_, inputs, {"Output": [out]}, attrs)


def view(*ops):
    return ProgramView(list(ops), {}, 0)


INT8 = {"mkldnn_data_type": "int8"}


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (op("fused_conv2d", "y", skip_quant=1), "no quantize op"),
        (op("fused_conv2d", "y", residual="r"), "residual input or its output has no scale"),
        (op("fused_conv2d", "y"), "its input has no scale"),
        (op("conv2d_transpose", "y"), "no conv2d_transpose"),
        (op("conv2d_transpose_bias", "y"), "no conv2d_transpose"),
        (op("mul", "y"), "without a bias"),
    ],
)
def test_fallback_reasons(left, says):
    found = fallbacks(view(op("fused_conv2d", "z", **INT8), left, op("relu", "r")))
    assert len(found) == 1 and says in found[0]["reason"] and found[0]["weight"] == "w"


def test_signed_residual_before_relu_is_a_hazard():
    shortcut = op("fused_conv2d", "r", **INT8)
    block = op("fused_conv2d", "y", residual="r", fuse_activation="relu", **INT8)
    assert "half its range" in hazards(view(shortcut, block))[0]["problem"]
    unsigned = op("fused_conv2d", "r", fuse_activation="relu", **INT8)
    assert hazards(view(unsigned, block)) == []
    plain = op("fused_conv2d", "y", residual="r", fuse_activation="leaky_relu", **INT8)
    assert hazards(view(shortcut, plain)) == []
