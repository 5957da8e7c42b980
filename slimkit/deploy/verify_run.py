"""One pass over the data with every model of a verification side by side, each in a worker of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.deploy.batches import Samples, rows_of
from slimkit.deploy.compare import OutputsCounter
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.deploy.verify_metric import MetricFactory, headline_of
from slimkit.deploy.verify_report import VerifyRow
from slimkit.deploy.verify_runtimes import Prepared, Variant, Verifier
from slimkit.errors import DataError, RuntimeFailedError, RuntimeUnavailableError, SlimkitError

__all__ = ["Contender", "run_side_by_side"]

Outputs = List[np.ndarray]

#: |difference| / |outputs| of one float model on two runtimes above which one of them is wrong.
OTHERWISE = 0.01


class Contender:
    """One row: its model, the worker it runs in, and what its outputs add up to.

    Args:
        verifier: of the runtime.
        variant: which row of it.
        model: the model as given, or the error that says why there is none.
        metric: makes a metric, None when there are no labels.
        share_simulation: whether the simulated model is this model simulated.
    """

    def __init__(
        self,
        verifier: Verifier,
        variant: Variant,
        model: Any,
        metric: MetricFactory,
        share_simulation: bool,
    ) -> None:
        self.verifier, self.variant, self.model = verifier, variant, model
        self.share_simulation = share_simulation
        self.row = VerifyRow(verifier.name, f"{verifier.title}, {variant.title}", variant.precision)
        self.prepared: Optional[Prepared] = None
        self._metric, self._labelled = metric(), False
        self._to_float, self._to_simulated, self._across = OutputsCounter(), OutputsCounter(), OutputsCounter()
        self._session: Optional[WorkerSession] = None

    @property
    def runs(self) -> bool:
        """Whether it is prepared, can be executed here, and has not failed."""
        return self.prepared is not None and self.row.error is None and self.verifier.runs_here

    def prepare(self, folder: Path) -> None:
        """Makes the runtime's own form of the model; a failure becomes the row's ``error``."""
        if isinstance(self.model, SlimkitError):
            self._fail(self.model)
            return
        try:
            self.prepared = self.verifier.prepare(self.model, self.variant, folder)
        except SlimkitError as error:
            self._fail(error)
            return
        row, prepared = self.row, self.prepared
        row.size_bytes, row.notes = prepared.size_bytes, list(prepared.notes)
        row.precision = prepared.precision or row.precision
        row.int8_primitives, row.float_primitives = prepared.int8, prepared.float

    def open(self, threads: int) -> None:
        """Starts the worker and loads the model."""
        if not self.runs or self.prepared is None:
            return
        try:
            self._session = self.verifier.open(self.verifier.threads(threads), pin=False)
            self.verifier.load(self._session, "model", self.prepared.path, self.variant)
        except SlimkitError as error:
            self._fail(error)

    def run(self, feed: Feed) -> Optional[Outputs]:
        """Runs a batch; None when the row has failed, now or before.

        Raises:
            DataError: the feed has not the inputs of the model.
        """
        if self._session is None:
            return None
        try:
            outputs = self._session.run("model", feed, subject=str(self.model))
        except DataError:
            raise
        except SlimkitError as error:
            self._fail(error)
            return None
        bad = next((i for i, output in enumerate(outputs) if output.dtype.kind == "f" and np.isnan(output).any()), None)
        if bad is not None:
            which = "The outputs hold" if len(outputs) == 1 else f"Output {bad} holds"
            sentence = (
                f"{which} NaN on {self.row.title}, so there is no accuracy; check the data's normalisation, and the "
                "weights and scales of the model."
            )
            self._fail(RuntimeFailedError(sentence))
            return None
        return outputs

    def take(
        self,
        outputs: Outputs,
        labels: Optional[Sequence],
        base: Optional[Outputs],
        simulated: Optional[Outputs],
        first: Optional[Outputs],
    ) -> None:
        """Adds a batch's outputs to the metric and compares them.

        Args:
            outputs: this row's.
            labels: of the batch.
            base: of this runtime's float model.
            simulated: of the simulated model.
            first: of the float model on the first runtime.
        """
        if labels is not None:
            self._labelled = True
            self._metric.update(outputs, labels)
        if base is not None and self.variant.quantized:
            self._to_float.add(outputs, base)
        if first is not None and first is not outputs and self.variant.key == "float":
            self._across.add(outputs, first)
        if simulated is not None and self.variant.quantized and self.share_simulation:
            self._to_simulated.add(outputs, simulated)

    def finish(self, samples: int, headline: Optional[str], first: str = "the first runtime") -> None:
        """Writes what was found over so many samples into the row; ``first`` names the first runtime."""
        if not self.runs:
            return
        row = self.row
        row.samples = samples
        if self._labelled:
            row.metrics = {name: float(value) for name, value in self._metric.result().items()}
            row.accuracy = headline_of(row.metrics, headline)
        row.across_runtimes = self._across.result()
        if row.across_runtimes is not None and row.across_runtimes.relative > OTHERWISE:
            row.notes.append(
                f"The float model gives other outputs here than on {first} (cosine {row.across_runtimes.cosine:.4f}): "
                "distrust this runtime's figures, the quantized model's too."
            )
        row.against_float, row.against_simulated = self._to_float.result(), self._to_simulated.result()
        each = self._to_float.each()
        row.outputs_against_float = each if len(each) > 1 else []
        if self._to_float.problem:
            row.notes.append(f"Its outputs were not compared with float's: {self._to_float.problem}")

    def close(self) -> None:
        """Ends the worker."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _fail(self, error: SlimkitError) -> None:
        self.row.error = str(error)
        self.row.unavailable = isinstance(error, RuntimeUnavailableError)
        self.close()


