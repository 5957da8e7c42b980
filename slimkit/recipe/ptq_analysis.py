"""``--analyze``: the error of each layer for the report of ``slimkit ptq``."""

from __future__ import annotations

from typing import Any, List

from slimkit.quant.analysis import Analysis, analyze
from slimkit.recipe.ptq_report import LayerError

__all__ = ["layer_errors", "layer_rows"]

#: Samples to measure on.
SAMPLES = 8


def layer_errors(run: Any) -> List[LayerError]:
    """Measures each layer of each plan that differs.

    Args:
        run: the :class:`slimkit.recipe.ptq_run.PtqRun`; gets a note on the layers that would better be float.
    """
    run.screen.heading("Analyze")
    samples, size, _ = run.calibration()
    rows: List[LayerError] = []
    done: List[int] = []
    for runtime, quantized in run.result.quantized.items():
        if id(quantized) in done:
            continue
        done.append(id(quantized))

        def tell(name: str, at: int, total: int) -> None:
            if at == 0:
                run.screen.begin(name, total)
            run.screen.at(at)

        found = analyze(quantized, samples.feeds(size, SAMPLES), histograms=False, limit=SAMPLES, progress=tell)
        run.screen.end()
        rows += layer_rows(found, runtime)
        if found.suggested:
            start, end = found.curve[0].final.sqnr_db, found.curve[found.suggested].final.sqnr_db
            text = f"leaving {', '.join(found.float_ops)} float raises the SQNR of the outputs"
            run.notes.append(f"On {runtime}, {text} from {start or 0:.1f} to {end or 0:.1f} dB.")
    return rows


def layer_rows(found: Analysis, runtime: str) -> List[LayerError]:
    """The layers of an analysis as rows of the report."""
    return [
        LayerError(
            name=row.output,
            op_type=row.type,
            weight=row.weight.tensor if row.weight is not None else "",
            runtime=runtime,
            sqnr_db=row.accumulated.sqnr_db,
            cosine=row.accumulated.cosine,
            isolated_sqnr_db=row.own.sqnr_db,
            isolated_cosine=row.own.cosine,
        )
        for row in found.layers
    ]
