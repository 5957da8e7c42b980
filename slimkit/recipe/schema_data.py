"""The schema of the ``network`` and ``data`` sections."""

from __future__ import annotations

from typing import List, Literal, Optional, Union

from pydantic import Field, field_validator, model_validator

from slimkit.recipe.section import Section

__all__ = ["DataSection", "NetworkSection"]


class NetworkSection(Section):
    """The float network to compress: built by name, or an inference model that is trained on."""

    name: Optional[str] = Field(None, description="A network of `slimkit.recipe.networks`, e.g. mobilenet_v3_small.")
    model: Optional[str] = Field(
        None,
        description="An inference model instead of `name`: ppocr:cls, ppocr:det, ppocr:rec, or the path of a "
        ".pdmodel or .json.",
    )
    num_classes: int = Field(..., ge=2, description="Classes of the output; must be what the data has.")
    scale: float = Field(1.0, gt=0, description="Width multiplier of the network.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the training loss.")
    weights: Optional[str] = Field(
        None,
        description="Weights: embedded, a .pdparams or .npz file, or null (random or those of `model`).",
    )

    @model_validator(mode="after")
    def _one_source(self) -> NetworkSection:
        if (self.name is None) == (self.model is None):
            raise ValueError("give exactly one of network.name and network.model")
        return self


class DataSection(Section):
    """Training and test images."""

    kind: Literal["fashion_mnist", "imagenet", "text_lines"] = Field(
        ...,
        description="fashion_mnist: embedded; imagenet: a folder of images; text_lines: rendered lines, "
        "upright and upside down.",
    )
    root: Optional[str] = Field(
        None,
        description="ImageNet-style folder: list files or train/<class>/ and val/<class>/. With kind "
        "fashion_mnist it takes the place of the embedded images.",
    )
    train_list: str = Field("train_list.txt", description="List of `path label` lines for training, below root.")
    val_list: str = Field("val_list.txt", description="List of `path label` lines for evaluation, below root.")
    image_size: Union[int, List[int]] = Field(32, description="Network input: one side, or [height, width].")
    resize_short: Optional[int] = Field(
        None,
        ge=1,
        description="imagenet, evaluation: short side before the centre crop; null: image_size * 256/224.",
    )
    mean: Optional[List[float]] = Field(None, description="Mean of x/255, three channels; null: the kind's own.")
    std: Optional[List[float]] = Field(None, description="Deviation of x/255, three channels; null: the kind's own.")
    channel_order: Optional[Literal["rgb", "bgr"]] = Field(None, description="null: the kind's own.")
    augment: bool = Field(True, description="Augment training images.")
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    shift: int = Field(2, ge=0, le=14, description="fashion_mnist: random shift in pixels of the 28x28 original.")
    erase: float = Field(0.0, ge=0, le=1, description="Probability of erasing a random rectangle.")
    batch_size: int = Field(64, ge=1, description="Training batch.")
    eval_batch_size: int = Field(128, ge=1, description="Evaluation batch.")
    drop_last: bool = Field(True, description="Leave out the last, incomplete training batch.")
    workers: int = Field(2, ge=0, description="Decoding threads; 0: none of its own.")
    prefetch: int = Field(4, ge=1, description="Batches prepared ahead.")
    on_corrupt: Literal["refuse", "skip"] = Field(
        "refuse", description="An unreadable image stops the run, or is skipped and named in the report."
    )
    train_limit: Optional[int] = Field(None, ge=1, description="Use only so many training samples.")
    eval_limit: Optional[int] = Field(None, ge=1, description="Use only so many test samples.")
    train_samples: int = Field(4000, ge=2, description="text_lines: lines rendered for training.")
    eval_samples: int = Field(1000, ge=2, description="text_lines: lines rendered for evaluation.")
    difficulty: float = Field(1.0, ge=0, description="text_lines: 0 is clean print; 1 is as hard as scene text.")
    languages: List[Literal["latin", "chinese"]] = Field(
        ["latin", "chinese"], min_length=1, description="text_lines: scripts."
    )
    fonts: List[str] = Field(default_factory=list, description="text_lines: font files or folders, searched first.")
    cache_dir: Optional[str] = Field(
        None, description='text_lines: where rendered lines are kept; null: the user\'s cache; "": nowhere.'
    )

    @field_validator("image_size")
    @classmethod
    def _size(cls, value: Union[int, List[int]]) -> Union[int, List[int]]:
        sides = [value] if isinstance(value, int) else value
        if len(sides) not in (1, 2) or any(side < 1 for side in sides):
            raise ValueError("must be one positive side or [height, width]")
        return value

    @field_validator("mean", "std")
    @classmethod
    def _three(cls, value: Optional[List[float]]) -> Optional[List[float]]:
        if value is not None and len(value) != 3:
            raise ValueError("must be three numbers, one a channel")
        return value
