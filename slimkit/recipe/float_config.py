"""The schema of a config file of float training; ``network`` and ``data`` are those of the other recipes."""

from __future__ import annotations

from pydantic import Field, model_validator

from slimkit.recipe.schema import LrSection, OptimizerSection
from slimkit.recipe.schema_data import DataSection, NetworkSection
from slimkit.recipe.section import Section

__all__ = ["FloatConfig"]


class FloatRunSection(Section):
    """Where a float training writes, and its seed."""

    output: str = Field("output/float", min_length=1, description="Folder for checkpoint and weights.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of initialisation, order, augmentation, dropout.")


class FloatTrainSection(Section):
    """The float training loop."""

    epochs: int = Field(1, ge=1, description="Epochs over the training set.")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the weights' moving average; 0: none.")
    onednn: bool = Field(
        False,
        description="Train on CPU through oneDNN: faster for convolutions of 3x3 and more, as in a ResNet. AdamW.",
    )
    evaluate_epochs: int = Field(10, ge=1, description="Measure test accuracy every so many epochs.")
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection, description="Optimizer.")
    lr: LrSection = Field(default_factory=LrSection, description="Learning-rate schedule.")

    @model_validator(mode="after")
    def _supported(self) -> FloatTrainSection:
        if self.onednn and self.optimizer.name != "AdamW":
            raise ValueError(
                f"train.onednn trains with AdamW, not {self.optimizer.name}; set train.optimizer.name=AdamW"
            )
        return self


class FloatConfig(Section):
    """A whole config file of float training."""

    run: FloatRunSection = Field(default_factory=FloatRunSection, description="Output and seed.")
    network: NetworkSection = Field(..., description="The network.")
    data: DataSection = Field(..., description="Images.")
    train: FloatTrainSection = Field(default_factory=FloatTrainSection, description="The training loop.")
