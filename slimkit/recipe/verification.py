"""Step 4 of the recipe: the float and the exported model on the runtimes they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import RuntimeFailedError, RuntimeUnavailableError, SlimkitError
from slimkit.recipe.run_report import RuntimeResult
from slimkit.recipe.schema import VerifySection

__all__ = ["Subject", "check_available", "raise_if_required_failed", "verify_exported"]

Feed = Dict[str, np.ndarray]

#: Key of the ``verify`` section -> rows of ``slimkit.deploy.runtime.RUNTIMES``.
RUNTIMES_OF: Dict[str, Tuple[str, ...]] = {"paddle_inference": ("paddle",), "lite": ("lite-x86", "lite-arm")}


@dataclass
class Subject:
    """What is verified.

    Attributes:
        float_model, exported, plain: prefixes of ``.pdmodel`` files: the float model, the export rewritten for Paddle
            Inference's oneDNN, and the export as it was trained, which goes to Paddle-Lite.
        batches: returns the test batches anew: the image by its input name, and ``label``.
        image: name of the input.
        activation_bits: what the exported model's activations have.
        settings: the config's ``verify`` section.
        trained: outputs of the simulated model that was trained, for each test batch.
        lite_file: where the model that Paddle-Lite's opt makes for ARM is kept.
    """

    float_model: str
    exported: str
    plain: str
    batches: Callable[[], Iterator[Feed]]
    image: str
    activation_bits: int
    settings: VerifySection
    trained: List[np.ndarray]
    lite_file: str

    def __iter__(self) -> Iterator[Tuple[Feed, np.ndarray]]:
        """The feeds and labels of the first ``verify.images`` test images, read anew, a batch at a time."""
        left = self.settings.images
        for feed in self.batches():
            size = min(len(feed["label"]), left)
            yield {self.image: feed[self.image][:size]}, feed["label"][:size]
            left -= size
            if left <= 0:
                break

    def reference(self) -> Iterator[np.ndarray]:
        """The trained model's outputs for the same images."""
        left = self.settings.images
        for outputs in self.trained:
            yield outputs[:left]
            left -= min(len(outputs), left)
            if left <= 0:
                break


def check_available(settings: VerifySection) -> None:
    """Refuses a run whose required runtime is missing, before it has trained for hours.

    Raises:
        RuntimeUnavailableError: says how to get it, and the key that does without.
    """
    for key, names in RUNTIMES_OF.items():
        reason = _missing(names[0]) if getattr(settings, key) == "require" else None
        if reason:
            raise RuntimeUnavailableError(f"verify.{key} is require, but it is missing: {reason}")


def verify_exported(subject: Subject) -> List[RuntimeResult]:
    """Runs both models on every runtime that is wanted and available.

    A runtime that fails or is missing gives a result that says so; nothing is raised for it, so that the
    report of a long training is never lost (see :func:`raise_if_required_failed`).
    """
    from slimkit.deploy.runtime import get_runtime
    from slimkit.deploy.verify import verify

    settings = subject.settings
    wanted = [name for key, names in RUNTIMES_OF.items() if getattr(settings, key) != "skip" for name in names]
    missing = {name: reason for name in wanted for reason in [_missing(name)] if reason}
    there = [name for name in wanted if name not in missing]
    results: List[RuntimeResult] = []
    if there:
        try:
            report = verify(
                subject.float_model,
                {"paddle": subject.exported, "lite-x86": subject.plain, "lite-arm": subject.plain},
                subject, runtimes=there, reference=subject.reference(), batch_sizes=settings.batch_sizes,
                threads=settings.threads, latency_seconds=settings.latency_seconds,
            )  # fmt: skip
            if any(row.runtime == "lite-arm" and row.error is None for row in report.rows):
                get_runtime("lite-arm").export(subject.plain, subject.lite_file)
            results = [_result(row, report.samples, subject.activation_bits) for row in report.rows]
        except SlimkitError as error:
            results = [
                RuntimeResult(runtime=name, title=_title(name), model="int8", status="failed", reason=str(error))
                for name in there
            ]
    return results + [
        RuntimeResult(runtime=name, title=_title(name), model="int8", status="unavailable", reason=reason)
        for name, reason in missing.items()
    ]


