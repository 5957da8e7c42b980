"""``VarCollector``: running means of a program's variables over a reader, for choosing PACT thresholds by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

import numpy as np

from slimkit.errors import DataError, ModelError
from slimkit.ir.guards import legacy_ir

__all__ = ["VarCollector"]


class VarCollector:
    """Collects values of variables.

    Args:
        program: a legacy program (or a ``CompiledProgram`` of one).
        var_names: of the variables; those the program does not have are left out.
        use_ema: an exponential mean; else the mean.
        ema_decay: share of the old value in an exponential mean.
        scope: of the program; None: the global one.

    Attributes:
        real_names: the names that the program has, in its order.

    Raises:
        ModelError: it has none of them.
    """

    def __init__(
        self,
        program: Any,
        var_names: Sequence[str],
        use_ema: bool = False,
        ema_decay: float = 0.999,
        scope: Optional[Any] = None,
    ) -> None:
        self.program, self.var_names, self.scope = program, list(var_names), scope
        self.use_ema, self.ema_decay = use_ema, ema_decay
        own = getattr(program, "_program", None) or program
        self.real_names: List[str] = [var.name for var in own.list_vars() if var.name in set(self.var_names)]
        if not self.real_names:
            raise ModelError(
                f"The program has no variable of {', '.join(self.var_names[:5])}; see program.list_vars()."
            )
        self._values: Dict[str, Any] = {}
        self._count = 0

    def update(self, vars_np: Mapping[str, Any]) -> Dict[str, Any]:
        """Takes one value a name and returns the means so far."""
        for name in self.real_names:
            value = vars_np[name]
            if self._count == 0:
                self._values[name] = value
            else:
                share = self.ema_decay if self.use_ema else self._count / (self._count + 1)
                self._values[name] = share * self._values[name] + (1 - share) * value
        self._count += 1
        return dict(self._values)

    def run(
        self, reader: Iterable[Any], exe: Any, step: Optional[int] = None, loss_name: Optional[str] = None
    ) -> Dict[str, np.ndarray]:
        """Means of the variables' values.

        Args:
            reader: of feeds, for ``exe.run``.
            exe: a ``paddle.static.Executor``.
            step: batches to take; None: all.
            loss_name: not needed, for PaddleSlim's sake.

        Returns:
            name -> mean, of the variable's shape.

        Raises:
            DataError: the reader is empty.
        """
        return self._collect(reader, exe, step, lambda value: value)

    def abs_max_run(
        self, reader: Iterable[Any], exe: Any, step: Optional[int] = None, loss_name: Optional[str] = None
    ) -> Dict[str, Any]:
        """Means of the variables' greatest absolute values; arguments and errors of :meth:`run`."""
        return self._collect(reader, exe, step, lambda value: np.abs(value).max())

    def _collect(self, reader: Iterable[Any], exe: Any, step: Optional[int], reduce: Any) -> Dict[str, Any]:
        taken = 0
        with legacy_ir():
            for feed in reader:
                values = exe.run(self.program, feed=feed, fetch_list=self.real_names, scope=self.scope)
                self.update({name: reduce(np.asarray(value)) for name, value in zip(self.real_names, values)})
                taken += 1
                if step is not None and taken >= step:
                    break
        if taken == 0:
            raise DataError("The reader of VarCollector gives no batch; give it at least one.")
        return dict(self._values)

    @staticmethod
    def pdf(var_dist: Mapping[str, np.ndarray], save_dir: Union[str, Path, None] = "dist_pdf") -> None:
        """Draws a histogram of each array into ``save_dir/result.pdf``.

        Args:
            var_dist: name -> values, of any shape.
            save_dir: folder to write; None: nothing is drawn.
        """
        if save_dir is None:
            return
        from matplotlib.backends.backend_pdf import PdfPages
        from matplotlib.figure import Figure

        Path(save_dir).mkdir(parents=True, exist_ok=True)
        with PdfPages(Path(save_dir) / "result.pdf") as pages:
            for name, array in var_dist.items():
                values = np.asarray(array).ravel()
                figure = Figure()
                axes = figure.subplots()
                axes.hist(
                    values, bins=1000, histtype="stepfilled", weights=np.full(values.shape, 1 / max(values.size, 1))
                )
                axes.set(title=f"Hist of variable {name}", xlabel=name, ylabel="frequency")
                pages.savefig(figure)
