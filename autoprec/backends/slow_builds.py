"""What a backend can do whose engines take long to build; none of it is asked of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class BuildsUnderLimit(Protocol):
    """A backend whose builds can take longer than a run may, and that can cancel them."""

    def limit_builds(self, left_s: Callable[[], float], *, quickly: bool = False) -> None:
        """Have every build from now on cancelled, by an `OutOfTimeError`, when these seconds are over.

        Args:
            left_s: says how many seconds builds have left from now; it is asked at the beginning of each wait.
            quickly: whether engines are built by settings that take less time, and are not quite as fast.
        """


@runtime_checkable
class ChoosesPrecisions(Protocol):
    """A backend whose builder can choose the precision of each layer by itself, by the time of its kernels.

    A model whose metadata has `autoprec.precision.LIMITS_KEY` is built so.
    """

    chooses_precisions: bool
    """Whether that is so for what it builds for."""


@runtime_checkable
class TimesByCarrier(Protocol):
    """A backend whose engines take so long to build that none is built of FP32 only to compare latencies with it.

    The latencies of its runs are shares of the latency of the uniform plan in the space's float type. What outputs are
    compared with is FP32 in exact arithmetic.
    """

    times_by_carrier: bool
    """Whether that is so for what it builds for."""


@runtime_checkable
class BuildsAhead(Protocol):
    """A backend that builds in processes of its own, while this one does something else."""

    @property
    def builders(self) -> int:
        """The number of processes that build ahead at once; 0 where nothing is built ahead."""

    def build_ahead(self, model: bytes, *, alone: bool = False) -> None:
        """Begin to build what will be wanted; `build` then waits for no more than the rest.

        Args:
            model: the model.
            alone: whether it has so many kernels to time that no other build may run beside it.
        """

    def kept_build_s(self, model: bytes) -> float | None:
        """The seconds that the builder took for the engine that is kept of a model; None where there is none."""

    def forget_ahead(self, *, cancel: bool = True) -> None:
        """Give up what was begun ahead and nobody waits for, so that nothing else uses the hardware.

        Args:
            cancel: whether builds that run are ended with their processes; otherwise only those that wait are given up.
        """


@runtime_checkable
class GetsReady(Protocol):
    """A backend that needs long before its first build, and can begin with that before there is anything to build."""

    def get_ready(self) -> None:
        """Begin; it goes on beside whatever comes."""
