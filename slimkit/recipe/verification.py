"""Step 4 of the recipe: the float and the exported model on the runtimes they are for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import RuntimeFailedError, RuntimeUnavailableError, SlimkitError
from slimkit.recipe.metrics import Accuracy
from slimkit.recipe.run_report import RuntimeResult
from slimkit.recipe.schema import VerifySection
from slimkit.recipe.screen import Screen

__all__ = ["Subject", "check_available", "raise_if_required_failed", "verify"]

Feed = Dict[str, np.ndarray]


@dataclass
class Subject:
    """What is verified.

    Attributes:
        float_model, exported: prefixes of ``.pdmodel`` files.
        folder: where models converted for a runtime go.
        batches: returns the test batches anew, feeds by input name plus ``label``.
        image: name of the input.
        activation_bits: what the exported model's activations have.
        settings: the config's ``verify`` section.
        screen: where progress is shown.
    """

    float_model: str
    exported: str
    folder: str
    batches: Callable[[], Iterator[Feed]]
    image: str
    activation_bits: int
    settings: VerifySection
    screen: Screen

    def limited(self) -> Iterator[Feed]:
        """Yields the test batches up to ``verify.images``."""
        left = self.settings.images or None
        for feed in self.batches():
            size = len(feed["label"])
            if left is not None and size > left:
                feed = {name: value[:left] for name, value in feed.items()}
            yield feed
            if left is not None:
                left -= size
                if left <= 0:
                    return

    def sized(self, size: int) -> Feed:
        """Returns one batch of ``size`` images, repeating the first ones if there are too few."""
        image = next(self.batches())[self.image]
        return {self.image: np.ascontiguousarray(np.resize(image, (size, *image.shape[1:])))}


def check_available(settings: VerifySection) -> None:
    """Refuses a run whose required runtime is missing before it has trained for hours.

    Raises:
        RuntimeUnavailableError: says how to get it, and the key that does without.
    """
    for key, names in _RUNTIMES.items():
        reason = _missing(names[0]) if getattr(settings, key) == "require" else None
        if reason:
            raise RuntimeUnavailableError(
                f"verify.{key} is require, but {reason} (Or set verify.{key}=auto.)"
            )


def verify(subject: Subject) -> List[RuntimeResult]:
    """Runs both models on every runtime that is wanted and available.

    A runtime that fails or is missing gives a result that says so; nothing is raised for it, so that the
    report of a long training is never lost (see :func:`raise_if_required_failed`).
    """
    results: List[RuntimeResult] = []
    for key, names in _RUNTIMES.items():
        wanted = getattr(subject.settings, key)
        for name in names if wanted != "skip" else ():
            reason = _missing(name)
            if reason:
                title, target = _TITLES[name]
                results.append(
                    RuntimeResult(
                        runtime=title, model="int8", target=target, status="unavailable", reason=reason
                    )
                )
            else:
                results += _CHECKS[name](subject)
    return results


def raise_if_required_failed(settings: VerifySection, results: Sequence[RuntimeResult]) -> None:
    """Ends a run with an error, after its report is written, when a required runtime failed.

    Raises:
        RuntimeFailedError: the runtime's own reason.
    """
    for item in results:
        if (
            item.status == "failed"
            and getattr(settings, item.runtime.replace("paddle_lite", "lite"), "") == "require"
        ):
            raise RuntimeFailedError(item.reason)


def _missing(name: str) -> Optional[str]:
    from slimkit.deploy.runtime import get_runtime

    return get_runtime(name).available()


def _guarded(runtime: str, target: str, work: Callable[[], List[RuntimeResult]]) -> List[RuntimeResult]:
    try:
        return work()
    except SlimkitError as error:
        return [
            RuntimeResult(runtime=runtime, model="int8", target=target, status="failed", reason=str(error))
        ]


def _paddle_inference(subject: Subject) -> List[RuntimeResult]:
    return _guarded("paddle_inference", "", lambda: _run_paddle_inference(subject))


def _run_paddle_inference(subject: Subject) -> List[RuntimeResult]:
    from slimkit.deploy import paddle_inference as runtime

    mode = "int8" if subject.activation_bits == 8 else "plain"
    models = [(subject.float_model, "float"), (subject.exported, mode)]
    threads = subject.settings.threads
    with runtime.open_session(pin=False) as session:
        for key, (model, how) in zip("fq", models):
            runtime.load(session, key, model, how)
        accuracies = _accuracies(subject, "Paddle Inference", [
            lambda feed: session.run("f", feed, subject=subject.float_model)[0],
            lambda feed: session.run("q", feed, subject=subject.exported)[0],
        ])  # fmt: skip
    latencies = _latencies(subject, lambda feed: runtime.bench_together(
        models, feed, threads, rounds=max(3, subject.settings.repeats // 3)))  # fmt: skip
    details = ["", _arithmetic(subject, mode)]
    return [
        RuntimeResult(
            runtime="paddle_inference", model=model, target="x86", size_bytes=_size(prefix),
            latency_ms=latency, detail=detail, **accuracy,
        )
        for model, (prefix, _), latency, detail, accuracy in zip(
            ("float", "int8"), models, latencies, details, accuracies
        )
    ]  # fmt: skip


def _size(prefix: str) -> int:
    from slimkit.deploy.size import model_size

    return model_size(prefix).total


def _arithmetic(subject: Subject, mode: str) -> str:
    """Says which arithmetic the exported model really ran in."""
    from slimkit.deploy import paddle_inference as runtime

    if mode == "plain":
        return (
            f"oneDNN has no {subject.activation_bits}-bit activations: run with simulated quantization, so "
            "its latency says nothing."
        )
    found: Dict[str, Any] = runtime.executed_precision(subject.exported, subject.sized(1))
    return str(found.get("summary", ""))


def _accuracies(
    subject: Subject, title: str, models: Sequence[Callable[[Feed], np.ndarray]]
) -> List[Dict[str, Any]]:
    """Returns ``{"top1", "top5", "samples"}`` of each model over the test batches, and moves the bar."""
    metrics = [Accuracy() for _ in models]
    subject.screen.begin(f"verifying on {title}", None)
    for feed in subject.limited():
        given = {subject.image: feed[subject.image]}
        for metric, model in zip(metrics, models):
            metric.update(model(given), feed["label"])
        subject.screen.advance(f"{metrics[0].samples} images")
    return [metric.result() for metric in metrics]


def _latencies(
    subject: Subject, bench: Callable[[Feed], Sequence[Tuple[Any, Any]]]
) -> List[Dict[str, float]]:
    """Returns for each of two models its median latency by batch size."""
    subject.screen.begin("timing", len(subject.settings.batch_sizes))
    found: List[Dict[str, float]] = [{}, {}]
    for size in subject.settings.batch_sizes:
        for latency, (measured, _) in zip(found, bench(subject.sized(size))):
            latency[str(size)] = round(float(measured.median_ms), 4)
        subject.screen.advance()
    return found


def _lite_x86(subject: Subject) -> List[RuntimeResult]:
    return []


def _lite_arm(subject: Subject) -> List[RuntimeResult]:
    return []


#: Key of the ``verify`` section -> rows of ``slimkit.deploy.runtime.RUNTIMES``.
_RUNTIMES: Dict[str, Tuple[str, ...]] = {"paddle_inference": ("paddle",), "lite": ("lite-x86", "lite-arm")}
_TITLES = {
    "paddle": ("paddle_inference", "x86"),
    "lite-x86": ("paddle_lite", "x86"),
    "lite-arm": ("paddle_lite", "arm"),
}
_CHECKS = {"paddle": _paddle_inference, "lite-x86": _lite_x86, "lite-arm": _lite_arm}


def lite_folder(subject: Subject) -> str:
    """Returns where the Paddle-Lite files go."""
    return os.path.join(subject.folder, "lite")
