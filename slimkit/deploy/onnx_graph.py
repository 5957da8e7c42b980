"""The editing view of an ONNX graph: who makes a tensor, who reads it, and what is constant."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

import numpy as np

__all__ = ["OnnxGraph"]


class OnnxGraph:
    """One ``onnx.ModelProto``'s main graph, with adjacency kept up to date by every edit.

    Attributes:
        nodes: in topological order.
        constants: initializer name -> array; arrays are not to be written to.
        producers: tensor -> the node that makes it.
        readers: tensor -> the nodes that read it, each once.
    """

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.model = model
        self.nodes: List[Any] = list(model.graph.node)
        self.constants: Dict[str, np.ndarray] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.producers: Dict[str, Any] = {}
        self.readers: Dict[str, List[Any]] = {}
        for node in self.nodes:
            self._link(node)
        self._taken = {*self.constants, *self.producers, *(i.name for i in model.graph.input)}
        self.results = [o.name for o in model.graph.output]

    def _link(self, node: Any) -> None:
        for name in node.output:
            self.producers[name] = node
        for name in dict.fromkeys(filter(None, node.input)):
            self.readers.setdefault(name, []).append(node)
        for name in self._outer_names(node):
            self.readers.setdefault(name, []).append(node)

    @staticmethod
    def _outer_names(node: Any) -> Iterable[str]:
        """Names that a control-flow node's bodies may read from here."""
        bodies = [a.g for a in node.attribute if a.HasField("g")]
        return {name for body in bodies for inner in body.node for name in inner.input} - set(node.input)

    def fresh(self, name: str) -> str:
        """A tensor name that nothing has yet, ``name`` itself when it is free."""
        found, count = name, 1
        while found in self._taken:
            count += 1
            found = f"{name}.{count}"
        self._taken.add(found)
        return found

    def add_constant(self, name: str, value: np.ndarray) -> str:
        """Adds an initializer; returns its name."""
        name = self.fresh(name)
        self.constants[name] = np.asarray(value)
        return name

    def shared_constant(self, name: str, value: np.ndarray) -> str:
        """An initializer of this name and value: the one that is there, or a new one."""
        held = self.constants.get(name)
        if held is not None and held.dtype == value.dtype and np.array_equal(held, value) and held.shape == value.shape:
            return name
        return self.add_constant(name, value)

    def add_node(self, op: str, inputs: List[str], output: str, before: Optional[Any] = None, **attrs: Any) -> Any:
        """Adds a node with one output, before a node or at the end."""
        from onnx import helper

        node = helper.make_node(op, inputs, [output], **attrs)
        self._taken.add(output)
        at = len(self.nodes) if before is None else next(i for i, n in enumerate(self.nodes) if n is before)
        self.nodes.insert(at, node)
        self._link(node)
        return node

    def read_instead(self, node: Any, old: str, new: str) -> None:
        """Makes a node read another tensor."""
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        self.readers[old] = [n for n in self.readers.get(old, []) if n is not node]
        if not any(n is node for n in self.readers.setdefault(new, [])):
            self.readers[new].append(node)

    def replace(self, old: str, new: str) -> None:
        """Makes every reader of a tensor read another."""
        for node in list(self.readers.get(old, [])):
            self.read_instead(node, old, new)

    def rename(self, old: str, new: str) -> None:
        """Gives a tensor another name, which is free."""
        if old in self.constants:
            self.constants[new] = self.constants.pop(old)
        maker = self.producers.pop(old, None)
        for node in [*([maker] if maker is not None else []), *self.readers.pop(old, [])]:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new
        if maker is not None:
            self.producers[new] = maker
        self.readers[new] = [n for n in self.nodes if new in n.input]

    def remove(self, node: Any) -> None:
        """Removes a node; its inputs and outputs stay."""
        self.nodes = [n for n in self.nodes if n is not node]
        for name in set(node.input):
            self.readers[name] = [n for n in self.readers.get(name, []) if n is not node]
        for name in node.output:
            if self.producers.get(name) is node:
                del self.producers[name]

    def drop_unread(self) -> None:
        """Removes nodes nobody reads and constants nobody reads."""
        wanted, kept = set(self.results), []
        for node in reversed(self.nodes):
            if any(name in wanted for name in node.output):
                kept.append(node)
                wanted.update(node.input)
                wanted.update(self._outer_names(node))
        keep = {id(node) for node in kept}
        for node in [n for n in self.nodes if id(n) not in keep]:
            for name in set(node.input):
                self.readers[name] = [n for n in self.readers.get(name, []) if n is not node]
        self.nodes = list(reversed(kept))
        self.constants = {name: value for name, value in self.constants.items() if name in wanted}

    def to_model(self) -> Any:
        """Writes the edits into the model; returns it."""
        from onnx import numpy_helper

        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        del graph.initializer[:]
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items())
        del graph.value_info[:]
        return self.model
