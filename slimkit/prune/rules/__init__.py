"""What each op does with channels: one row an op type.

An op type without a row keeps the channels that it reads; the reason says so.
"""

from __future__ import annotations

from typing import Dict

from slimkit.prune.rules import channelwise, convolution, elementwise, joining, linear, normalization, reshaping
from slimkit.prune.rules.rule import Rule

__all__ = ["RULES", "Rule"]

RULES: Dict[str, Rule] = {
    **convolution.RULES,
    **linear.RULES,
    **elementwise.RULES,
    **channelwise.RULES,
    **normalization.RULES,
    **joining.RULES,
    **reshaping.RULES,
}
