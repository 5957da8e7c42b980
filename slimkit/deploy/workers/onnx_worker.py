"""Worker process around ONNX Runtime and paddle2onnx. Started by ``slimkit.deploy.session``."""

import zlib  # noqa: F401, I001  (must be loaded before paddle)
import os
import sys

import worker_protocol as protocol

REPLIES = protocol.set_up(sys.argv[1:4])
THREADS = int(sys.argv[2])

import numpy as np  # noqa: E402

SESSIONS = {}  # type: dict


def convert(model, params, out, opset):
    """Converts a legacy model by paddle2onnx, which prints why it fails and then trips over its own result."""
    import paddle2onnx

    try:
        paddle2onnx.export(
            model, params, out, opset_version=opset, verbose=True, enable_onnx_checker=False, optimize_tool=None
        )
    except UnboundLocalError:
        return {"written": False}
    return {"written": os.path.exists(out) and os.path.getsize(out) > 0}


def load(key, model, mode, profile_to=None):
    """Builds a session. ``mode``: "optimized", or "plain" (no graph optimization: every op as the file says)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if mode == "plain" else levels.ORT_ENABLE_ALL
    if profile_to:
        options.enable_profiling = True
        options.profile_file_prefix = profile_to
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    SESSIONS[key] = session
    return {"inputs": [i.name for i in session.get_inputs()], "outputs": [o.name for o in session.get_outputs()]}


def read(session, arrays):
    return {entry.name: np.ascontiguousarray(arrays[entry.name]) for entry in session.get_inputs()}


def run(key, feeds, out):
    session = SESSIONS[key]
    with np.load(feeds) as arrays:
        outputs = session.run(None, read(session, arrays))
    np.savez(out, **{f"o{i}": value for i, value in enumerate(outputs)})
    return {"outputs": len(outputs)}


def bench(keys, feeds, warmup, rounds, budget_seconds):
    def call(session, feed):
        return lambda: session.run(None, feed)

    with np.load(feeds) as arrays:
        runs = {key: call(SESSIONS[key], read(SESSIONS[key], arrays)) for key in keys}
    return {"times": protocol.time_rounds(runs, warmup, rounds, budget_seconds)}


def end_profile(key):
    """Closes a session's profile; returns its file."""
    return {"file": SESSIONS[key].end_profiling()}


def mark(label):
    protocol.mark(label)


def version():
    import onnxruntime

    return {"version": onnxruntime.__version__}


COMMANDS = {
    **{"convert": convert, "load": load, "run": run, "bench": bench, "mark": mark},
    **{"end_profile": end_profile, "version": version},
}
protocol.serve(REPLIES, COMMANDS)
