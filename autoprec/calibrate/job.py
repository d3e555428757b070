"""What every step of a calibration needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autoprec.backends.limited import LimitedEngine, OutOfTime, never
from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Dataset
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import Possible, uniform
from autoprec.precision import Precision
from autoprec.recipes.ranging import CalibrationRecipe

Progress = Callable[[str, float], bool | None]
"""A function of what is being done and the share of it that is done; it returns True to end it for lack of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationJob:
    """One calibration of one model.

    Attributes:
        lowerer: the lowerer of the model; its scheme says what a range becomes.
        possible: what each unit can run in.
        backend: the runtime that computes values and outputs.
        dataset: the calibration samples; no labels are used.
        recipe: the method, the number of samples, and the number of samples of one run.
        progress: the function that is told how far the calibration is, and may end it between two steps.
        out_of_time: says whether the time is up, which ends a step in its midst.
        most_samples: the most samples of one run, so that no single run outlasts the time; None for the recipe's.
    """

    lowerer: Lowerer
    possible: Possible
    backend: Backend
    dataset: Dataset
    recipe: CalibrationRecipe
    progress: Progress = lambda what, share: None
    out_of_time: OutOfTime = never
    most_samples: int | None = None

    @property
    def batch(self) -> int:
        """The largest number of samples of one run."""
        return self.recipe.batch if self.most_samples is None else min(self.recipe.batch, self.most_samples)

    def engine(self, model: bytes, *, exact: bool = True) -> Engine:
        """Build an engine that runs only while there is time."""
        return LimitedEngine(self.backend.build(model, exact=exact), self.out_of_time)

    def int8_plan(self) -> dict[str, Precision]:
        """Return the plan under which tables are compared: INT8 for every unit that can run in it."""
        return uniform(self.lowerer.partition, Precision.INT8, self.possible, self.lowerer.carrier)
