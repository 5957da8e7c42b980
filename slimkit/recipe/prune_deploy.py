"""The end of ``slimkit prune``: quantization of the pruned network, exports, and running them on their runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from slimkit.ir.trainer import inference_of
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantTable
from slimkit.recipe.exporters import export_for, files_of
from slimkit.recipe.html_parts import size_text
from slimkit.recipe.prune_schema import QatSection, TuneSection

if TYPE_CHECKING:
    from slimkit.recipe.prune_run import PruneRun

__all__ = ["export", "quantize", "verify_exports"]


def quantize(run: PruneRun) -> None:
    """Quantizes the pruned network: runtime -> its form, in ``run.quantized``."""
    settings = run.recipe.quantize
    if settings is None:
        return
    run.screen.heading("Quantize")
    with run.timed("quantize"):
        run.quantized = _train_quantized(run, settings.qat) if settings.qat is not None else _calibrate(run)
    for runtime, quantized in run.quantized.items():
        table = quantized.table
        run.screen.fact(runtime, f"{len(table.ops)} ops quantized, {len(table.skipped)} left float")


def _calibrate(run: PruneRun) -> Dict[str, Quantized]:
    from slimkit.quant.ptq import post_training_quantize

    settings = run.recipe.quantize
    assert settings is not None
    model = inference_of(run.model, run.problem.outputs)
    run.screen.begin("calibrating", None)
    found = post_training_quantize(model, run.problem.calibration(settings.samples), run.recipe.to, settings.ptq)
    run.screen.end()
    return dict(found.quantized)


def _train_quantized(run: PruneRun, settings: QatSection) -> Dict[str, Quantized]:
    from itertools import islice

    from slimkit.quant import QatTrainer
    from slimkit.recipe.optimizers import optimizer_factory

    problem, train = run.problem, settings.train
    trainer = QatTrainer(
        run.model, settings.quant, loss=problem.loss, optimizer=optimizer_factory(train), pact=settings.pact,
        place=run.tuner.place, seed=run.recipe.run.seed, layers=problem.layers,
    )  # fmt: skip

    def start() -> None:
        trainer.initialise(islice(problem.train.batches(), train.calibration_batches))

    tuning = TuneSection.model_validate({key: getattr(train, key) for key in TuneSection.model_fields})
    tuned = run.tuner.tune(trainer, tuning, "quantized", start)
    run.stage("quantized", tuned.metrics)
    quantized = Quantized(trainer.float_model(problem.outputs), trainer.table())
    return dict.fromkeys(run.recipe.to, quantized)


def export(run: PruneRun) -> None:
    """Writes the float, the pruned and the quantized network for every runtime."""
    run.screen.heading("Export")
    networks = {"float": run.problem.training, "pruned": run.model}
    forms: Dict[str, Dict[str, Any]] = {
        form: dict.fromkeys(run.recipe.to, Quantized(inference_of(network, run.problem.outputs), QuantTable()))
        for form, network in networks.items()
    }
    if run.quantized:
        forms["int8"] = run.quantized
    for form, models in forms.items():
        for runtime, model in models.items():
            path = export_for(runtime, model, run.out / form / runtime)
            run.exported.setdefault(form, {})[runtime] = path
            run.screen.fact(runtime, f"{form}: {path}, {size_text(sum(files_of(path).values()))}")


def verify_exports(run: PruneRun) -> None:
    """Runs everything that was exported, side by side, on its runtime."""
    from slimkit.deploy.verify import verify_variants

    settings, problem = run.recipe.verify, run.problem
    if not settings.run:
        run.note("The exports were not run (verify.run is false).")
        return
    run.screen.heading("Verify on the runtimes")
    run.screen.begin("running", None)
    run.verified = verify_variants(
        run.exported,
        problem.evaluation(settings.images),
        metric=problem.metric,
        runtimes=run.recipe.to,
        batch_sizes=settings.batch_sizes,
        threads=settings.threads,
        latency_seconds=settings.latency_seconds,
        headline=problem.headline,
    )
    run.screen.end()
