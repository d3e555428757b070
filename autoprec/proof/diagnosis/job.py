"""What is diagnosed, and with what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Dataset
from autoprec.lowering.lowerer import Lowerer
from autoprec.plan import Assignment
from autoprec.ranges.table import RangeTable


def _entered(model: bytes, build: Callable[[], Engine], stack: ExitStack) -> Engine:
    return stack.enter_context(build())


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisJob:
    """What is diagnosed, and with what.

    Attributes:
        title: what it is called.
        lowerer: writes the plan.
        plan: unit -> precision.
        ranges: the ranges, None where nothing is quantised.
        backend: the runtime.
        data: the samples.
        batch_size: the most samples of one run.
        written: the model that the runtime runs, where it is a file; None for the plan as it is written now.
        opened: opens an engine of a model until the stack ends; large ones may take turns in memory.
        progress: is told the share that is done.
    """

    title: str
    lowerer: Lowerer
    plan: Assignment
    ranges: RangeTable | None
    backend: Backend
    data: Dataset
    batch_size: int
    written: ir.Model | None = None
    opened: Callable[[bytes, Callable[[], Engine], ExitStack], Engine] = _entered
    progress: Callable[[float], None] = lambda share: None
