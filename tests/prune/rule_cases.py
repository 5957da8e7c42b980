"""Small networks for the tests of one rule each: what goes together, why something stays, masked = physical."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec
from plans import check_shapes, error_of, random_plan
from zoo import Network, enliven

from slimkit.ir import Model
from slimkit.prune import Plan, find_groups, prune_model
from slimkit.prune.groups import Group

__all__ = ["Case", "compare", "conv", "linear"]


class _Net(nn.Layer):
    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self._run = forward
        for name, part in parts.items():
            setattr(self, name, self.create_parameter(part) if isinstance(part, list) else part)

    def forward(self, *inputs: Any) -> Any:
        return self._run(self, *inputs)


def conv(inputs: int, outputs: int, size: int = 1, **more: Any) -> nn.Layer:
    return nn.Conv2D(inputs, outputs, size, padding=size // 2, **more)


def linear(inputs: int, outputs: int) -> nn.Layer:
    return nn.Linear(inputs, outputs)


def compare(network: Network, groups: Any, plans: int = 4, least: float = 1e-3) -> None:
    """Asserts for random plans: masked = physical, shapes as declared, and the results are changed."""
    before = network.run(network.model)
    for seed in range(plans):
        plan = random_plan(groups, seed)
        if not len(plan):
            continue
        pruned = prune_model(network.model, plan)
        error, after = error_of(network, pruned, plan)
        assert error <= 1e-5, (seed, error)
        assert max(np.abs(a - b).max() for a, b in zip(after, before)) > least, seed
        check_shapes(network, pruned)


class Case:
    """A network of named parts.

    Args:
        forward: (net, *inputs) -> results; the parts are attributes of ``net``.
        shapes: of the inputs, without the batch; ``dtypes`` of those that are not float32 by place.
        dynamic: the program's image sizes are not known.
        batch: its size; ``known_batch``: the program declares it.
        parts: layers; a list is the shape of a stored parameter.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        *shapes: Sequence[int],
        dtypes: Optional[Dict[int, str]] = None,
        dynamic: bool = False,
        batch: int = 2,
        known_batch: bool = False,
        **parts: Any,
    ) -> None:
        paddle.seed(7)
        rng = np.random.RandomState(0)
        self.net = _Net(forward, **parts)
        for parameter in self.net.parameters(include_sublayers=False):
            parameter.set_value(rng.uniform(0.5, 1.5, parameter.shape).astype("float32"))
        arrays, specs = [], []
        for place, shape in enumerate(shapes):
            dtype = (dtypes or {}).get(place, "float32")
            full = (batch, *shape)
            arrays.append(rng.randn(*full).astype("float32") if dtype == "float32" else rng.randint(0, 4, full))
            known = [-1 if dynamic and axis > 1 else size for axis, size in enumerate(full)]
            specs.append(InputSpec([batch if known_batch else -1, *known[1:]], dtype, f"in{place}"))
        enliven(self.net, [paddle.to_tensor(a) for a in arrays])
        self.model = Model.from_layer(self.net, specs)
        self.network = Network(
            self.model, {f"in{i}": a for i, a in enumerate(arrays)}, tuple(dict.fromkeys(self.model.fetches))
        )
        self.groups = find_groups(self.model)
        tensors = [*self.net.named_parameters(), *self.net.named_buffers()]
        self.names = {path: tensor.name for path, tensor in tensors}
        self._paths = {name: path for path, name in self.names.items()}

    def op_types(self) -> List[str]:
        return list(self.model.op_counts())

    def group(self, path: str) -> Group:
        """The group of a part's filters, prunable or not."""
        for group in self.groups:
            if any(m.parameter == self.names[path] for m in group.producers):
                return group
        raise AssertionError(f"no group has the filters of {path}:\n{self.groups}")

    def members(self, group: Group) -> str:
        """Like ``a.weight[0] b.weight[1]``, sorted; statistics of batch norm left out."""
        found = {f"{self._paths.get(m.parameter, m.parameter)}[{m.axis}]" for m in group.members}
        return " ".join(sorted(f for f in found if "._mean" not in f and "._variance" not in f))

    def assert_groups(self, *expected: str) -> None:
        """Asserts what the prunable groups are, and how many units each has: ``"4: a.weight[0] b.weight[1]"``."""
        found = sorted(f"{group.size}: {self.members(group)}" for group in self.groups.prunable)
        wanted = sorted(f"{e.split(': ')[0]}: {' '.join(sorted(e.split(': ')[1].split()))}" for e in expected)
        assert found == wanted, f"\n{self.groups}"

    def reason(self, path: str) -> str:
        """Why the group of a part stays."""
        group = self.group(path)
        assert group.refused is not None, f"{path} can be pruned:\n{self.groups}"
        return group.refused

    def check(self, *expected: str, plans: int = 4) -> Case:
        """Groups as expected, and masked = physical."""
        self.assert_groups(*expected)
        compare(self.network, self.groups, plans)
        return self

    def prune(self, removed: Dict[str, Sequence[int]]) -> Tuple[Model, Plan]:
        """Prunes units of the groups of some parts."""
        plan = Plan(self.groups, {self.group(path).name: np.array(units) for path, units in removed.items()})
        return prune_model(self.model, plan), plan
