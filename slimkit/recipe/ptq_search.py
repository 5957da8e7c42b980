"""``--max-drop``: the accuracy-aware search as a step of ``slimkit ptq``."""

from __future__ import annotations

from typing import Any, List

from slimkit.quant.ptq import PtqResult
from slimkit.recipe.accuracy_aware import search
from slimkit.recipe.ptq_problem import PtqProblem, suitable_methods
from slimkit.recipe.search_problem import Best
from slimkit.recipe.search_trials import Trial

__all__ = ["STATE_FILE", "outcome", "search_settings"]

#: In the output folder.
STATE_FILE = "search.json"

_ENDS = {
    "reached": "",
    "time": " when the time was up",
    "exhausted": ", all there is to try having been tried",
    "interrupted": " when it was interrupted",
}


def search_settings(run: Any, result: PtqResult) -> PtqResult:
    """Searches on the evaluation data; trials are shown, and kept in ``search.json`` of the output folder.

    Args:
        run: the :class:`slimkit.recipe.ptq_run.PtqRun`; gets notes.
        result: the settings given, calibrated.

    Returns:
        The best found, also when nothing holds the accuracy.
    """
    recipe, screen = run.recipe, run.screen
    samples, size, limit = run.calibration()
    labelled = run.evaluation.labelled
    problem = PtqProblem(
        result,
        samples.feeds(size, limit),
        run.evaluation.stream(None, recipe.eval.images),
        run.task.metric if labelled else None,
        run.task.headline,
        about=[run.task.name, recipe.data.model_dump(), recipe.eval.model_dump(), len(run.evaluation)],
        tick=screen.advance,
    )
    state = run.out / STATE_FILE
    if not recipe.search.resume and state.exists():
        state.unlink()
    screen.heading("Search")
    screen.begin("evaluating", None)

    def tell(trial: Trial) -> None:
        value = trial.metrics.get(problem.headline)
        text = trial.error or f"{problem.headline} {100 * (value or 0):.2f}%"
        screen.fact(f"{trial.seconds:.1f} s", f"{trial.name}: {text}")
        screen.begin("evaluating", None)

    budget, methods = recipe.search.time_budget, suitable_methods(result)
    best = search(problem, recipe.search.max_drop, budget, state, methods=methods, progress=tell)
    screen.end()
    run.notes += best.notes
    run.notes.append(outcome(best, recipe.search.max_drop, problem.headline))
    screen.fact("search", run.notes[-1])
    found: PtqResult = best.quantized
    return found


def outcome(best: Best, max_drop: float, headline: str) -> str:
    """How a search ended, in a sentence."""
    layers: List[str] = best.trial.float_ops
    value, exact = best.trial.metrics[headline], best.reference[headline]
    left = f", {len(layers)} layer{'' if len(layers) == 1 else 's'} left float ({', '.join(layers)})" if layers else ""
    verdict = "within" if best.within else "more than"
    return (
        f"The search ended{_ENDS[best.stopped]} after {len(best.trials)} trials: {best.trial.name}{left} has a "
        f"simulated {headline} of {100 * value:.2f}% against float's {100 * exact:.2f}%, "
        f"{verdict} the {max_drop:g} points allowed."
    )
