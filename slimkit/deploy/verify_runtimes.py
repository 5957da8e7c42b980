"""How each runtime is verified: a row of :data:`VERIFIERS` for each row of ``RUNTIMES``.

A verifier names the rows that a runtime gets (float, int8, ...), makes each model's own form for it, and opens the
worker it runs in. A newcomer with the members ``open_session``, ``load``, ``export`` and ``executed_precision`` needs a
row and no class.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from slimkit.deploy.runtime import RUNTIMES, get_runtime
from slimkit.deploy.session import Feed, WorkerSession
from slimkit.deploy.size import model_size
from slimkit.errors import ModelError

__all__ = ["VERIFIERS", "Prepared", "Variant", "Verifier", "form_variant", "verifier"]

PathLike = Union[str, Path]


@dataclass(frozen=True)
class Variant:
    """One row of a runtime.

    Attributes:
        key: unique within the runtime.
        precision: "float", "simulated" or "int8", or the name of another form of the network, such as "pruned".
        title: what follows the runtime's name.
        mode: the worker's mode.
        quantized: of the compressed model, not of the float one.
        timed: whether its latency is measured.
    """

    key: str
    precision: str
    title: str
    mode: str
    quantized: bool = True
    timed: bool = True


@dataclass
class Prepared:
    """A model in a runtime's own form.

    Attributes:
        path: what the worker loads.
        size_bytes: on disk.
        precision: where it is not the variant's.
        int8, float: compute kernels, where the conversion chose them.
        notes: what a reader should know.
    """

    path: Path
    size_bytes: int
    precision: Optional[str] = None
    int8: Optional[int] = None
    float: Optional[int] = None
    notes: List[str] = field(default_factory=list)


class Verifier:
    """A runtime whose module has ``open_session``, ``load``, ``export`` and ``executed_precision``.

    Args:
        name: key of ``RUNTIMES``.
        title: its name for people.
        engine: what does its arithmetic, for sentences.
        variants: its rows.
        suffixes: of the models it reads as they are; any other is exported.
    """

    def __init__(
        self, name: str, title: str, engine: str, variants: Tuple[Variant, ...], suffixes: Tuple[str, ...]
    ) -> None:
        self.name, self.title, self.engine, self.variants, self.suffixes = name, title, engine, variants, suffixes
        self.python: Optional[PathLike] = None

    @property
    def runs_here(self) -> bool:
        """Whether it can be executed on this machine."""
        return RUNTIMES[self.name].runs_here

    @property
    def runtime(self) -> Any:
        return get_runtime(self.name)

    def prepare(self, model: PathLike, variant: Variant, folder: Path) -> Prepared:
        """Makes a model's form for this runtime, in ``folder`` unless it has that form already.

        Raises:
            SlimkitError: there is no such model, or it cannot be converted.
        """
        path = Path(model)
        if path.suffix not in self.suffixes and not any(Path(f"{path}{s}").is_file() for s in self.suffixes):
            path = Path(self.runtime.export(path, folder / f"{self.name}-{variant.key}"))
        return Prepared(path, model_size(path).total)

    def threads(self, wanted: int) -> int:
        """How many threads it will use when ``wanted`` are asked for."""
        return wanted

    def open(self, threads: int, *, pin: bool) -> WorkerSession:
        """Starts a worker."""
        return self.runtime.open_session(threads, pin=pin)

    def load(self, session: WorkerSession, key: str, path: Path, variant: Variant) -> None:
        """Loads a prepared model into a worker under ``key``."""
        self.runtime.load(session, key, path, variant.mode)

    def evidence(
        self, path: Path, variant: Variant, feed: Feed, threads: int, also: Mapping[int, Feed]
    ) -> Optional[Dict[str, Any]]:
        """What was executed: see the runtime's ``executed_precision``; None where it cannot be known."""
        return self.runtime.executed_precision(path, feed, threads=threads, also=also)


class PaddleVerifier(Verifier):
    """Paddle Inference, whose int8 is a mode of the runtime."""

    def evidence(
        self, path: Path, variant: Variant, feed: Feed, threads: int, also: Mapping[int, Feed]
    ) -> Optional[Dict[str, Any]]:
        int8 = variant.mode == "int8"
        return self.runtime.executed_precision(path, feed, int8=int8, threads=threads, also=also)


