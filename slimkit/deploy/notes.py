"""The plain sentences of a verification: why int8 is or is not faster, and what to distrust."""

from __future__ import annotations

from collections import Counter
from typing import List

from slimkit.deploy.verify_report import VerifyRow

__all__ = ["NOT_FASTER", "hazard_notes", "speed_notes"]

#: Reason of a fallback -> what to do about it.
REMEDIES = {
    "its result has no grid": "ONNX Runtime computes in int8 only between grids; `slimkit ptq --to onnx` puts results "
    "on grids too."
}
NOT_FASTER = 1.05  # float time over int8 time below which int8 counts as not faster


def hazard_notes(row: VerifyRow) -> List[str]:
    """One sentence per kind of hazard, with how often and where first."""
    kinds = Counter((hazard["op"], hazard["problem"]) for hazard in row.hazards)
    notes = []
    for (op, problem), count in kinds.items():
        first = next(h for h in row.hazards if (h["op"], h["problem"]) == (op, problem))
        where = first["weight"] or first["output"]
        times = f"{count} {op} ops (first: {where})" if count > 1 else f"{op} {where}"
        notes.append(f"Distrust the int8 result of {times}: {problem}.")
    return notes


def speed_notes(base: VerifyRow, row: VerifyRow, engine: str = "oneDNN") -> List[str]:
    """Says what was executed and, for each batch size, whether int8 is faster and if not, why.

    Args:
        base: the float row of the same runtime.
        row: the int8 row.
        engine: what does the runtime's arithmetic.
    """
    notes = []
    if row.int8_primitives is not None:
        total = row.int8_primitives + (row.float_primitives or 0)
        notes.append(f"{row.int8_primitives} of {total} convolutions and matrix products ran in int8.")
        if row.int8_primitives == 0:
            notes.append(f"Nothing ran in int8: the model has no quantize ops that {engine} recognises.")
    if row.fallback:
        reasons = Counter(item["reason"] for item in row.fallback)
        listed = "; ".join(f"{count} because {reason}" for reason, count in reasons.most_common())
        notes.append(f"Left float: {listed}.")
        often = (row.int8_primitives or 0) / 4  # the last layer's result is a model's output, and has no grid by right
        notes += [remedy for reason, remedy in REMEDIES.items() if reasons[reason] > often]
    for size, ratio in sorted(row.speed_ratio.items()):
        if ratio < NOT_FASTER:
            notes.append(f"int8 is not faster at batch {size} ({ratio:.2f}x): {_why_slow(base, row, size, engine)}.")
        else:
            notes.append(f"int8 is {ratio:.2f}x as fast as float at batch {size}.")
    return notes


def _why_slow(base: VerifyRow, row: VerifyRow, size: int, engine: str) -> str:
    profile, latency = row.profile.get(size), row.latency.get(size)
    if not profile:
        return "the profile is not known"
    compute, left = profile.get("int8 compute", 0.0), profile.get("float compute", 0.0)
    moved = profile.get("reorder", 0.0) + profile.get("other", 0.0)
    if latency is not None:
        inside = sum(profile.values())
        whole = min(latency.median_ms, latency.cpu_ms) if latency.threads == 1 else latency.median_ms
        if inside < 0.6 * whole:
            return (
                f"about {100 * (1 - inside / whole):.0f}% of the time is the runtime's own cost per op and what is not "
                f"in {engine}'s profile ({engine} worked {inside:.2f} of {whole:.2f} ms)"
            )
    if left > compute:
        return f"most arithmetic stayed float ({left:.2f} ms against {compute:.2f} ms in int8)"
    before = base.profile.get(size, {})
    arithmetic = before.get("float compute")
    if arithmetic is not None:
        others = sum(before.values()) - arithmetic
        rest = f"quantizing, dequantizing and the other ops take {moved:.2f} ms instead of {others:.2f} ms"
        if compute + left > 0.95 * arithmetic:
            gain = "these layers gain nothing"
            return f"its arithmetic takes {compute + left:.2f} ms and float's {arithmetic:.2f} ms: {gain}"
        return f"its arithmetic takes {compute + left:.2f} ms instead of {arithmetic:.2f} ms, but {rest}"
    if moved > compute:
        return f"quantizing, dequantizing and float ops between them take {moved:.2f} ms, the int8 ops {compute:.2f} ms"
    return f"the convolutions are too small for int8 to pay ({compute:.2f} ms of arithmetic)"
