"""Groups written by hand: a chain, a residual stage, a grouped convolution, a concatenation added to a third."""

from __future__ import annotations

from typing import Dict, Sequence

import numpy as np

from slimkit.prune.groups import DEPTHWISE, INPUT, OUTPUT, VECTOR, Group, Groups, Member


def member(parameter: str, axis: int, units: Sequence[int], role: str, op_type: str = "", output: str = "") -> Member:
    default = {OUTPUT: "conv2d", INPUT: "conv2d", DEPTHWISE: "depthwise_conv2d", VECTOR: "batch_norm"}[role]
    return Member(parameter, axis, np.asarray(units, np.int64), role, op_type or default, output or f"{parameter}.out")


def chain(sizes: Sequence[int] = (8, 6, 4), inputs: int = 3, kernel: int = 3) -> Groups:
    """Convolutions c0, c1, ...; each has a batch norm, the last group is refused."""
    groups = []
    for i, size in enumerate(sizes):
        units = np.arange(size)
        members = [member(f"c{i}", 0, units, OUTPUT)]
        members += [member(f"bn{i}.{slot}", 0, units, VECTOR, output=f"bn{i}") for slot in ("scale", "bias")]
        if i + 1 < len(sizes):
            members.append(member(f"c{i + 1}", 1, units, INPUT))
        refused = "it is the result of the network." if i + 1 == len(sizes) else None
        groups.append(Group(f"c{i}", size, members, refused))
    return Groups(groups)


def chain_params(
    sizes: Sequence[int] = (8, 6, 4), inputs: int = 3, kernel: int = 3, seed: int = 0
) -> Dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    params: Dict[str, np.ndarray] = {}
    for i, size in enumerate(sizes):
        shape = (size, sizes[i - 1] if i else inputs, kernel, kernel)
        params[f"c{i}"] = rng.standard_normal(shape).astype(np.float32)
        params[f"bn{i}.scale"] = rng.standard_normal(size).astype(np.float32)
        params[f"bn{i}.bias"] = rng.standard_normal(size).astype(np.float32)
    return params


def grouped(channels: int = 24, conv_groups: int = 4) -> Groups:
    """A grouped convolution g: a unit is the same place in each of its groups, so several channels."""
    size = channels // conv_groups
    units = np.tile(np.arange(size), conv_groups)
    return Groups([Group("g", size, [member("g", 0, units, OUTPUT), member("next", 1, units, INPUT)])])


def joined() -> Groups:
    """concat(a, b) + c: units 0 to 11 are a's, 12 to 15 are b's, and c has them all."""
    rest = np.full(4, -1)
    members = [
        member("a", 0, np.arange(12), OUTPUT),
        member("b", 0, np.concatenate([np.arange(12, 16), rest]), OUTPUT),
        member("c", 0, np.arange(16), OUTPUT),
        member("next", 1, np.arange(16), INPUT),
    ]
    return Groups([Group("a", 16, members)])
