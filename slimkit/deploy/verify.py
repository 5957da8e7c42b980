"""Runs a float model and its quantized form where they will be deployed, and reports what that gave.

Outputs are compared batch by batch, so memory does not grow with the number of samples. Latency of float and
int8 is measured in one process, in alternating rounds, on the same pinned threads.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.deploy import paddle_inference
from slimkit.deploy.batches import check_batches, one_batch, rows_of
from slimkit.deploy.compare import AgreementCounter
from slimkit.deploy.notes import hazard_notes, speed_notes
from slimkit.deploy.runtime import RUNTIMES, get_runtime, latency_of
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.deploy.size import model_size
from slimkit.deploy.verify_report import VerifyReport, VerifyRow
from slimkit.errors import DataError, RuntimeFailedError

__all__ = ["Metric", "verify"]

Metric = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], float]
PathLike = Union[str, Path]


def verify(
    float_prefix: PathLike,
    quant_prefix: Union[PathLike, Mapping[str, PathLike]],
    samples: Sequence[Feed],
    labels: Optional[Sequence[np.ndarray]] = None,
    metric: Optional[Metric] = None,
    runtimes: Sequence[str] = ("paddle",),
    *,
    reference: Optional[Sequence[np.ndarray]] = None,
    batch_sizes: Sequence[int] = (1, 8),
    threads: int = 1,
    latency_seconds: float = 2.0,
    metric_name: str = "top-1",
    lite_python: Optional[PathLike] = None,
) -> VerifyReport:
    """Verifies a quantized model against its float model.

    Args:
        float_prefix: the float model, ``.pdmodel``/``.pdiparams``.
        quant_prefix: the quantized model, old or onnx format; or runtime -> its own export of the model, where
            "paddle" must be there and serves the runtimes that are not.
        samples: batches, each a dict by input name, a list in input order, or one array.
        labels: each batch's labels, (N,) or (N, 1).
        metric: from the first outputs of all batches and all labels to a number; top-1 accuracy by default.
        runtimes: keys of ``RUNTIMES``.
        reference: first output of the simulated (trained) model for each batch; by default the quantized model
            run in float on Paddle Inference without its int8 passes.
        batch_sizes: latency is measured at these.
        threads: CPU threads for latency.
        latency_seconds: about how long each model is timed at each batch size; 0 leaves latency out.
        metric_name: what ``metric`` is called in the report.
        lite_python: interpreter with ``paddlelite``, see ``lite_interpreter.find_interpreter``.

    Returns:
        A report whose first row is the float model on Paddle Inference.

    Raises:
        DataError: no samples, or labels that do not fit them.
        ModelError: a model is not there.
        RuntimeFailedError: the float model cannot be run at all.
        ConfigError: an unknown runtime.
    """
    batches = list(samples)
    check_batches(batches, labels)
    for name in runtimes:
        get_runtime(name)
    job = Job(float_prefix, quant_prefix, batches, labels, metric, batch_sizes, threads, latency_seconds)
    rows, simulated = _paddle_rows(job, reference)
    for name in runtimes:
        if name != "paddle":
            from slimkit.deploy.verify_lite import lite_rows

            rows += lite_rows(job, name, simulated, lite_python)
    named = metric_name if labels is not None else None
    return VerifyReport(rows, sum(map(rows_of, batches)), threads, named, machine())


class Job:
    """What is to be verified, and the accounting shared by the runtimes."""

    def __init__(
        self,
        float_prefix: PathLike,
        quant_prefix: Union[PathLike, Mapping[str, PathLike]],
        batches: List[Feed],
        labels: Optional[Sequence[np.ndarray]],
        metric: Optional[Metric],
        batch_sizes: Sequence[int],
        threads: int,
        latency_seconds: float,
    ) -> None:
        self.float_prefix, self._quant = float_prefix, quant_prefix
        self.quant_prefix = self.quant_for("paddle")
        self.batches, self.labels, self.metric = batches, labels, metric
        self.batch_sizes, self.threads, self.latency_seconds = batch_sizes, threads, latency_seconds

    def quant_for(self, runtime: str) -> PathLike:
        """The quantized model as it was exported for a runtime."""
        if not isinstance(self._quant, Mapping):
            return self._quant
        if "paddle" not in self._quant:
            raise DataError(f"The quantized models given are for {', '.join(self._quant)}; one for 'paddle' is needed.")
        return self._quant.get(runtime, self._quant["paddle"])

    def accuracy(self, scores: Scores) -> Optional[float]:
        """The metric of a run, None without labels."""
        if self.labels is None or not scores.samples:
            return None
        if self.metric is not None:
            return float(self.metric(scores.kept, self.labels))
        return scores.right / scores.samples


class Scores:
    """First outputs of one run: counted for top-1, kept only when a metric wants all of them."""

    def __init__(self, keep: bool) -> None:
        self.keep, self.kept = keep, []  # type: Tuple[bool, List[np.ndarray]]
        self.right = self.samples = 0

    def add(self, output: np.ndarray, labels: Optional[np.ndarray]) -> None:
        if self.keep:
            self.kept.append(output)
        self.samples += len(output)
        if labels is not None and output.ndim == 2:
            self.right += int((output.argmax(1) == np.asarray(labels).reshape(-1)).sum())


def _paddle_rows(job: Job, reference: Optional[Sequence[np.ndarray]]) -> Tuple[List[VerifyRow], List[np.ndarray]]:
    """Rows float, simulated and int8 of Paddle Inference, and the simulated outputs of each batch."""
    rows = {
        "float": VerifyRow("paddle", "Paddle Inference, float", "float", size_bytes=model_size(job.float_prefix).total),
        "plain": VerifyRow("paddle", "Paddle Inference, simulated", "simulated"),
        "int8": VerifyRow("paddle", "Paddle Inference, oneDNN int8", "int8"),
    }
    rows["plain"].size_bytes = rows["int8"].size_bytes = model_size(job.quant_prefix).total
    models = {"float": job.float_prefix, "plain": job.quant_prefix, "int8": job.quant_prefix}
    simulated: List[np.ndarray] = []
    float_outputs: List[np.ndarray] = []
    for mode, row in rows.items():
        try:
            outputs = _run_one(job, models[mode], mode, row, float_outputs, reference or simulated)
        except RuntimeFailedError as error:
            if mode == "float":
                raise
            row.error = str(error)
            continue
        if mode == "float":
            float_outputs = outputs
        elif mode == "plain":
            simulated = outputs
    if rows["int8"].error is None:
        _int8_evidence(job, rows["int8"])
    if job.latency_seconds > 0:
        _paddle_latency(job, rows)
    rows["int8"].notes += hazard_notes(rows["int8"]) + speed_notes(rows["float"], rows["int8"])
    return list(rows.values()), list(reference) if reference is not None else simulated


def _run_one(
    job: Job,
    model: PathLike,
    mode: str,
    row: VerifyRow,
    float_outputs: Sequence[np.ndarray],
    simulated: Sequence[np.ndarray],
) -> List[np.ndarray]:
    with paddle_inference.open_session(job.threads, pin=False) as session:
        paddle_inference.load(session, "model", model, mode)
        return collect(job, session, str(model), row, float_outputs, simulated)


def collect(
    job: Job,
    session: WorkerSession,
    subject: str,
    row: VerifyRow,
    float_outputs: Sequence[np.ndarray],
    simulated: Sequence[np.ndarray],
) -> List[np.ndarray]:
    """Runs a loaded model ("model") over the batches, fills accuracy and agreements of ``row``.

    Returns:
        The first output of each batch.
    """
    scores = Scores(job.metric is not None)
    to_float, to_simulated = AgreementCounter(), AgreementCounter()
    outputs = []
    for index, batch in enumerate(job.batches):
        first = session.run("model", batch, subject=subject)[0]
        scores.add(first, None if job.labels is None else np.asarray(job.labels[index]))
        if float_outputs:
            to_float.add(first, float_outputs[index])
        if len(simulated):
            to_simulated.add(first, np.asarray(simulated[index]))
        outputs.append(first)
    row.accuracy = job.accuracy(scores)
    row.against_float = to_float.result() if float_outputs else None
    row.against_simulated = to_simulated.result() if len(simulated) else None
    return outputs


def _int8_evidence(job: Job, row: VerifyRow) -> None:
    try:
        sizes = job.batch_sizes if job.latency_seconds > 0 else ()
        also = {size: one_batch(job.batches, size) for size in sizes}
        one = one_batch(job.batches, 1)
        found = paddle_inference.executed_precision(job.quant_prefix, one, threads=job.threads, also=also)
    except RuntimeFailedError as error:
        row.notes.append(f"What oneDNN executed could not be profiled: {error}")
        return
    row.int8_primitives, row.float_primitives = found["int8"], found["float"]
    row.fallback, row.hazards = found["fallback"], found["hazards"]
    row.profile = found["ms_at"]


def _paddle_latency(job: Job, rows: Mapping[str, VerifyRow]) -> None:
    models: List[Tuple[PathLike, str]] = [(job.float_prefix, "float")]
    if rows["int8"].error is None:
        models.append((job.quant_prefix, "int8"))
    with paddle_inference.open_session(job.threads) as session:
        for model, mode in models:
            paddle_inference.load(session, mode, model, mode)
        for size in job.batch_sizes:
            keys = [mode for _, mode in models]
            batch = one_batch(job.batches, size)
            times = session.bench(keys, batch, budget_seconds=job.latency_seconds)
            for key in keys:
                rows[key].latency[size] = latency_of(times[key], job.threads)
            if len(keys) == 2:
                rows["int8"].speed_ratio[size] = ratio(times["float"], times["int8"], job.threads)


def ratio(one: Mapping[str, Any], other: Mapping[str, Any], threads: int = 1) -> float:
    """Median over the rounds of (one's time / other's), which drift of the machine does not touch.

    With one thread CPU time is compared: on a quiet machine it is the wall time, on a busy one it is not
    disturbed. With several threads, wall time.
    """
    if threads == 1:
        return float(np.median([a / b for a, b in zip(one["cpu_ms"], other["cpu_ms"])]))
    return float(np.median([np.median(a) / np.median(b) for a, b in zip(one["wall_ms"], other["wall_ms"])]))


def machine() -> Dict[str, str]:
    """The CPU that the numbers were measured on."""
    model = platform.processor() or platform.machine()
    flags = ""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"model name\s*:\s*(.*)", text)
        model = found.group(1).strip() if found else model
        flags = " ".join(
            flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if re.search(rf"\b{flag}\b", text)
        )
    except OSError:
        pass  # not Linux
    return {"cpu": model, "isa": flags, "runtimes": ", ".join(RUNTIMES)}
