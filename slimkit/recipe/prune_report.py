"""The schema of the ``report.json`` that ``slimkit prune`` leaves.

``schema_version`` goes up when a field changes its meaning or goes away; added fields leave it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from pydantic import BaseModel, ConfigDict, Field

from slimkit.files import atomic_write
from slimkit.recipe.ptq_report import DeployedReport
from slimkit.recipe.run_report import Curves, SkippedOp

__all__ = ["PRUNE_SCHEMA_VERSION", "Cost", "PruneRunReport", "PrunedGroup", "Stage", "write_prune_report"]

PRUNE_SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cost(_Part):
    """What the network costs, of one sample."""

    before: float = Field(description="Unpruned.")
    after: float = Field(description="Pruned.")

    @property
    def removed(self) -> float:
        """Fraction that went."""
        return 1 - self.after / self.before if self.before else 0.0


class Stage(_Part):
    """The network at a stage of the run, on Paddle's executor."""

    name: str = Field(description="float, pruned, fine-tuned, quantized, or a step of iterative pruning.")
    metrics: Dict[str, float] = Field(description="Figures of the task, as fractions.")
    samples: int = Field(0, description="Samples evaluated.")
    macs: Optional[int] = Field(None, description="Multiply-accumulates of one sample.")


class PrunedGroup(_Part):
    """Channels that go together."""

    name: str = Field(description="The first parameter whose filters compute them.")
    layer: str = Field("", description="Path of its layer in the network, where it is known.")
    parameters: List[str] = Field(description="All parameters whose filters compute them.")
    before: int = Field(description="Units: channels that only go together.")
    after: int = Field(description="Units that stayed.")
    losses: Dict[str, float] = Field(
        default_factory=dict, description="Ratio -> what the metric lost with this group alone pruned, of the baseline."
    )

    @property
    def ratio(self) -> float:
        """Fraction that went."""
        return 1 - self.after / self.before


class PruneRunReport(DeployedReport):
    """Everything a pruning has to say."""

    schema_version: int = Field(PRUNE_SCHEMA_VERSION, description="Version of this schema.")
    seed: int = Field(0, description="Seed of the run.")
    resumed: bool = Field(False, description="Whether the run was continued from a checkpoint.")
    config: Dict[str, Any] = Field(description="The whole config, defaults filled in.")
    config_file: str = Field("", description="Where it was read from.")
    config_hash: str = Field("", description="Hash of the keys that decide what is trained.")
    costs: Dict[str, Cost] = Field(description="macs, flops, parameters.")
    stages: List[Stage] = Field(description="Figures of the float, the pruned, the fine-tuned, the quantized network.")
    masked_difference: Optional[float] = Field(
        None, description="Largest difference of outputs between the pruned network and the one with zeros in place of "
        "what went, over the largest output, on a test batch before fine-tuning."
    )  # fmt: skip
    level: Optional[float] = Field(None, description="The loss line (or the one ratio) that met the target.")
    baseline: Optional[float] = Field(None, description="The metric that losses are fractions of.")
    groups: List[PrunedGroup] = Field(description="The groups that can be pruned, in the order of the network.")
    stayed: List[SkippedOp] = Field(description="What cannot be pruned and why.")
    curves: Curves = Field(default_factory=Curves, description="Fine-tuning: loss, learning rate, evaluations.")
    best_step: int = Field(0, description="Step of the exported state.")

    def stage(self, name: str) -> Optional[Stage]:
        """The last stage of a name."""
        return next((stage for stage in reversed(self.stages) if stage.name == name), None)

    def figure(self, name: str) -> Optional[float]:
        """The accuracy at a stage."""
        stage = self.stage(name)
        return stage.metrics.get(self.headline) if stage is not None and self.headline else None


def write_prune_report(report: PruneRunReport, folder: Union[str, Path]) -> List[str]:
    """Writes ``report.html`` and ``report.json`` into a folder; returns their paths.

    Raises:
        SlimkitError: a file cannot be written.
    """
    from slimkit.recipe.prune_html import render

    pages = {"report.html": render(report), "report.json": report.model_dump_json(indent=1)}
    return [str(atomic_write(Path(folder) / name, text.encode())) for name, text in pages.items()]
