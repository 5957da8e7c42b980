"""What the ONNX Runtime profile and the reader of .onnx files say, on hand-made input."""

from __future__ import annotations

import json

import pytest

from slimkit.deploy import onnx_precision, onnx_runtime
from slimkit.deploy.onnx_inspect import describe_onnx
from slimkit.errors import ModelError

pytest.importorskip("onnx")


def _node(op, start, duration):
    return {"cat": "Node", "name": f"{op}_1_kernel_time", "ts": start, "dur": duration, "args": {"op_name": op}}


def _profile():
    """Two inferences of 100 us; what is outside them is the session's own."""
    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 50}, _node("Conv", 10, 5)]
    for start, scale in ((100, 3), (300, 1)):
        events.append({"cat": "Session", "name": "model_run", "ts": start, "dur": 100})
        events.append({"cat": "Node", "name": "QLinearConv_1_fence_before", "ts": start, "dur": 7})
        for at, (op, us) in enumerate([("QuantizeLinear", 2), ("QLinearConv", 20), ("Gemm", 4), ("HardSwish", 1)]):
            events.append(_node(op, start + 1 + at, us * scale))
    return json.dumps(events)


def test_profile_is_split_into_inferences_and_kinds_of_work():
    runs = onnx_precision.parse_profile(_profile())
    assert [len(run) for run in runs] == [4, 4]
    assert onnx_precision.by_work(runs[0])["int8 compute"] == 0.06
    best = onnx_precision.fastest(runs)
    assert onnx_precision.by_work(best) == {
        **{"int8 compute": 0.02, "float compute": 0.004},
        **{"reorder": 0.002, "other": 0.001},
    }
    assert [list(part) for part in onnx_precision.in_turn(runs, 2)] == [[runs[0]], [runs[1]]]


def test_broken_files_are_told(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07nonsense" * 9)
    with pytest.raises(ModelError, match=r"broken\.onnx is not an ONNX model"):
        describe_onnx(broken)
    with pytest.raises(ModelError, match=r"No ONNX model is at .*nothing"):
        onnx_runtime.onnx_file(tmp_path / "nothing")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="is empty"):
        onnx_runtime.onnx_file(tmp_path / "empty")


@pytest.mark.skipif(onnx_runtime.available() is not None, reason="needs onnxruntime")
def test_runtime_refuses_a_broken_file_in_one_sentence(tmp_path):
    from slimkit.errors import RuntimeFailedError

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nonsense")
    with pytest.raises(RuntimeFailedError, match=r"ONNX Runtime refused .*broken\.onnx"):
        onnx_runtime.run(broken, [])
