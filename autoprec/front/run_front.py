"""The measured plans of a run directory: which are on the front, what a new bound chooses, and any of them built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprec.backends.protocol import Backend
from autoprec.files.trust import trusted_files
from autoprec.front.build import build_point, plan_of, reason_of
from autoprec.front.choose import fast_enough, front_of, latency_limit, point_of, within
from autoprec.front.loaded import LoadedRun, load_run
from autoprec.front.points import Chosen, Cost, Point
from autoprec.graph.model import Model
from autoprec.plan import Plan
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.directory import RunDirectory
from autoprec.run.study_description import StudyDescription
from autoprec.units.records import Partition


class RunFront:
    """The measured plans of a run directory; nothing in it is changed.

    Args:
        loaded: what the run directory holds.
    """

    def __init__(self, loaded: LoadedRun) -> None:
        self.loaded = loaded

    @property
    def directory(self) -> RunDirectory:
        """The run directory."""
        return self.loaded.directory

    @property
    def studied(self) -> StudyDescription:
        """What the run's study is about."""
        return self.loaded.studied

    @property
    def model(self) -> Model:
        """The model that was tuned."""
        return self.loaded.model

    @property
    def partition(self) -> Partition:
        """The units of the model."""
        return self.loaded.partition

    @property
    def ranges(self) -> RangeTable | None:
        """The ranges that the plans were measured with, None where no plan needs any."""
        return self.loaded.ranges

    @property
    def points(self) -> tuple[Point, ...]:
        """The measured plans, in the order in which they were measured."""
        return self.loaded.points

    @property
    def noises(self) -> dict[str, dict[Precision, float]]:
        """Unit -> precision -> the noise that it alone adds, in the order of the unit's choices."""
        return self.loaded.noises

    @property
    def answer(self) -> Point | None:
        """The plan that the run chose, None where it did not end."""
        return self.loaded.answer

    @property
    def unit_ms(self) -> float | None:
        """The latency of the clock's unit in the run's last rounds, None where it did not end."""
        return self.loaded.unit_ms

    @property
    def fp32_ms(self) -> float | None:
        """FP32's latency in the run's last rounds, None where it did not end or did not time FP32."""
        return self.unit_ms if self.studied.goal.unit is Precision.FP32 else None

    def front(self, objective: Cost | None = "latency") -> tuple[Point, ...]:
        """The plans that no other beats in both the objective and the drop, cheapest first.

        Args:
            objective: latency or size; None for the plans that no other beats in latency, drop and size at once,
                fastest first.
        """
        return front_of(self.points, objective)

    def point(self, number: int) -> Point:
        """The measured plan of that trial number.

        Raises:
            UsageError: there is none.
        """
        return point_of(self.points, number)

    def within(self, max_drop: float | None = None, objective: Cost | None = None) -> Chosen:
        """The plan of least latency or size whose drop is within the bound, by default the run's.

        Under the run's own bound and objective it is the run's answer, which was chosen by more rounds.

        Raises:
            UsageError: the bound is below 0.
        """
        return within(self.loaded, max_drop, objective)

    def fast_enough(self, max_ratio: float | None = None, max_ms: float | None = None) -> Chosen:
        """The plan of least drop that is fast enough.

        Args:
            max_ratio: the most latency, as a share of FP32's.
            max_ms: the most latency in milliseconds, instead.

        Raises:
            UsageError: the limit is not above 0, or is in milliseconds and the run's are not known.
        """
        return fast_enough(self.loaded, max_ratio, max_ms)

    def latency_limit(self, max_ratio: float | None, max_ms: float | None) -> tuple[float, str]:
        """A limit as a share of FP32's latency, and as a text.

        Raises:
            UsageError: it is not above 0, or in milliseconds and the run's are not known.
        """
        return latency_limit(self.loaded, max_ratio, max_ms)

    def plan(self, point: Point, max_drop: float | None = None) -> Plan:
        """The plan file's content, as the run would have written it, with evidence that says where it comes from.

        Args:
            point: one of `points`.
            max_drop: the bound that it was chosen by; by default the run's.
        """
        return plan_of(self.loaded, point, max_drop)

    def reason(self, point: Point) -> str:
        """Where a plan comes from and what is known of it, in one line."""
        return reason_of(self.loaded, point)

    def build(self, point: Point, folder: str | Path, max_drop: float | None = None) -> RunDirectory:
        """Write plan.json and the lowered model.onnx of a measured plan.

        Args:
            point: one of `points`.
            folder: where the files go; not a run directory, whose other files are of another plan.
            max_drop: the bound that it was chosen by; by default the run's.

        Raises:
            UsageError: the folder is a run directory.
            RunDirectoryError: it cannot be written.
        """
        return build_point(self.loaded, point, Path(folder), max_drop)


def load_front(
    run: str | Path,
    model: str | Path | None = None,
    backend: Backend | None = None,
    *,
    trust: str | Path | Sequence[str | Path] = (),
) -> RunFront:
    """The measured plans of a run directory, to list, to choose from under a new bound, and to build.

    Args:
        run: the run directory, finished or stopped.
        model: where the model is now; by default where the run found it.
        backend: the run's backend, where its scheme is not one of autoprec's.
        trust: the run directory, or its study.json, if that may name a model anywhere.

    Raises:
        RunDirectoryError: there is no run, or it is damaged.
        ModelError: the model is missing, has changed, or lies where a run that is not trusted is not followed.
    """
    return RunFront(load_run(Path(run), model, backend, trusted_files(trust)))
