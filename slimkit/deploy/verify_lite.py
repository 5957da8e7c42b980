"""The Paddle-Lite rows of a verification."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Union

import numpy as np

from slimkit.deploy import lite
from slimkit.deploy.batches import one_batch
from slimkit.deploy.notes import NOT_FASTER
from slimkit.deploy.runtime import latency_of
from slimkit.deploy.verify import Job, collect, ratio
from slimkit.deploy.verify_report import VerifyRow
from slimkit.errors import RuntimeFailedError, RuntimeUnavailableError

__all__ = ["lite_rows"]


def lite_rows(
    job: Job, name: str, simulated: Sequence[np.ndarray], python: Optional[Union[str, Path]] = None
) -> List[VerifyRow]:
    """Converts both models with Paddle-Lite and, on x86, runs them.

    Args:
        job: what is verified.
        name: "lite-x86" or "lite-arm".
        simulated: the simulated model's first output for each batch.
        python: the side interpreter.

    Returns:
        A float row and one for the quantized model, with ``error`` set where there are no numbers.
    """
    target = name.split("-", 1)[1]
    where = "x86" if target == "x86" else "ARM (converted, not run)"
    rows = {
        "float": VerifyRow(name, f"Paddle-Lite {where}, float", "float"),
        "quantized": VerifyRow(name, f"Paddle-Lite {where}, quantized", "int8"),
    }
    models = {"float": job.float_prefix, "quantized": job.quant_for(name)}
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        files: Dict[str, Path] = {}
        for key, row in rows.items():
            try:
                made = lite.convert(models[key], f"{folder}/{key}.nb", target, python=python)
            except (RuntimeUnavailableError, RuntimeFailedError) as error:
                row.error = str(error)
                continue
            files[key] = made.path
            row.size_bytes = made.size_bytes
            _describe(row, made)
        if target == "x86":
            _run(job, rows, files, simulated, python)
    return list(rows.values())


def _describe(row: VerifyRow, made: lite.Converted) -> None:
    if made.arithmetic == lite.ON_GRID:
        row.precision = "float on the int8 grid"
        row.notes.append(
            f"Paddle-Lite's x86 int8 kernels are wrong, so x86 gets {lite.ON_GRID}; it is neither smaller nor faster "
            "than float, and shows that the model survives conversion."
        )
    elif row.precision == "int8":
        row.int8_primitives = made.int8_kernels
        compute = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "fc", "mul", "matmul", "matmul_v2")
        row.float_primitives = sum(made.kernels.get(op, {}).get("float", 0) for op in compute)
        row.notes.append(
            f"Not run: this machine has no ARM. Paddle-Lite chose int8 kernels for "
            f"{sum(made.kernels.get(op, {}).get('int8', 0) for op in compute)} of the "
            f"{sum(sum(made.kernels.get(op, {}).values()) for op in compute)} convolutions and matrix products."
        )
    else:
        row.notes.append("" if made.target == "x86" else "Not run: this machine has no ARM.")
        row.notes = [note for note in row.notes if note]


def _run(
    job: Job,
    rows: Dict[str, VerifyRow],
    files: Dict[str, Path],
    simulated: Sequence[np.ndarray],
    python: Optional[Union[str, Path]],
) -> None:
    float_outputs: List[np.ndarray] = []
    for key in [key for key in rows if key in files]:
        row = rows[key]
        try:
            with lite.open_session(python, pin=False) as session:
                session.load("model", model=str(files[key]))
                against = simulated if key == "quantized" else []
                outputs = collect(job, session, str(files[key]), row, float_outputs, against)
        except RuntimeFailedError as error:
            row.error = str(error)
            del files[key]
            continue
        float_outputs = outputs if key == "float" else float_outputs
    if job.latency_seconds <= 0 or not files:
        return
    with lite.open_session(python) as session:
        for key, path in files.items():
            session.load(key, model=str(path))
        for size in job.batch_sizes:
            times = session.bench(list(files), one_batch(job.batches, size), budget_seconds=job.latency_seconds)
            for key in files:
                rows[key].latency[size] = latency_of(times[key], 1)
            if len(files) == 2:
                found = ratio(times["float"], times["quantized"])
                rows["quantized"].speed_ratio[size] = found
                if found < NOT_FASTER and rows["quantized"].precision == "int8":
                    rows["quantized"].notes.append(f"int8 is not faster at batch {size} ({found:.2f}x).")
