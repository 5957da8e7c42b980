"""What each op does with channels: one row an op type.

An op type without a row keeps the channels that it reads; ``refused.py`` says why.
"""

from __future__ import annotations

from typing import Dict

from slimkit.prune.rules import (
    channelwise,
    convolution,
    elementwise,
    joining,
    linear,
    normalization,
    picking,
    reshaping,
    shuffling,
)
from slimkit.prune.rules.refused import reason_of
from slimkit.prune.rules.rule import Rule

__all__ = ["RULES", "Rule", "reason_of"]

RULES: Dict[str, Rule] = {
    **convolution.RULES,
    **linear.RULES,
    **elementwise.RULES,
    **channelwise.RULES,
    **normalization.RULES,
    **joining.RULES,
    **reshaping.RULES,
    **shuffling.RULES,
    **picking.RULES,
}
