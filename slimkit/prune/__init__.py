"""Filter pruning: groups of channels that go together, criteria, sensitivity, targets."""

from __future__ import annotations

from slimkit.prune.apply import find_groups, mask_arrays, masked_model, prune_model
from slimkit.prune.groups import Group, Groups, Member
from slimkit.prune.plan import Plan

__all__ = ["Group", "Groups", "Member", "Plan", "find_groups", "mask_arrays", "masked_model", "prune_model"]
