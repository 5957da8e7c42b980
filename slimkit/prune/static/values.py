"""``ScopeValues``: the parameters of a program in a scope, which may hold other shapes than the program declares."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.params import Params
from slimkit.prune.static.shapes import declared_shapes

__all__ = ["ScopeValues"]


class ScopeValues(Mapping[str, np.ndarray]):
    """Name -> array.

    Args:
        program: a legacy program.
        scope: where its parameters are.

    Attributes:
        params: the same as :class:`~slimkit.ir.params.Params`.
    """

    def __init__(self, program: Any, scope: Any) -> None:
        if not hasattr(scope, "find_var"):
            raise ConfigError(
                f"scope is {type(scope).__name__}; give the paddle.static.Scope that holds the program's parameters, "
                "such as paddle.static.global_scope()."
            )
        self.params = Params(program, scope)
        self._declared = declared_shapes(program)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)

    def __contains__(self, name: object) -> bool:
        return name in self.params

    def shapes(self) -> Dict[str, List[int]]:
        """Name -> shape in the scope."""
        return {name: self._shape(name) or [] for name in self.params}

    def any_of(self, names: Iterable[str]) -> bool:
        """Whether any has a value."""
        return any(self._shape(name) is not None for name in names)

    def pruned_before(self, names: Iterable[str]) -> bool:
        """Whether one has fewer numbers than declared."""
        return any(self._shape(name) not in (None, self._declared[name]) for name in names)

    def check(self, names: Iterable[str]) -> None:
        """Refuses a scope that is not the program's.

        Raises:
            ModelError: a parameter has no value, or another shape than the program declares.
        """
        for name in sorted(names):
            shape = self._shape(name)
            if shape is None:
                raise ModelError(
                    f"The scope has no value of '{name}'; run the startup program, or load the weights, in this scope "
                    "before pruning."
                )
            if shape != self._declared[name]:
                raise ModelError(
                    f"'{name}' has shape {shape} in the scope and {self._declared[name]} in the program: the scope was "
                    "pruned already; go on with the program that Pruner.prune returned, or, for a second program of "
                    "the scope, pass only_graph=True."
                )

    def zeros(self) -> Dict[str, np.ndarray]:
        """Zeros of the declared shapes: enough for a program whose values do not matter."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._declared.items() if -1 not in shape}

    def put(self, name: str, array: np.ndarray, place: Any = None) -> None:
        """Sets a value of any shape.

        Args:
            name: of a parameter that has one.
            array: the new one.
            place: where to; None: where it is.
        """
        tensor = self.params.tensor(name)
        tensor.set(np.asarray(array, order="C"), _place_of(tensor) if place is None else place)

    def _shape(self, name: str) -> Optional[List[int]]:
        tensor = self.params.tensor(name)
        return None if tensor is None else list(tensor.shape())


def _place_of(tensor: Any) -> Any:
    import paddle

    place = tensor._place()
    return paddle.CUDAPlace(place.gpu_device_id()) if place.is_gpu_place() else paddle.CPUPlace()
