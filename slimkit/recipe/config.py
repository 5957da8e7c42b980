"""The whole config of a recipe: its sections, and when two configs train the same thing."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, List, Optional

from pydantic import Field

from slimkit.quant.config import PactConfig, QuantConfig
from slimkit.recipe.schema import ReportSection, RunSection, TrainSection, VerifySection
from slimkit.recipe.schema_data import DataSection, NetworkSection
from slimkit.recipe.section import Section

__all__ = ["RecipeConfig", "config_hash", "differing_keys", "flatten"]


class RecipeConfig(Section):
    """A whole config file. ``base: other.yml`` at its top builds on another one."""

    run: RunSection = Field(default_factory=RunSection, description="Output, seed, device.")
    network: NetworkSection = Field(..., description="The float network.")
    data: DataSection = Field(..., description="Images.")
    quant: QuantConfig = Field(default_factory=QuantConfig, description="What is quantized and how.")
    pact: Optional[PactConfig] = Field(
        None, description="PACT, trainable clipping of activations: on when the section is there, even as {}."
    )
    train: TrainSection = Field(default_factory=TrainSection, description="The training loop.")
    verify: VerifySection = Field(default_factory=VerifySection, description="Runtimes to check on.")
    report: ReportSection = Field(default_factory=ReportSection, description="Detail of the report.")


# Keys that may differ between a run and its continuation: they do not change the trained parameters.
RESUME_FREE = (
    "run.output",
    "run.place",
    "run.checkpoint_steps",
    "verify",
    "report",
    "data.workers",
    "data.prefetch",
    "data.cache_dir",
    "to",
    "sensitivity.workers",
    "sensitivity.executor",
)


def flatten(values: Any, prefix: str = "") -> Dict[str, Any]:
    """Flattens nested sections to ``{"train.lr.base": 0.1, ...}``."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    flat: Dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}."))
    return flat


def _trained_keys(values: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the flattened keys that decide what is trained."""
    return {
        key: value
        for key, value in flatten(values).items()
        if not any(key == free or key.startswith(free + ".") for free in RESUME_FREE)
    }


def config_hash(config: Section) -> str:
    """Returns a short hash of everything in the config that decides the trained parameters."""
    text = json.dumps(_trained_keys(config.model_dump()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing_keys(config: Section, other: Dict[str, Any]) -> List[str]:
    """Names the keys that differ between ``config`` and a checkpoint's dumped config, with both values."""
    mine, theirs = _trained_keys(config.model_dump()), _trained_keys(other)
    return [
        f"{key} ({json.dumps(theirs.get(key))} there, {json.dumps(mine.get(key))} here)"
        for key in sorted({*mine, *theirs})
        if mine.get(key) != theirs.get(key)
    ]