class LiteVerifier(Verifier):
    """Paddle-Lite for one target, in its side interpreter; models are converted to ``.nb``."""

    @property
    def _target(self) -> str:
        return self.name.split("-", 1)[1]

    def threads(self, wanted: int) -> int:
        return 1

    def prepare(self, model: PathLike, variant: Variant, folder: Path) -> Prepared:
        from slimkit.deploy import lite

        if Path(model).suffix == ".nb":
            data = _read(Path(model))
            arithmetic = "int8" if variant.key == "int8" else "float"
            made = lite.Converted(Path(model).absolute(), self._target, len(data), arithmetic, lite.kernels(data))
        else:
            made = lite.convert(model, folder / f"{self.name}-{variant.key}.nb", self._target, python=self.python)
        found = Prepared(made.path, made.size_bytes)
        self._describe(found, made, variant)
        return found

    def _describe(self, found: Prepared, made: Any, variant: Variant) -> None:
        from slimkit.deploy import lite

        if made.arithmetic == lite.ON_GRID or (variant.key == "int8" and self.runs_here and not made.int8_kernels):
            found.precision = "float on the int8 grid"
            found.notes.append(
                f"Paddle-Lite's x86 int8 kernels are wrong, so x86 gets {lite.ON_GRID}; it is neither smaller nor "
                "faster than float, and shows that the model survives conversion."
            )
            return
        absent = "" if self.runs_here else f"Not run: this machine has no {self._target.upper()}."
        if variant.key == "int8":
            counts = [made.kernels.get(op, {}) for op in _LITE_COMPUTE]
            found.int8 = sum(count.get("int8", 0) for count in counts)
            found.float = sum(count.get("float", 0) for count in counts)
            total = found.int8 + found.float
            chosen = f"Paddle-Lite chose int8 kernels for {found.int8} of the {total} convolutions and matrix products."
            found.notes.append(f"{absent} {chosen}".strip())
        elif absent:
            found.notes.append(absent)

    def open(self, threads: int, *, pin: bool) -> WorkerSession:
        from slimkit.deploy import lite

        return lite.open_session(self.python, pin=pin)

    def load(self, session: WorkerSession, key: str, path: Path, variant: Variant) -> None:
        session.load(key, model=str(path))

    def evidence(
        self, path: Path, variant: Variant, feed: Feed, threads: int, also: Mapping[int, Feed]
    ) -> Optional[Dict[str, Any]]:
        return None


_LITE_COMPUTE = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "fc", "mul", "matmul", "matmul_v2")
_FLOAT = Variant("float", "float", "float", "float", quantized=False)
_INT8 = Variant("int8", "int8", "int8", "int8")
_LITE_INT8 = Variant("int8", "int8", "quantized", "int8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} could not be read: {error.strerror}.") from None


#: Runtime -> makes its verifier.
VERIFIERS: Dict[str, Callable[[], Verifier]] = {
    "paddle": lambda: PaddleVerifier(
        "paddle",
        "Paddle Inference",
        "oneDNN",
        (
            _FLOAT,
            Variant("simulated", "simulated", "simulated", "plain", timed=False),
            Variant("int8", "int8", "oneDNN int8", "int8"),
        ),
        (".pdmodel",),
    ),
    "onnx": lambda: Verifier("onnx", "ONNX Runtime", "ONNX Runtime", (_FLOAT, _INT8), (".onnx",)),
    "lite-x86": lambda: LiteVerifier("lite-x86", "Paddle-Lite x86", "Paddle-Lite", (_FLOAT, _LITE_INT8), (".nb",)),
    "lite-arm": lambda: LiteVerifier(
        "lite-arm", "Paddle-Lite ARM (converted, not run)", "Paddle-Lite", (_FLOAT, _LITE_INT8), (".nb",)
    ),
}


def form_variant(of: Verifier, form: str) -> Variant:
    """The row of a runtime for a form of a network: "float", "int8", or a float network under another name."""
    base = next(variant for variant in of.variants if variant.key == ("int8" if form == "int8" else "float"))
    return base if form == base.key else replace(base, key=form, precision=form, title=form, quantized=True)


def verifier(name: str, python: Optional[PathLike] = None) -> Verifier:
    """Returns how a runtime is verified.

    Args:
        name: key of ``RUNTIMES``.
        python: Paddle-Lite's side interpreter.

    Raises:
        ConfigError: there is no such runtime.
    """
    get_runtime(name)
    made = VERIFIERS[name]()
    made.python = python
    return made