def run_side_by_side(
    contenders: Sequence[Contender], samples: Samples, threads: int, reference: Optional[Iterable[Any]] = None
) -> int:
    """Runs every batch through every model, comparing as it goes; nothing but one batch's outputs is held.

    Args:
        contenders: prepared rows.
        samples: the data.
        threads: CPU threads of each worker.
        reference: for each batch what the simulated model gave: its first output, or the list of all; None: the
            "simulated" row's outputs.

    Returns:
        How many samples were run.

    Raises:
        DataError: no samples, or samples, labels and reference that do not fit each other or the models.
    """
    count = 0
    with ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)
        with ThreadPoolExecutor(max(1, len(contenders))) as pool:
            list(pool.map(lambda contender: contender.open(threads), contenders))
        known: Optional[Iterator[Any]] = None if reference is None else iter(reference)
        for feed, labels in samples:
            count += rows_of(feed)
            simulated = None if known is None else _next(known)
            outputs = [contender.run(feed) for contender in contenders]
            if known is None:
                simulated = _outputs_of(contenders, outputs, "simulated")
            first = _outputs_of(contenders, outputs, "float")
            for contender, found in zip(contenders, outputs):
                if found is not None:
                    base = _outputs_of(contenders, outputs, "float", contender.verifier.name)
                    own = known is None and contender.variant.key == "simulated"
                    contender.take(found, labels, base, None if own else simulated, first)
    return count


def _next(known: Iterator[Any]) -> Outputs:
    found = next(known, None)
    if found is None:
        raise DataError("There are fewer batches in reference than in the samples; give the outputs for each batch.")
    return [np.asarray(found)] if isinstance(found, np.ndarray) else [np.asarray(output) for output in found]


def _outputs_of(
    contenders: Sequence[Contender], outputs: Sequence[Optional[Outputs]], key: str, runtime: Optional[str] = None
) -> Optional[Outputs]:
    for contender, found in zip(contenders, outputs):
        if contender.variant.key == key and runtime in (None, contender.verifier.name):
            if found is not None or runtime is not None:
                return found
    return None


def by_runtime(contenders: Sequence[Contender]) -> Mapping[str, List[Contender]]:
    """Runtime -> its rows, in order."""
    groups: dict = {}
    for contender in contenders:
        groups.setdefault(contender.verifier.name, []).append(contender)
    return groups
