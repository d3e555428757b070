"""Ranges from one streaming pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.ort_engine import OrtEngine
from autoprec.backends.scheme import ORT_CPU, TENSORRT
from autoprec.calibrate.choose import CANDIDATES, calibrate_model, range_fingerprint
from autoprec.data.dataset import Dataset
from autoprec.errors import BackendError
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.recipes.ranging import CalibrationRecipe

from ..helpers.lowering_bench import Bench
from ..helpers.networks import mlp

BACKEND = OrtBackend(threads=1)


@pytest.fixture(name="bench", scope="module")
def _bench() -> Bench:
    return Bench(mlp(), ORT_CPU, Precision.FP32)


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_minmax_ranges_are_the_extremes_whatever_the_batch(bench: Bench, batch: int) -> None:
    table = calibrate_model(bench.calibration(BACKEND, method="minmax", batch=batch))

    assert table.extent["x"].low == pytest.approx(bench.feed["x"].min(), rel=1e-6)
    assert table.extent["x"].high == pytest.approx(bench.feed["x"].max(), rel=1e-6)
    assert table.clipped["x"] == table.extent["x"]


def test_channel_means_are_those_of_the_samples(bench: Bench) -> None:
    table = calibrate_model(bench.calibration(BACKEND, method="minmax", batch=3))

    np.testing.assert_allclose(table.means["x"], bench.feed["x"].mean(axis=0), rtol=1e-5, atol=1e-7)


def test_a_table_read_back_is_the_table_used(bench: Bench, tmp_path: Path) -> None:
    """Else a plan would build other bytes than its run."""
    table = calibrate_model(bench.calibration(BACKEND))
    table.save(tmp_path / "ranges.json")
    again = load_ranges(tmp_path / "ranges.json")

    assert (again.method, again.clipped, again.extent) == (table.method, table.clipped, table.extent)
    assert all((again.means[name] == mean).all() for name, mean in table.means.items())


def test_auto_takes_the_method_of_least_noise_and_keeps_the_evidence(bench: Bench) -> None:
    table = calibrate_model(bench.calibration(BACKEND))

    judged = judged_methods(table)
    assert len(judged) == len(CANDIDATES)
    assert judged[table.method] == min(judged.values())


def judged_methods(table: RangeTable) -> dict[str, float]:
    """Noise with one calibrator for all values."""
    return {label: noise for label, noise in table.evidence.items() if "simulated" not in label}


class Choosy(OrtBackend):
    """Builds no engine of a model with Q/DQ pairs, from the given one on; exact arithmetic is fine."""

    def __init__(self, built: int) -> None:
        super().__init__(1)
        self._left = built

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> OrtEngine:
        if not exact:
            self._left -= 1
            if self._left < 0:
                raise BackendError("no kernel computes this in int8")
        return super().build(model, exact=exact, threads=threads)


@pytest.mark.parametrize("built", [0, 2])
def test_where_the_runtime_refuses_uniform_int8_all_methods_are_judged_by_simulation(bench: Bench, built: int) -> None:
    shares = []

    def told(what: str, share: float) -> None:
        if what == "calibrator":
            shares.append(share)

    table = calibrate_model(bench.calibration(Choosy(built), progress=told))

    judged = judged_methods(table)
    assert len(judged) == len(CANDIDATES)
    assert judged[table.method] == min(judged.values())
    assert shares[-1] == 1
    assert len(shares) == built + len(CANDIDATES), "noises of engines and of simulation are never compared"


@pytest.mark.parametrize("runs", [0, 3, 40, 90])
def test_a_calibration_that_is_cut_in_the_midst_of_a_pass_ends_with_a_table_that_holds(bench: Bench, runs: int) -> None:
    begun = [0]

    def up() -> bool:
        begun[0] += 1
        return begun[0] > runs

    job = replace(bench.calibration(BACKEND), out_of_time=up, most_samples=2)
    table = calibrate_model(job)

    assert table.clipped.keys() == bench.ranges.clipped.keys()
    assert begun[0] > runs, "it was cut"


def test_no_more_samples_are_used_than_the_recipe_says(bench: Bench) -> None:
    table = calibrate_model(bench.calibration(BACKEND, method="minmax", samples=5))

    assert table.samples == 5
    assert table.extent["x"].high == pytest.approx(bench.feed["x"][:5].max(), rel=1e-6)


def test_ranges_are_void_for_other_data_recipes_and_schemes(bench: Bench) -> None:
    data = Dataset.from_arrays(bench.feed)
    other = Dataset.from_arrays({"x": bench.feed["x"] + np.float32(1e-3)})
    recipe, minmax = CalibrationRecipe(name="r"), CalibrationRecipe(name="r", method="minmax")
    marks = {
        range_fingerprint(bench.lowerer, data, recipe),
        range_fingerprint(bench.lowerer, other, recipe),
        range_fingerprint(bench.lowerer, data, minmax),
        range_fingerprint(Bench(mlp(), TENSORRT, Precision.FP32).lowerer, data, recipe),
    }

    assert len(marks) == 4
    assert range_fingerprint(bench.lowerer, data, CalibrationRecipe(name="another name")) in marks
