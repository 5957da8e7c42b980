"""The work of the PTQ benchmarks: PP-OCR's models on rendered pictures, by slimkit and by the peer.

The parent renders the calibration batches (fixed seeds, slimkit's cache) and writes them as a ``.npz`` that both sides
read, so this file imports neither slimkit nor Paddle before it is asked for work.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np


@dataclass(frozen=True)
class Kind:
    """A model's calibration: ``count`` pictures in batches of ``batch``; ``options`` of its task fix their size."""

    count: int
    batch: int
    options: Dict[str, Any]


KINDS = {
    "cls": Kind(32, 8, {}),
    "rec": Kind(32, 8, {"width": 320, "max_width": 320}),
    "det": Kind(8, 1, {"size": 640}),
}
#: Seed of the calibration pictures; evaluation pictures have seed 0.
SEED = 1


def write_batches(kind: str, file: Path, count: int = 0) -> str:
    """Renders the calibration batches of a model into a ``.npz``; returns the model's folder.

    Args:
        kind: a key of :data:`KINDS`.
        file: to write.
        count: pictures; 0: the kind's own.
    """
    from slimkit.ir import Model
    from slimkit.recipe.data.real_models import ppocr_model
    from slimkit.recipe.tasks import open_samples

    row, folder = KINDS[kind], ppocr_model(kind)
    _, samples = open_samples(Model.load(folder), f"rendered:{kind}:{count or row.count}:{SEED}", **row.options)
    arrays = [next(iter(feed.values())) for feed in samples.feeds(row.batch)]
    np.savez(file, *arrays)
    return str(folder)


def read_batches(file: str) -> List[np.ndarray]:
    """The batches of a ``.npz``, in order: float32 ``[n, 3, height, width]`` each."""
    with np.load(file) as arrays:
        return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]


def slimkit_float(folder: str, batches: List[np.ndarray]) -> Callable[[], None]:
    """Float inference by the executor that calibrates."""
    from slimkit.ir import Model

    model = Model.load(folder)

    def run() -> None:
        for batch in batches:
            model.run([batch])

    return run


def slimkit_ptq(folder: str, batches: List[np.ndarray], algo: str) -> Callable[[], None]:
    """What ``quant_post_static`` does: load, calibrate, quantize, write."""
    from slimkit.ir import Model
    from slimkit.quant import post_training_quantize
    from slimkit.quant.export import export_program

    def run() -> None:
        model = Model.load(folder)
        feeds = [{model.feeds[0]: batch} for batch in batches]
        quantized = post_training_quantize(model, feeds, ("paddle",), {"algo": algo}).quantized["paddle"]
        with tempfile.TemporaryDirectory() as out:
            export_program(quantized.model, quantized.table).save(Path(out) / "model")

    return run


def onednn_float(folder: str, batches: List[np.ndarray]) -> Callable[[], None]:
    """Float inference by Paddle Inference with oneDNN, which is faster than any executor that can be observed."""
    from paddle import inference

    config = inference.Config(f"{folder}/inference.pdmodel", f"{folder}/inference.pdiparams")
    config.enable_new_ir(False)
    config.enable_new_executor(False)
    config.set_cpu_math_library_num_threads(1)
    config.enable_mkldnn()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])

    def run() -> None:
        for batch in batches:
            handle.copy_from_cpu(batch)
            predictor.run()

    return run


def peer_float(folder: str, batches: List[np.ndarray]) -> Callable[[], None]:
    """Float inference by the peer's executor."""
    import paddle

    paddle.enable_static()
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        program, feeds, fetches = paddle.static.load_inference_model(
            folder, executor, model_filename="inference.pdmodel", params_filename="inference.pdiparams"
        )

    def run() -> None:
        with paddle.static.scope_guard(scope):
            for batch in batches:
                executor.run(program, feed={feeds[0]: batch}, fetch_list=fetches)

    return run


def peer_ptq(folder: str, batches: List[np.ndarray], algo: str) -> Callable[[], None]:
    """``quant_post_static`` of the peer, with its defaults but the algorithm."""
    import paddle
    from paddleslim.quant import quant_post_static

    paddle.enable_static()

    class Loader(paddle.io.DataLoader):  # the only kind of data that its PaddlePaddle takes
        def __init__(self) -> None:
            pass

        def __len__(self) -> int:
            return len(batches)

        def __iter__(self) -> Any:
            return iter([{"x": batch} for batch in batches])

        __call__ = __iter__

    def run() -> None:
        with tempfile.TemporaryDirectory() as out, paddle.static.scope_guard(paddle.static.Scope()):
            quant_post_static(
                executor=paddle.static.Executor(paddle.CPUPlace()),
                model_dir=folder,
                quantize_model_path=out,
                data_loader=Loader(),
                model_filename="inference.pdmodel",
                params_filename="inference.pdiparams",
                batch_size=len(batches[0]),
                batch_nums=len(batches),
                algo=algo,
            )

    return run
