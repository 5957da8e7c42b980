"""What an unstructured pruner is told, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Iterable, Mapping, Optional, Sequence, Set, Tuple

from pydantic import BaseModel, ConfigDict, Field

from slimkit.errors import ConfigError, suggestion
from slimkit.numerics.magnitude import GradualSchedule
from slimkit.schema import build

__all__ = ["CONV1X1_ONLY", "GmpConfig", "Settings", "gradual_schedule", "is_conv1x1", "read_skipped"]

MODES = ("ratio", "threshold")
CONV1X1_ONLY = "conv1x1_only"


@dataclass(frozen=True)
class Settings:
    """The arguments that the pruners of dygraph and static programs share.

    Attributes:
        mode: ``ratio`` or ``threshold``.
        ratio: fraction of the weights to prune; used in mode ``ratio``.
        threshold: weights of a smaller magnitude go; used in mode ``threshold``.
        prune_params_type: None, or ``conv1x1_only``.
        local_sparsity: the ratio holds for each weight, not for all together.
        sparse_block: (rows, columns) of the blocks that go together.

    Raises:
        ConfigError: one of them is out of range, or they do not go together.
    """

    mode: str
    ratio: float
    threshold: float
    prune_params_type: Optional[str]
    local_sparsity: bool
    sparse_block: Sequence[int]

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(
                f"mode = {self.mode!r} is not known; it is 'ratio' or 'threshold'{suggestion(str(self.mode), MODES)}"
            )
        if self.mode == "ratio":
            check_ratio("ratio", self.ratio)
        elif not _is_number(self.threshold) or self.threshold < 0:
            raise ConfigError(f"threshold = {self.threshold!r}: it must be a magnitude of weights, 0 or more.")
        if self.prune_params_type not in (None, CONV1X1_ONLY):
            raise ConfigError(
                f"prune_params_type = {self.prune_params_type!r} is not known; it is None (all weights but norms and "
                f"biases) or '{CONV1X1_ONLY}'{suggestion(str(self.prune_params_type), [CONV1X1_ONLY])}"
            )
        if self.local_sparsity and self.mode == "threshold":
            raise ConfigError(
                "local_sparsity = True needs mode = 'ratio': one threshold for all weights does not give each the same "
                "sparsity; drop one of the two."
            )
        block = self.sparse_block
        whole = isinstance(block, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in block)
        if not whole or len(block) != 2:
            raise ConfigError(f"sparse_block = {block!r}: it must be two positive whole numbers, such as [2, 1].")

    @property
    def block(self) -> Tuple[int, int]:
        return (self.sparse_block[0], self.sparse_block[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def check_ratio(name: str, value: Any) -> None:
    """Refuses what is no fraction to prune.

    Raises:
        ConfigError: ``value`` is not between 0 and 1.
    """
    if not _is_number(value) or not 0 < value < 1:
        raise ConfigError(f"{name} = {value!r}: it must be a fraction of the weights, greater than 0 and less than 1.")


class GmpConfig(BaseModel):
    """``configs`` of the gradual pruners; keys are PaddleSlim's. Iterations are training steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pruning_strategy: str = Field(default="gmp", pattern="^gmp$", description="Passed by PaddleDetection; only 'gmp'.")
    stable_iterations: int = Field(ge=0, description="Before pruning starts.")
    pruning_iterations: int = Field(ge=1, description="While the ratio rises.")
    tunning_iterations: int = Field(ge=0, description="At the final ratio.")
    pruning_steps: int = Field(ge=1, description="How many times the ratio rises.")
    initial_ratio: float = Field(ge=0, lt=1, description="The first ratio.")
    resume_iteration: int = Field(default=0, ge=0, description="Where training goes on.")


def gradual_schedule(configs: Optional[Mapping[str, Any]], ratio: float) -> Tuple[GradualSchedule, int]:
    """Reads ``configs`` of a gradual pruner.

    Returns:
        The schedule, and the iteration to start at.

    Raises:
        ConfigError: a key is missing, unknown or out of range.
    """
    if configs is None:
        raise ConfigError(
            "A GMP pruner needs configs = {'stable_iterations': ..., 'pruning_iterations': ..., 'tunning_iterations': "
            "..., 'pruning_steps': ..., 'initial_ratio': ...}; without a schedule use UnstructuredPruner."
        )
    check_ratio("ratio", ratio)
    read = build(GmpConfig, configs, "configs of the GMP pruner")
    if read.initial_ratio > ratio:
        raise ConfigError(
            f"configs of the GMP pruner: initial_ratio = {read.initial_ratio} is above the final ratio = {ratio}; the "
            "ratio only rises."
        )
    if read.pruning_iterations < read.pruning_steps:
        raise ConfigError(
            f"configs of the GMP pruner: pruning_steps = {read.pruning_steps} do not fit into pruning_iterations = "
            f"{read.pruning_iterations}; give each step an iteration at least, better more than 10."
        )
    values = read.model_dump(exclude={"pruning_strategy", "resume_iteration"})
    return GradualSchedule(ratio=ratio, **values), read.resume_iteration


def is_conv1x1(shape: Sequence[int]) -> bool:
    """Whether a weight of this shape is that of a 1x1 convolution: [out, in, 1, 1]."""
    return len(shape) == 4 and shape[2] == 1 and shape[3] == 1


def read_skipped(returned: Any, known: Collection[str]) -> Set[str]:
    """Checks what a ``skip_params_func`` returned.

    Args:
        returned: names.
        known: every name it may return.

    Raises:
        ConfigError: it is no collection of names, or one of them is nothing in the model.
    """
    if isinstance(returned, str) or not isinstance(returned, Iterable):
        raise ConfigError(
            f"skip_params_func returned {type(returned).__name__}; it must return a set of parameter names."
        )
    names = set(returned)
    unknown = sorted(str(name) for name in names if name not in known)
    if unknown:
        raise ConfigError(
            f"skip_params_func returned '{unknown[0]}', which is no parameter or layer of the model"
            f"{suggestion(unknown[0], known)}"
        )
    return names