def compare_with_trained(
    trainer: Any, prefix: str, batches: Any, image: str, tick: Optional[Callable[[], None]] = None
) -> Tuple[RuntimeResult, List[np.ndarray]]:
    """Runs an exported file in Paddle, with the kernels of training, beside the simulated model that was trained.

    Args:
        trainer: the ``QatTrainer``.
        prefix: of its plain export.
        batches: the test batches; ``batches()`` iterates over feeds with ``label``.
        image: name of the input.
        tick: called after each batch.

    Returns:
        The exported file's result, and the trained model's outputs for each batch.
    """
    from slimkit.ir import Model
    from slimkit.ir.onednn import prefer_onednn
    from slimkit.recipe.metrics import Accuracy

    exported = Model.load(prefix)
    prefer_onednn(exported.program, trainer.place)
    output = trainer.outputs()[0]
    metric, same, error, largest = Accuracy(), 0, 0.0, 0.0
    outputs: List[np.ndarray] = []
    for feed in batches.batches():
        trained = trainer.eval_step({image: feed[image]}, [output])[0]
        found = exported.run({image: feed[image]}, place=trainer.place)[0]
        metric.update(found, feed["label"])
        outputs.append(trained)
        same += int((found.argmax(axis=1) == trained.argmax(axis=1)).sum())
        error = max(error, float(np.abs(found - trained).max()))
        largest = max(largest, float(np.abs(trained).max()))
        if tick:
            tick()
    measured = metric.result()
    relative = error / max(largest, 1e-30)
    result = RuntimeResult(
        runtime="training",
        title="Paddle, exported file",
        model="simulated",
        same_as_simulated=same / max(measured["samples"], 1),
        notes=[f"Largest difference from the trained model's outputs: {relative:.1e} of the largest output."],
        **measured,
    )
    return result, outputs


def raise_if_required_failed(settings: VerifySection, results: Sequence[RuntimeResult]) -> None:
    """Ends a run with an error, after its report is written, when a required runtime failed.

    Raises:
        RuntimeFailedError: the runtime's own reason.
    """
    for key, names in RUNTIMES_OF.items():
        for item in results:
            if item.status == "failed" and item.runtime in names and getattr(settings, key) == "require":
                raise RuntimeFailedError(item.reason)


def _missing(name: str) -> Optional[str]:
    from slimkit.deploy.runtime import get_runtime

    return get_runtime(name).available()


def _title(name: str) -> str:
    from slimkit.deploy.runtime import RUNTIMES

    return RUNTIMES[name].title


def _result(row: Any, samples: int, activation_bits: int) -> RuntimeResult:
    """Turns a row of ``slimkit.deploy.verify`` into the report's form."""
    status, reason = "ok", ""
    if row.error is not None:
        status, reason = "failed", row.error
        if row.runtime == "paddle" and activation_bits != 8:
            status = "unavailable"
            reason = f"oneDNN has no {activation_bits}-bit activations, so this model runs simulated there."
    elif row.accuracy is None:
        status = "converted"
    float_top1 = row.against_float.top1 if row.against_float else None
    simulated_top1 = row.against_simulated.top1 if row.against_simulated else None
    return RuntimeResult(
        runtime=row.runtime,
        title=row.title,
        model=row.precision,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        notes=list(row.notes),
        top1=row.accuracy,
        samples=samples if row.accuracy is not None else 0,
        size_bytes=row.size_bytes,
        latency_ms={str(size): latency.median_ms for size, latency in row.latency.items()},
        speed_ratio={str(size): ratio for size, ratio in row.speed_ratio.items()},
        same_as_float=float_top1,
        same_as_simulated=simulated_top1,
        int8_ops=row.int8_primitives,
        float_ops=row.float_primitives,
    )
