"""What a verification measures beside outputs: latency in alternating rounds, and the arithmetic that really ran."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.deploy.batches import Samples, one_batch
from slimkit.deploy.notes import NOT_FASTER, hazard_notes, speed_notes
from slimkit.deploy.runtime import latency_of
from slimkit.deploy.verify_run import Contender
from slimkit.errors import RuntimeFailedError, RuntimeUnavailableError

__all__ = ["measure", "ratio"]


def measure(
    contenders: Sequence[Contender], samples: Samples, threads: int, batch_sizes: Sequence[int], seconds: float
) -> None:
    """Fills latency, executed precision and the sentences of one runtime's rows.

    Args:
        contenders: the rows of one runtime, float first.
        samples: the data; batches are made of its first samples, in the shape of the first batch.
        threads: CPU threads, to which the worker is pinned.
        batch_sizes: latency is measured at these; of no effect when ``seconds`` is 0.
        seconds: about how long each model is timed at each batch size; 0 leaves latency out.
    """
    running = [contender for contender in contenders if contender.runs]
    if not running:
        return
    sizes = list(batch_sizes) if seconds > 0 else []
    feeds = {size: one_batch(samples, size) for size in sizes}
    for contender in running:
        if contender.variant.key == "int8":
            _evidence(contender, samples, threads, feeds)
    timed = [contender for contender in running if contender.variant.timed]
    if timed and feeds:
        _latency(timed, feeds, threads, seconds)
    base = next((contender for contender in running if contender.variant.key == "float"), None)
    for contender in running:
        row = contender.row
        if contender.variant.key != "int8" or row.precision != "int8" or base is None:
            continue
        slow = {size: feeds[size] for size, found in row.speed_ratio.items() if found < NOT_FASTER and row.profile}
        if slow:
            base.row.profile = (_executed(base, samples, threads, slow) or {}).get("ms_at", {})
        row.notes += hazard_notes(row) + speed_notes(base.row, row, contender.verifier.engine)


def _evidence(contender: Contender, samples: Samples, threads: int, feeds: Mapping[int, Any]) -> None:
    row = contender.row
    found = _executed(contender, samples, threads, feeds)
    if found is None:
        return
    row.int8_primitives, row.float_primitives = found["int8"], found["float"]
    row.fallback, row.hazards = found.get("fallback", []), found.get("hazards", [])
    row.profile = found.get("ms_at", {})


def _executed(
    contender: Contender, samples: Samples, threads: int, feeds: Mapping[int, Any]
) -> Optional[Dict[str, Any]]:
    verifier = contender.verifier
    if contender.prepared is None:
        return None
    one = one_batch(samples, 1)
    try:
        return verifier.evidence(contender.prepared.path, contender.variant, one, threads, feeds)
    except (RuntimeFailedError, RuntimeUnavailableError) as error:
        contender.row.notes.append(f"What {verifier.engine} executed could not be profiled: {error}")
        return None


def _latency(timed: List[Contender], feeds: Mapping[int, Any], threads: int, seconds: float) -> None:
    verifier = timed[0].verifier
    used = verifier.threads(threads)
    rows = {contender.variant.key: contender.row for contender in timed}
    done: Dict[int, Any] = {}
    try:
        with verifier.open(used, pin=True) as session:
            for contender in timed:
                if contender.prepared is not None:
                    verifier.load(session, contender.variant.key, contender.prepared.path, contender.variant)
            for size, feed in feeds.items():
                done[size] = session.bench(list(rows), feed, budget_seconds=seconds)
    except (RuntimeFailedError, RuntimeUnavailableError) as error:
        missing = ", ".join(str(size) for size in feeds if size not in done)
        for row in rows.values():
            row.notes.append(f"Latency at batch {missing} could not be measured: {error}")
    for size, times in done.items():
        for key, row in rows.items():
            row.latency[size] = latency_of(times[key], used)
            if key != "float" and "float" in times:
                row.speed_ratio[size] = ratio(times["float"], times[key], used)


def ratio(one: Mapping[str, Any], other: Mapping[str, Any], threads: int = 1) -> float:
    """Median over the rounds of (one's time / other's), which drift of the machine does not touch.

    With one thread CPU time is compared: on a quiet machine it is the wall time, on a busy one it is not
    disturbed. With several threads, wall time.
    """
    if threads == 1:
        return float(np.median([a / b for a, b in zip(one["cpu_ms"], other["cpu_ms"])]))
    return float(np.median([np.median(a) / np.median(b) for a, b in zip(one["wall_ms"], other["wall_ms"])]))
