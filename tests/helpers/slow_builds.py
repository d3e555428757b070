"""A backend like TensorRT's, without a GPU: builds count as slow, are begun ahead, and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoprec.backends.scheme import TENSORRT_8
from autoprec.errors import OutOfTimeError
from autoprec.precision import LIMITS_KEY, Precision
from autoprec.testing import FakeBackend, FakeEngine

_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


class SlowFake(FakeBackend):
    """What was built is kept; a build moves a clock of the test on by some seconds.

    Args:
        build_s: the seconds of a build.
        builders: the number of processes that it says it builds in.
        free_share: the share of its cost that a model takes whose precisions are left to the builder; 0 where it cannot
            choose any.
    """

    name = "slow fake"
    scheme = TENSORRT_8
    default_space = "tensorrt"
    times_by_carrier = True
    builds_quickly = False
    keeps_engines = True

    def __init__(self, build_s: float = 0.0, builders: int = 2, *, free_share: float = 0.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.build_s, self.builders = build_s, builders
        self.chooses_precisions, self.free_share = free_share > 0, free_share
        self.now, self.quickly = 0.0, False
        self.built: list[tuple[bytes, bool]] = []
        self.ahead: list[bytes] = []
        self._left_s: Callable[[], float] = lambda: float("inf")

    def clock_s(self) -> float:
        """The seconds of the test's clock."""
        return self.now

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> SlowFake:
        return self

    def support(self) -> dict[Precision, str | None]:
        return {p: None if p in _PRECISIONS else "it has no costs" for p in Precision}

    def limit_builds(self, left_s: Callable[[], float], *, quickly: bool = False) -> None:
        self._left_s, self.quickly = left_s, quickly

    def build_ahead(self, model: bytes, *, alone: bool = False) -> None:
        self.ahead.append(model)

    def kept_build_s(self, model: bytes) -> float | None:
        return self.build_s if (model, self.quickly) in self.built else None

    def forget_ahead(self, *, cancel: bool = True) -> None:
        """Nothing runs."""

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> FakeEngine:
        if not exact and (model, self.quickly) not in self.built:
            left_s = self._left_s()
            self.now += max(min(self.build_s, left_s), 0.0)
            if left_s < self.build_s:
                raise OutOfTimeError("the build was cancelled")
            self.built.append((model, self.quickly))
        return super().build(model, exact=exact, threads=threads)

    def _reckon(self, model: bytes, costs: Any = None) -> list[tuple[Any, float, bool]]:
        freely = not isinstance(model, str) and LIMITS_KEY.encode() in model
        share = self.free_share if freely else 1.0
        return [(node, share * ms, quantized) for node, ms, quantized in super()._reckon(model, costs)]
