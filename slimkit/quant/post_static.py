"""``quant_post_static``: PaddleSlim's post-training quantization, over :func:`post_training_quantize`."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import ConfigError, nearest
from slimkit.ir.model import Model
from slimkit.quant.calibration_data import CalibrationFeeds
from slimkit.quant.config import QuantRule
from slimkit.quant.export import export_program
from slimkit.quant.ops import ACTIVATION_OPS, WEIGHT_OPS
from slimkit.quant.ptq import post_training_quantize
from slimkit.quant.ptq_config import PtqConfig

__all__ = ["name_list", "quant_post", "quant_post_static", "saved_prefix"]

WEIGHTED = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2")
ACTIVATION_TYPES = ("range_abs_max", "moving_average_abs_max", "abs_max")
#: deploy_backend -> (row of CAPABILITIES, rewrite for a runtime). None: as asked, for any runtime.
BACKENDS = {
    None: ("paddle-onnx", None),
    "tensorrt": ("paddle-onnx", None),
    "mkldnn": ("paddle", "onednn"),
    "arm": ("lite-arm", None),
}


def quant_post_static(
    executor: Any,
    model_dir: str,
    quantize_model_path: str,
    batch_generator: Any = None,
    sample_generator: Any = None,
    data_loader: Any = None,
    model_filename: Optional[str] = None,
    params_filename: Optional[str] = None,
    save_model_filename: Optional[str] = "model.pdmodel",
    save_params_filename: Optional[str] = "model.pdiparams",
    batch_size: int = 1,
    batch_nums: Optional[int] = None,
    scope: Any = None,
    algo: str = "hist",
    round_type: str = "round",
    hist_percent: float = 0.9999,
    bias_correction: bool = False,
    quantizable_op_type: Sequence[str] = WEIGHTED,
    is_full_quantize: bool = False,
    weight_bits: int = 8,
    activation_bits: int = 8,
    activation_quantize_type: str = "range_abs_max",
    weight_quantize_type: str = "channel_wise_abs_max",
    optimize_model: bool = False,
    onnx_format: bool = True,
    skip_tensor_list: Optional[Sequence[str]] = None,
    deploy_backend: Optional[str] = None,
) -> None:
    """Quantizes a saved float model from calibration data, with PaddleSlim 2.6's arguments and defaults.

    Where it differs: all three kinds of data work; data is read once; activation and weight bits may differ; activation
    scales are always the ones found (``activation_quantize_type`` named an op of the old format); nothing but the
    model's two files is written.

    Args:
        executor: its place is where calibration runs; None: CPU.
        model_dir: folder or prefix of the float model.
        quantize_model_path: folder to write.
        batch_generator: function that returns an iterator of batches; see ``CalibrationFeeds``.
        sample_generator: function that returns an iterator of samples.
        data_loader: ``paddle.io.DataLoader``, or any iterable of batches.
        model_filename: the model file in ``model_dir``.
        params_filename: the parameter file in ``model_dir``.
        save_model_filename: the model file to write.
        save_params_filename: the parameter file to write; None: named as the model file.
        batch_size: samples a batch, for ``sample_generator``.
        batch_nums: batches to take; None: all.
        scope: not needed, the model is read from its files.
        algo: KL, hist, avg, mse, emd, abs_max or min_max.
        round_type: ``round`` or ``adaround``.
        hist_percent: fraction of values ``hist`` keeps.
        bias_correction: correct each layer's mean in its bias.
        quantizable_op_type: op types to quantize.
        is_full_quantize: every op type that can be.
        weight_bits, activation_bits: 2 to 16.
        activation_quantize_type: range_abs_max, moving_average_abs_max or abs_max.
        weight_quantize_type: channel_wise_abs_max or abs_max.
        optimize_model: fold batch norm into weights first.
        onnx_format: write the onnx format; else the old one.
        skip_tensor_list: names of tensors; ops that read or write one stay float.
        deploy_backend: None, tensorrt, mkldnn or arm: what is quantized for mkldnn and arm is what they execute.

    Raises:
        ConfigError: an argument that is not allowed, or not exactly one kind of data.
        DataError, TrainingError: the data does not fit the inputs, is empty, or gives NaN.
        ModelError: the model cannot be read, is quantized already, or fails on the data.
    """
    row, runtime = _backend(deploy_backend)
    target = saved_prefix(quantize_model_path, save_model_filename, "quantize_model_path")
    for key, number in (("batch_size", batch_size), ("batch_nums", 1 if batch_nums is None else batch_nums)):
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise ConfigError(f"{key} = {number!r}: it is a whole number, at least 1.")
    _one_of("round_type", round_type, ("round", "adaround"))
    _one_of("activation_quantize_type", activation_quantize_type, ACTIVATION_TYPES)
    settings = PtqConfig.read(
        {
            "algo": algo,
            "hist_percent": float(hist_percent) if isinstance(hist_percent, (int, np.number)) else hist_percent,
            "weight_quantize_type": weight_quantize_type,
            "activation_bits": activation_bits,
            "weight_bits": weight_bits,
            "affine": False,
            "quantize_op_types": _op_types(quantizable_op_type, is_full_quantize),
            "fold_batch_norm": optimize_model,
            "bias_correction": bias_correction,
            "adaround": round_type == "adaround",
            "rules": _skip_rules(skip_tensor_list),
        }
    )
    model = Model.load(_source(model_dir), model_filename=model_filename, params_filename=params_filename)
    feeds = CalibrationFeeds(model, sample_generator, batch_generator, data_loader, batch_size, batch_nums)
    place = getattr(executor, "place", None)
    quantized = post_training_quantize(model, feeds, (row,), settings, place).quantized[row]
    fmt = "onnx" if onnx_format else "old"
    written = export_program(quantized.model, quantized.table, fmt, runtime=runtime).save(target)
    if save_params_filename is not None:
        _rename_params(written, save_params_filename)


def quant_post(*args: Any, **kwargs: Any) -> None:
    """The older name of :func:`quant_post_static`."""
    quant_post_static(*args, **kwargs)


def saved_prefix(folder: Any, model_filename: Optional[str], key: str) -> Path:
    """Where a model is written: the file name's ``.pdmodel`` is left out, None is ``model``.

    Raises:
        ConfigError: the folder, given as the argument ``key``, is no path.
    """
    if not isinstance(folder, (str, Path)):
        raise ConfigError(f"{key} = {folder!r} is no path; give the folder to write.")
    name = model_filename or "model"
    return Path(folder) / (name[: -len(".pdmodel")] if name.endswith(".pdmodel") else name)


def _rename_params(model_file: Path, name: str) -> None:
    wanted = name if name.endswith(".pdiparams") or "." in name or name.startswith("__") else f"{name}.pdiparams"
    beside = model_file.with_suffix(".pdiparams")
    if beside.name != wanted:
        os.replace(beside, model_file.parent / wanted)


def _source(model_dir: str) -> str:
    return str(model_dir).rstrip("/") or ("/" if str(model_dir) else ".")


def _backend(name: Optional[str]) -> Tuple[str, Optional[str]]:
    key = name.lower() if name and isinstance(name, str) else name or None
    if key not in BACKENDS:
        raise ConfigError(f"deploy_backend = '{name}': allowed are None, tensorrt, mkldnn and arm.")
    return BACKENDS[key]


def _one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        close = nearest(str(value), allowed)
        meant = f"; did you mean '{close}'?" if close else "."
        raise ConfigError(f"{key} = '{value}': allowed are {', '.join(allowed)}{meant}")


def _op_types(asked: Sequence[str], full: bool) -> List[str]:
    return list(dict.fromkeys([*WEIGHT_OPS, *ACTIVATION_OPS])) if full else name_list("quantizable_op_type", asked)


def _skip_rules(names: Optional[Sequence[str]]) -> List[QuantRule]:
    listed = name_list("skip_tensor_list", names or [])
    return [QuantRule(names=[glob.escape(name) for name in listed], skip=True)] if listed else []


def name_list(key: str, names: Any) -> List[str]:
    """A list of names that is one.

    Raises:
        ConfigError: it is not, given as the argument ``key``.
    """
    if not isinstance(names, (list, tuple, set)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{key} = {names!r} is no list of names; give a list, also of one.")
    return list(names)
