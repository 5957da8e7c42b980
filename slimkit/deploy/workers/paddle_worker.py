"""Worker process around ``paddle.inference`` on CPU. Started by ``slimkit.deploy.session``."""

import zlib  # noqa: F401, I001  (must be loaded before paddle)
import sys

import worker_protocol as protocol

REPLIES = protocol.set_up(sys.argv[1:4])
THREADS = int(sys.argv[2])

import numpy as np  # noqa: E402
from paddle import inference  # noqa: E402

PREDICTORS = {}  # type: dict


def load(key, model, params, mode, optimized_to=None):
    """Builds a predictor. ``mode``: "float" (oneDNN), "int8" (oneDNN int8), "plain" (no oneDNN: the
    quantize ops of a quantized model are simulated in float)."""
    config = inference.Config(model, params)
    config.disable_gpu()
    config.enable_new_ir(False)
    config.enable_new_executor(False)
    config.set_cpu_math_library_num_threads(THREADS)
    config.disable_glog_info()
    if mode == "plain":
        config.disable_mkldnn()  # it is on by default, and refuses some simulated models
    else:
        config.enable_mkldnn()
    if mode == "int8":
        config.enable_mkldnn_int8()
    if optimized_to:
        config.set_optim_cache_dir(optimized_to)
        config.enable_save_optim_model(True)
    predictor = inference.create_predictor(config)
    PREDICTORS[key] = predictor
    return {"inputs": predictor.get_input_names(), "outputs": predictor.get_output_names()}


def feed(predictor, arrays):
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(arrays[name]))


def run(key, feeds, out):
    predictor = PREDICTORS[key]
    with np.load(feeds) as arrays:
        feed(predictor, arrays)
    predictor.run()
    names = predictor.get_output_names()
    np.savez(out, **{f"o{i}": predictor.get_output_handle(name).copy_to_cpu() for i, name in enumerate(names)})
    return {"outputs": len(names)}


def bench(keys, feeds, warmup, rounds, budget_seconds):
    with np.load(feeds) as arrays:
        for key in keys:
            feed(PREDICTORS[key], arrays)
    runs = {key: PREDICTORS[key].run for key in keys}
    return {"times": protocol.time_rounds(runs, warmup, rounds, budget_seconds)}


def mark(label):
    protocol.mark(label)


protocol.serve(REPLIES, {"load": load, "run": run, "bench": bench, "mark": mark})
