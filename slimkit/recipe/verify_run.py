"""What ``slimkit verify`` does: find the forms, open the data, run everything, and put the report together."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, List, Sequence

from slimkit.errors import ConfigError
from slimkit.recipe.environment import describe_environment
from slimkit.recipe.ptq_report import PtqRunReport
from slimkit.recipe.ptq_report_parts import deployed_results
from slimkit.recipe.verify_models import Form, default_runtimes, for_runtimes, signature_of

__all__ = ["run_verification"]


def run_verification(arguments: argparse.Namespace) -> PtqRunReport:
    """Runs ``slimkit verify``.

    Args:
        arguments: of the command line.

    Raises:
        ConfigError: a runtime, task or option that does not exist, or ``--fail-below`` without labels.
        ModelError, DataError: a model or the data is missing, cannot be read, or does not fit the other.
    """
    from slimkit.deploy.runtime import get_runtime
    from slimkit.recipe.data.real_models import model_path

    model, against = (str(model_path(name)) for name in (arguments.model, arguments.against))
    wanted = [name.strip() for name in (arguments.on or "").split(",") if name.strip()]
    runtimes = list(dict.fromkeys(wanted or default_runtimes(model)))
    for name in runtimes:
        get_runtime(name)
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        quantized = for_runtimes(model, runtimes, Path(folder), quantized=True)
        floats = for_runtimes(against, runtimes, Path(folder), quantized=False)
        return _verify(arguments, runtimes, floats, quantized)


def _verify(
    arguments: argparse.Namespace, runtimes: List[str], floats: Dict[str, Form], quantized: Dict[str, Form]
) -> PtqRunReport:
    from slimkit.deploy.verify import verify
    from slimkit.deploy.verify_metric import Top1
    from slimkit.recipe.tasks import open_samples

    signature = signature_of(floats)
    task, samples = open_samples(
        signature, arguments.data, arguments.task, labels=arguments.labels, **task_options(arguments.option)
    )
    if arguments.fail_below is not None and not samples.labelled:
        raise ConfigError(f"--fail-below needs labels, and {arguments.data} has none; give labelled data.")
    sizes = [signature.samples] if signature.samples > 0 else arguments.batch_size
    with _status(arguments, f"Running both models on {', '.join(runtimes)} ..."):
        found = verify(
            floats,
            quantized,
            samples.stream(limit=arguments.limit),
            metric=lambda: task.metric() or Top1(),
            runtimes=runtimes,
            batch_sizes=sizes,
            threads=arguments.threads,
            latency_seconds=arguments.latency_seconds,
            headline=task.headline or None,
        )
    about = samples.report()
    return PtqRunReport(
        kind="verify",
        title=f"{Path(arguments.model).name or arguments.model} against {Path(arguments.against).name}",
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join(["slimkit", *sys.argv[1:]]),
        asked={
            "model": arguments.model,
            "against": arguments.against,
            "data": arguments.data,
            "on": ", ".join(runtimes),
        },
        environment=describe_environment(),
        data=about,
        task=task.name,
        headline=found.metric,
        threads=arguments.threads,
        batch_sizes=sizes if arguments.latency_seconds > 0 else [],
        results=deployed_results(found),
        notes=_notes(about),
    )


def task_options(words: Sequence[str]) -> Dict[str, Any]:
    """Options of the task from ``KEY=VALUE`` words, values in YAML.

    Raises:
        ConfigError: a word has no ``=``, or its value is no YAML.
    """
    import yaml

    options: Dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            equals = ""
        if not key or not equals:
            raise ConfigError(f"--option {word} is not KEY=VALUE with a value in YAML, such as mean=[0.5,0.5,0.5].")
    return options


def _notes(about: Dict[str, Any]) -> List[str]:
    notes = [str(note) for note in about.get("notes", [])]
    if about.get("skipped"):
        first = about["skipped_files"][0]
        notes.append(
            f"{about['skipped']} of the samples could not be read; the first, {first['file']}: {first['reason']}."
        )
    return notes


def _status(arguments: argparse.Namespace, text: str) -> Any:
    if arguments.json or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)
