"""Worker process around Paddle-Lite, run by CPython 3.8 or 3.10 with ``paddlelite`` and numpy installed.
Started by ``slimkit.deploy.session``; needs nothing of slimkit but ``worker_protocol`` beside it."""

import os
import sys

import worker_protocol as protocol

REPLIES = protocol.set_up(sys.argv[1:4])
os.environ.pop("GLOG_v", None)  # Paddle-Lite crashes with it

import numpy as np  # noqa: E402
from paddlelite import lite  # noqa: E402

PREDICTORS = {}  # type: dict
FILES = {}  # type: dict
SHAPES = {}  # type: dict
SETTERS = {"float32": "set_float_data", "int32": "set_int32_data", "uint8": "set_uint8_data", "int8": "set_int8_data"}


def convert(model, params, out, target, sparse=None):
    """Runs Paddle-Lite's ``opt``; writes ``out`` + ".nb"."""
    opt = lite.Opt()
    if sparse is not None:
        opt.set_sparse_model(True)
        opt.set_sparse_threshold(sparse)
    opt.run_optimize(os.path.dirname(model), model, params, "naive_buffer", target, out)
    return {"written": os.path.exists(out + ".nb")}


def load(key, model):
    config = lite.MobileConfig()
    config.set_model_from_file(model)
    predictor = lite.create_paddle_predictor(config)
    PREDICTORS[key], FILES[key], SHAPES[key] = predictor, model, None
    return {"inputs": list(predictor.get_input_names()), "outputs": list(predictor.get_output_names())}


def fed(key, arrays):
    """The predictor of ``key`` with its inputs set, a new one when their shapes differ from the last ones: x86
    kernels keep what they prepared for the first shape, and give wrong results or corrupt the heap for another."""
    shapes = {name: arrays[name].shape for name in PREDICTORS[key].get_input_names()}
    if SHAPES[key] not in (None, shapes):
        load(key, FILES[key])
    SHAPES[key] = shapes
    feed(PREDICTORS[key], arrays)
    return PREDICTORS[key]


def feed(predictor, arrays):
    # from_numpy() of 2.13rc0 delivers garbage; resize + set_*_data is right.
    for index, name in enumerate(predictor.get_input_names()):
        array = arrays[name]
        setter = SETTERS.get(str(array.dtype))
        if setter is None:
            allowed = ", ".join(SETTERS)
            raise TypeError(f"input {name} has dtype {array.dtype}, Paddle-Lite takes {allowed}")
        tensor = predictor.get_input(index)
        tensor.resize(list(array.shape))
        getattr(tensor, setter)(array.ravel().tolist())


def run(key, feeds, out):
    with np.load(feeds) as arrays:
        predictor = fed(key, arrays)
    predictor.run()
    outputs = {}  # type: dict
    for index in range(len(predictor.get_output_names())):
        outputs[f"o{index}"] = np.array(predictor.get_output(index).numpy())
    np.savez(out, **outputs)
    return {"outputs": len(outputs)}


def bench(keys, feeds, warmup, rounds, budget_seconds):
    with np.load(feeds) as arrays:
        runs = {key: fed(key, arrays).run for key in keys}
    return {"times": protocol.time_rounds(runs, warmup, rounds, budget_seconds)}


def version():
    return {"version": lite.Opt().version(), "python": sys.version.split()[0]}


protocol.serve(REPLIES, {"convert": convert, "load": load, "run": run, "bench": bench, "version": version})
