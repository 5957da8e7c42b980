"""The recipe: choose the quantization config, convert the model, train, save and verify."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import contextmanager
from itertools import islice
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np

from slimkit.errors import SlimkitError
from slimkit.recipe.checkpoint import LAST, CheckpointFolder, prepare_folder
from slimkit.recipe.config import RecipeConfig
from slimkit.recipe.config_file import load_config
from slimkit.recipe.float_network import FloatNetwork, NamedBatches, load_network
from slimkit.recipe.layer_report import describe_layers, measure_layers, slices, thresholds
from slimkit.recipe.optimizers import device, optimizer_factory
from slimkit.recipe.run_report import LayerResult, RunReport, RuntimeResult
from slimkit.recipe.screen import Screen, ScreenWatcher, show_results
from slimkit.recipe.training import TrainingLoop, evaluate
from slimkit.recipe.verification import (
    Subject,
    check_available,
    compare_with_trained,
    raise_if_required_failed,
    verify_exported,
)

__all__ = ["Recipe", "run_recipe"]

LITE = os.path.join("lite", "model_arm.nb")
PLAIN = os.path.join("lite", "model")
TRAINING = "Paddle (training)"
FLOAT, EXPORTED = os.path.join("float", "model"), os.path.join("int8", "model")


def run_recipe(
    config_file: str,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    screen: Optional[Screen] = None,
) -> RunReport:
    """Runs a config file from the choice of the quantization config to the report.

    Args:
        config_file: the YAML file.
        overrides: ``section.key=value`` strings.
        resume: go on from the last checkpoint in ``run.output``, if there is one.
        screen: where progress is shown; None: the terminal.

    Returns:
        What is in ``report.json``.

    Raises:
        SlimkitError: one sentence: config, data, model, training or runtime.
    """
    config = load_config(config_file, overrides)
    with screen or Screen() as shown:
        return Recipe(config, config_file, overrides, resume, shown).run()


class Recipe:
    """One run. Its four steps are four methods, in the order they are called."""

    def __init__(
        self, config: RecipeConfig, config_file: str, overrides: Sequence[str], resume: bool, screen: Screen
    ) -> None:
        self.config, self.config_file, self.overrides = config, config_file, list(overrides)
        self.resume, self.screen = resume, screen
        self.output = config.run.output
        self.folder = CheckpointFolder(self.output)
        self.seconds: Dict[str, float] = {}
        self.notes: List[str] = []
        self.results: List[RuntimeResult] = []

    def run(self) -> RunReport:
        """Runs the four steps and writes the report."""
        start = time.monotonic()
        prepare_folder(self.output)
        for number, step in enumerate((self.choose, self.convert, self.train, self.save_and_verify), 1):
            self.screen.step(number)
            with self._timed(step.__name__):
                step()
        self.seconds["total"] = time.monotonic() - start
        return self._write_report()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.screen.warn(text)

    # 1
    def choose(self) -> None:
        """Shows what will be done to what, and opens the data."""
        from slimkit.recipe.data import build_datasets

        config, fact = self.config, self.screen.fact
        quant, pact = config.quant, config.pact
        fact("config", f"{self.config_file}" + (f"  -o {' '.join(self.overrides)}" if self.overrides else ""))
        fact("weights", f"{quant.weight_bits} bits, {quant.weight_quantize_type}")
        clip = f", PACT {pact.form} (alpha from {pact.init})" if pact else ""
        fact("activations", f"{quant.activation_bits} bits, {quant.activation_quantize_type}{clip}")
        weighted, activation_only = quant.op_types()
        fact("op types", ", ".join([*weighted, *activation_only]))
        self.place = device(config.run.place)
        check_available(config.verify)
        self.train_set, self.test_set = build_datasets(
            config.data.model_dump(), num_classes=config.network.num_classes, seed=config.run.seed
        )
        kind = self.train_set.report().get("kind", config.data.kind)
        fact("data", f"{kind}, {len(self.train_set)} to train on, {len(self.test_set)} to test on")
        fact("device", f"{config.run.place}, seed {config.run.seed}")

    # 2
    def convert(self) -> None:
        """Makes the float programs, evaluates them, inserts the quantizers and starts their scales."""
        from slimkit.quant import QatTrainer

        config = self.config
        self.network: FloatNetwork = load_network(config)
        self.screen.fact("network", ", ".join(f"{k} {v}" for k, v in self.network.about.items()))
        for note in self.network.notes:
            self._note(note)
        self.train_batches = NamedBatches(self.train_set, self.network.image)
        self.test_batches = NamedBatches(self.test_set, self.network.image)
        self.network.inference.save(os.path.join(self.output, FLOAT))
        self._evaluate_float()
        self.trainer = QatTrainer(
            self.network.training,
            config.quant,
            loss=self.network.loss,
            optimizer=optimizer_factory(config.train),
            pact=config.pact,
            place=self.place,
            seed=config.run.seed,
            layers=self.network.layers,
        )
        self.trainer.initialise(islice(self.train_batches.batches(), config.train.calibration_batches))
        summary = self.trainer.summary()
        self.before = self._thresholds()
        left = len(summary["skipped"])
        self.screen.fact(
            "quantized",
            f"{len(summary['quantized'])} ops"
            + (f"; {left} of those types stay float (why: see the report)" if left else ", all of those types"),
        )
        for rule in summary.get("unused_rules", []):
            self._note(f"The rule {rule} of quant.rules matched no op.")

    def _evaluate_float(self) -> None:
        def logits(feed: Dict[str, np.ndarray]) -> np.ndarray:
            name = self.network.image
            return self.network.inference.run({name: feed[name]}, place=self.place)[0]

        self.screen.begin("evaluating the float model", self.test_set.steps)
        measured = evaluate(logits, self.test_batches, self.screen.advance)
        self.screen.end()
        self.results.append(RuntimeResult(runtime="training", title=TRAINING, model="float", **measured))
        self.screen.fact("float", f"top-1 {measured['top1'] * 100:.2f}% on {measured['samples']} test images")

    def _thresholds(self) -> Dict[str, float]:
        return thresholds(self.trainer.table(), self.trainer.alphas())

    # 3
    def train(self) -> None:
        """Trains, from the last checkpoint when resuming, and goes to the best state."""
        config = self.config
        self.loop = TrainingLoop(
            self.trainer, self.train_batches, self.test_batches, config, self.folder,
            loss=self.network.loss, logits=self.network.logits, extra={"thresholds": self.before},
        )  # fmt: skip
        checkpoint = self.folder.load(LAST) if self.resume else None
        self.resumed = checkpoint is not None
        if checkpoint is not None:
            self.loop.restore(checkpoint)
            self.before = self.loop.extra["thresholds"]
            self.screen.fact("resumed", f"at step {self.loop.progress.step} of {self.loop.total}")
        elif self.resume:
            self._note(f"There is no checkpoint in {self.folder.folder} yet, so training starts at step 1.")
        elif self.folder.clear():
            self.screen.warn(f"The checkpoints of an earlier run in {self.output} are replaced.")
        watcher = ScreenWatcher(self.screen, self.loop.total, config.train.epochs, self.loop.progress.step)
        self.progress = self.loop.run(watcher)
        self.loop.load_best()
        best = next(e for e in self.progress.evaluations if e["step"] == self.progress.best_step)
        measured = {key: best[key] for key in ("top1", "top5", "samples") if key in best}
        title = f"{TRAINING}, simulated"
        self.results.append(RuntimeResult(runtime="training", title=title, model="simulated", **measured))

    # 4
    def save_and_verify(self) -> None:
        """Exports the best state, runs it on its runtimes, and measures the layers."""
        config = self.config
        self.screen.begin("exporting", None)
        prefix = os.path.join(self.output, EXPORTED)
        plain = os.path.join(self.output, PLAIN)
        fmt = "onnx" if config.quant.onnx_format else "old"
        self.trainer.export(prefix, fmt=fmt, runtime="onednn")
        self.trainer.export(plain, fmt=fmt)
        self.table = self.trainer.table()
        self.table.save(os.path.join(self.output, "int8", "quant_table.json"))
        self.layers = self._measure_layers()
        self.results.append(self._compare_with_trained(plain))
        subject = Subject(
            float_model=os.path.join(self.output, FLOAT), exported=prefix, plain=plain,
            batches=self.test_batches.batches, image=self.network.image,
            activation_bits=config.quant.activation_bits, settings=config.verify,
            trained=self.trained_outputs, lite_file=os.path.join(self.output, LITE),
        )  # fmt: skip
        self.screen.begin("verifying on the runtimes", None)
        self.results += verify_exported(subject)

    def _compare_with_trained(self, prefix: str) -> RuntimeResult:
        """Reads the exported file back and runs it beside the simulated model that was trained."""
        self.screen.begin("comparing the export with the trained model", self.test_set.steps)
        result, self.trained_outputs = compare_with_trained(
            self.trainer, prefix, self.test_batches, self.network.image, self.screen.advance
        )
        self.screen.end()
        return result

    def _measure_layers(self) -> List[LayerResult]:
        self.summary = self.trainer.summary()
        layers = describe_layers(self.table, self.before, self._thresholds(), self.network.layers)
        if not self.config.report.layers or not layers:
            return layers
        feeds = slices(self.test_batches.batches(), self.config.report.images, self.network.image)
        self.screen.begin("measuring the layers", 2 * len(feeds))
        try:
            return measure_layers(
                layers, feeds, self.trainer.float_step, self.trainer.eval_step,
                bins=self.config.report.bins, tick=self.screen.advance,
            )  # fmt: skip
        except (SlimkitError, RuntimeError, ValueError, KeyError) as error:
            self._note(f"Per-layer figures are missing: {str(error).strip().splitlines()[-1]}")
            return layers

    def _write_report(self) -> RunReport:
        from slimkit.recipe.report_files import assemble, write

        report = assemble(self, command_line(self.config_file, self.overrides, self.resume))
        paths = write(report, self.output)
        self.screen.end()
        show_results(self.screen, report)
        for path in paths:
            self.screen.fact("report", path)
        raise_if_required_failed(self.config.verify, report.results)
        return report


def command_line(config_file: str, overrides: Sequence[str], resume: bool) -> str:
    """Returns the command a run was started with, as it could be typed again."""
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "slimkit"
    start = ["python", "tools/quant.py"] if program == "quant.py" else ["slimkit", "quant"]
    words = [*start, "-c", config_file]
    if overrides:
        words += ["-o", *overrides]
    return shlex.join(words + (["--resume"] if resume else []))
