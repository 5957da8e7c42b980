"""Runs a float model and its quantized forms where they will be deployed, and reports what that gave.

Each runtime gets a float row and a quantized row, so that accuracy, size and latency are compared within the runtime.
All models run side by side in one pass over the data, and outputs are compared batch by batch: memory does not grow
with the number of samples. Latency of float and int8 is measured in one process, in alternating rounds, on the same
pinned threads.
"""

from __future__ import annotations

import platform
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from slimkit.deploy.batches import Batch, Samples, check_shapes
from slimkit.deploy.inspect import inspect
from slimkit.deploy.runtime import RUNTIMES
from slimkit.deploy.verify_latency import measure
from slimkit.deploy.verify_metric import MetricFactory, Top1
from slimkit.deploy.verify_report import VerifyReport
from slimkit.deploy.verify_run import Contender, by_runtime, run_side_by_side
from slimkit.deploy.verify_runtimes import form_variant, verifier
from slimkit.errors import DataError, SlimkitError

__all__ = ["machine", "verify", "verify_variants"]

PathLike = Union[str, Path]
#: A model for all runtimes, or runtime -> its own export, or the error that says why there is none; "paddle" serves the
#: runtimes that are not named.
Models = Union[PathLike, Mapping[str, Union[PathLike, SlimkitError]]]


def verify(
    float_model: Models,
    quantized: Models,
    samples: Iterable[Batch],
    labels: Optional[Iterable[Any]] = None,
    metric: MetricFactory = Top1,
    runtimes: Sequence[str] = ("paddle",),
    *,
    reference: Optional[Iterable[Any]] = None,
    batch_sizes: Sequence[int] = (1, 8),
    threads: int = 1,
    latency_seconds: float = 2.0,
    headline: Optional[str] = None,
    lite_python: Optional[PathLike] = None,
) -> VerifyReport:
    """Verifies a quantized model against its float model.

    Args:
        float_model: the float model: prefix of ``.pdmodel``/``.pdiparams``, ``.onnx`` or ``.nb`` file; or runtime ->
            its form of the model, where "paddle" serves the runtimes that are not there, and an error stands for a
            form that could not be made: it becomes the row's. A runtime that reads another form gets it exported on
            the fly.
        quantized: the quantized model, likewise.
        samples: batches, re-iterable: each ``(feed, labels)`` or a feed; see :class:`slimkit.deploy.batches.Samples`.
        labels: each batch's labels, where the samples do not bring them.
        metric: makes a metric, with ``update(outputs, labels)`` and ``result()``; top-1 accuracy by default.
        runtimes: keys of ``RUNTIMES``.
        reference: for each batch what the simulated (trained) model gave: its first output, or a list of all; by
            default the quantized model run in float on Paddle Inference without its int8 passes, which is compared
            with those runtimes that got the same quantized model.
        batch_sizes: latency is measured at these.
        threads: CPU threads.
        latency_seconds: about how long each model is timed at each batch size; 0 leaves latency out.
        headline: which entry of the metric's result is the accuracy; None: the first.
        lite_python: interpreter with ``paddlelite``, see ``lite_interpreter.find_interpreter``.

    Returns:
        For each runtime a float row and a quantized one (on Paddle Inference also "simulated"). A runtime that is
        missing or fails has rows whose ``error`` says why, and does not stop the others.

    Raises:
        DataError: no samples, labels that do not fit them, or samples that do not fit the models.
        ModelError: a model is not there or cannot be read.
        ConfigError: an unknown runtime.
    """
    stream = Samples(samples, labels)
    contenders: List[Contender] = []
    for name in dict.fromkeys(runtimes):
        found = verifier(name, lite_python)
        shares = reference is not None or _for(quantized, name) == _for(quantized, "paddle", optional=True)
        for variant in found.variants:
            model = _for(quantized if variant.quantized else float_model, name)
            contenders.append(Contender(found, variant, model, metric, shares))
    return _verified(contenders, stream, reference, batch_sizes, threads, latency_seconds, headline)


def verify_variants(
    models: Mapping[str, Models],
    samples: Iterable[Batch],
    metric: MetricFactory = Top1,
    runtimes: Sequence[str] = ("paddle",),
    *,
    batch_sizes: Sequence[int] = (1, 8),
    threads: int = 1,
    latency_seconds: float = 2.0,
    headline: Optional[str] = None,
    lite_python: Optional[PathLike] = None,
) -> VerifyReport:
    """Runs several forms of a network beside its float model, such as a pruned one, and that one quantized.

    Args:
        models: name of the form -> the model, as in :func:`verify`. "float" comes first; "int8" is run in the runtimes'
            integer arithmetic, any other in float, under its name.
        others: see :func:`verify`.

    Returns:
        For each runtime a row a form, in the order given; ``row.precision`` is the form's name.

    Raises:
        DataError, ModelError, ConfigError: see :func:`verify`.
    """
    stream = Samples(samples)
    contenders: List[Contender] = []
    for name in dict.fromkeys(runtimes):
        found = verifier(name, lite_python)
        for form, given in models.items():
            contenders.append(Contender(found, form_variant(found, form), _for(given, name), metric, False))
    return _verified(contenders, stream, None, batch_sizes, threads, latency_seconds, headline)


def _verified(
    contenders: List[Contender],
    stream: Samples,
    reference: Optional[Iterable[Any]],
    batch_sizes: Sequence[int],
    threads: int,
    latency_seconds: float,
    headline: Optional[str],
) -> VerifyReport:
    _check(contenders, stream)
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        for contender in contenders:
            contender.prepare(Path(folder))
        count = run_side_by_side(contenders, stream, threads, reference)
        first = next((c.verifier.title for c in contenders if c.variant.key == "float" and c.runs), "")
        for contender in contenders:
            contender.finish(count, headline, first)
        for group in by_runtime(contenders).values():
            measure(group, stream, threads, batch_sizes, latency_seconds)
    rows = [contender.row for contender in contenders]
    measured = next((row.metrics for row in rows if row.metrics), None)
    named = (headline or next(iter(measured))) if measured else None
    return VerifyReport(rows, count, threads, named, machine())


def _for(models: Models, runtime: str, *, optional: bool = False) -> Union[PathLike, SlimkitError]:
    """The model as it was exported for a runtime."""
    if not isinstance(models, Mapping):
        return models
    found = models.get(runtime, models.get("paddle"))
    if found is None and not optional:
        wanted = " or ".join(f"'{name}'" for name in dict.fromkeys((runtime, "paddle")))
        raise DataError(f"The models given are for {', '.join(models)}; one for {wanted} is needed.")
    return found or ""


def _check(contenders: Sequence[Contender], samples: Samples) -> None:
    """Refuses models that cannot be read and data that they cannot take, before anything is started."""
    feed = next(iter(samples))[0]
    for model in dict.fromkeys(contender.model for contender in contenders):
        if isinstance(model, SlimkitError):
            continue
        inputs = {tensor.name: tensor.shape for tensor in inspect(model).feeds}
        if inputs:
            check_shapes(feed, inputs, str(model))


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
