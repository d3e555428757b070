"""`autoprec.search` as a program would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import autoprec
from autoprec.errors import DataError, RunDirectoryError
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.run.owner import default_out
from autoprec.run.uniform import uniform_plans
from autoprec.testing import FakeBackend, tiny_data

from .helpers.cpu_kernels import needs_exact_products

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
UNITS = ("conv1", "conv2", "conv3", "pool", "head")

USER_SCRIPT = """
from collections.abc import Mapping
import numpy as np
import numpy.typing as npt
import autoprec
from autoprec.testing import FakeBackend

def score(outputs: Mapping[str, npt.NDArray[np.float32]], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(outputs["scores"].argmax(axis=1) == labels, np.float64)

result = autoprec.search(
    "model.onnx", calib={"x": np.zeros((4, 3), np.float32)}, eval="eval.npz", metric=score, direction="higher",
    max_drop=0.02, backend=FakeBackend(), pins=["head=fp32"], seed=1,
)
plan: autoprec.Plan = result.plan
precisions: dict[str, autoprec.Precision] = plan.precisions()
latencies: list[float] = [trial.measured.latency_ratio for trial in result.trials if trial.feasible]
folder: str = str(result.save("somewhere"))
wrong: int = result.plan  # type: ignore[assignment]
wrong = autoprec.load_plan("plan.json")  # type: ignore[assignment]
autoprec.search(3)  # type: ignore[arg-type]
autoprec.search("model.onnx", direction="up")  # type: ignore[arg-type]
autoprec.search("model.onnx", max_dorp=1)  # type: ignore[call-arg]
"""


@pytest.fixture(name="data", scope="module")
def _data(model: Path) -> dict[str, Array]:
    return tiny_data(model, 36)


@pytest.fixture(name="result", scope="module")
def _result(model: Path, data: Mapping[str, Array], tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    out = tmp_path_factory.mktemp("run")
    return autoprec.search(model, calib=data, max_drop=0.5, trials=8, backend=FakeBackend(), out=out)


def test_the_plan_gives_every_unit_a_precision_a_reason_and_a_key(result: autoprec.SearchResult) -> None:
    assert tuple(result.plan.units) == UNITS
    assert all(choice.reason and choice.key and not choice.pinned for choice in result.plan.units.values())
    assert len({choice.key for choice in result.plan.units.values()}) == len(UNITS)


def test_the_trials_begin_with_the_uniform_plans(result: autoprec.SearchResult) -> None:
    assert [trial.origin for trial in result.trials[:2]] == ["uniform fp32", "uniform int8"]
    assert [trial.number for trial in result.trials] == list(range(len(result.trials)))
    assert len({tuple(sorted(trial.plan.items())) for trial in result.trials}) == len(result.trials)


def test_the_answer_is_a_feasible_trial(result: autoprec.SearchResult) -> None:
    trial = next(t for t in result.trials if dict(t.plan) == result.plan.precisions())

    assert result.feasible
    assert trial.feasible
    assert trial.measured.judged_drop <= 0.5


def test_the_answer_is_written_and_save_adds_the_evidence(result: autoprec.SearchResult, tmp_path: Path) -> None:
    before = {path.name for path in result.directory.iterdir()}
    folder = result.save(tmp_path / "saved")

    assert before == {
        "autoprec-files.json",
        "causes.json",
        "latency.json",
        "model.onnx",
        "network.json",
        "plan.json",
        "profile.json",
        "ranges.json",
        "result.json",
        "search.json",
        "study.json",
        "study.log",
    }
    assert folder == tmp_path / "saved"
    assert {path.name for path in folder.iterdir()} == {
        "autoprec-files.json",
        "evidence.json",
        "model.onnx",
        "plan.json",
        "result.json",
    }
    assert {path.name for path in result.directory.iterdir()} == before


def test_what_is_saved_is_what_was_found(result: autoprec.SearchResult, tmp_path: Path) -> None:
    folder = result.save(tmp_path)

    assert autoprec.load_plan(folder / "plan.json").precisions() == result.plan.precisions()
    assert autoprec.load_plan(folder / "plan.json").units == result.plan.units
    assert json.loads((folder / "result.json").read_text())["chosen"] == result.summary["chosen"]


@needs_exact_products
def test_the_saved_model_runs_and_is_near_the_float_one(
    result: autoprec.SearchResult, data: Mapping[str, Array], model: Path, tmp_path: Path
) -> None:
    result.save(tmp_path)
    with FakeBackend().build((tmp_path / "model.onnx").read_bytes()) as engine:
        scores = engine.run({"x": data["x"]})["scores"]
    with FakeBackend().build(model.read_bytes()) as engine:
        expected = engine.run({"x": data["x"]})["scores"]

    assert np.square(scores - expected).sum() < 0.01 * np.square(expected).sum()
    assert (scores != expected).any()


def test_save_into_a_file_is_refused(result: autoprec.SearchResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RunDirectoryError, match="cannot be made"):
        result.save(tmp_path / "file")


def test_the_same_seed_gives_the_same_trials_and_plan(
    model: Path, data: Mapping[str, Array], result: autoprec.SearchResult, tmp_path: Path
) -> None:
    again = autoprec.search(model, calib=data, max_drop=0.5, trials=8, backend=FakeBackend(), out=tmp_path)

    assert again.trials == result.trials
    assert again.plan == result.plan


def test_another_seed_splits_the_data_otherwise(
    model: Path, data: Mapping[str, Array], result: autoprec.SearchResult, tmp_path: Path
) -> None:
    again = autoprec.search(model, calib=data, max_drop=0.5, trials=8, backend=FakeBackend(), out=tmp_path, seed=1)

    assert again.plan.fingerprints["calibration"] != result.plan.fingerprints["calibration"]
    assert again.plan.fingerprints["weights"] == result.plan.fingerprints["weights"]


def test_a_function_as_metric_sees_outputs_and_labels(model: Path, data: Mapping[str, Array], tmp_path: Path) -> None:
    seen: list[tuple[set[str], tuple[int, ...]]] = []

    def score(outputs: Mapping[str, Array], labels: Array) -> Array:
        seen.append((set(outputs), labels.shape))
        return -np.abs(outputs["scores"]).max(axis=1)

    result = autoprec.search(
        model, calib=data, metric=score, direction="lower", max_drop=9, trials=2, backend=FakeBackend(), out=tmp_path
    )

    assert result.summary["metric"].endswith("score")
    assert result.summary["direction"] == "lower is better"
    assert all(names == {"scores"} and len(shape) == 1 for names, shape in seen)


def test_progress_is_told_of_stages_shares_and_trials(model: Path, data: Mapping[str, Array], tmp_path: Path) -> None:
    class Listener:
        def __init__(self) -> None:
            self.stages: list[str] = []
            self.shares: list[float] = []
            self.trials: list[Any] = []

        def stage(self, name: str, detail: str) -> None:
            self.stages.append(name)

        def advance(self, share: float) -> None:
            self.shares.append(share)

        def trial(self, trial: Any) -> None:
            self.trials.append(trial)

    told = Listener()
    result = autoprec.search(model, calib=data, trials=4, backend=FakeBackend(), out=tmp_path, progress=told)

    assert [name for name in told.stages if name] == [
        "splits",
        "ranges",
        "sensitivity",
        "latency",
        "search",
        "confirmation",
    ]
    assert all(0 <= share <= 1 for share in told.shares)
    assert tuple(told.trials) == result.trials


def test_it_raises_the_errors_of_the_package(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tuning needs data"):
        autoprec.search(model, out=tmp_path)
    assert issubclass(DataError, autoprec.AutoprecError)


def test_the_default_directory_lies_under_the_current_folder() -> None:
    assert default_out("/somewhere/else/net.onnx") == Path("autoprec-runs/net")


costs = st.floats(0.05, 3.0)


@pytest.mark.slow
@given(
    table=st.fixed_dictionaries({unit: st.tuples(costs, costs) for unit in UNITS}),
    pairs=st.floats(0.0, 1.5),
    bound=st.sampled_from([0.0, 3e-4, 3e-3, 0.1]),
)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_answer_is_never_slower_than_a_uniform_plan_within_the_bound(
    tmp_path_factory: pytest.TempPathFactory,
    model: Path,
    data: Mapping[str, Array],
    table: dict[str, tuple[float, float]],
    pairs: float,
    bound: float,
) -> None:
    backend = FakeBackend({**table, "QuantizeLinear": (pairs, pairs), "DequantizeLinear": (pairs, pairs)})
    out = tmp_path_factory.mktemp("run")
    result = autoprec.search(model, calib=data, metric="sqnr", max_drop=bound, trials=10, backend=backend, out=out)
    task, ranges = result.tuned.task, result.tuned.ranges

    def latency(plan: Mapping[str, Precision]) -> float:
        with backend.build(to_bytes(task.subject.lowerer.lower(plan, ranges).ir)) as engine:
            return engine.time_ms({}, 1)[0]

    accepted = [dict(trial.plan) for trial in result.trials if trial.feasible]
    uniform = [dict(plan) for plan in uniform_plans(task.subject).values()]
    assert len(uniform) == 2
    assert all(plan in [dict(trial.plan) for trial in result.trials] for plan in uniform)
    assert result.plan.precisions() in accepted
    best = min(latency(plan) for plan in uniform if plan in accepted)
    assert latency(result.plan.precisions()) <= best * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the NumPy of Python 3.10 has older annotations")
def test_a_program_that_uses_it_is_checked_by_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(USER_SCRIPT, encoding="utf-8")
    # On Python 3.11 the check of all types has filled a cache, for 3.10 (see tests/run.sh), which saves half a minute.
    version = ["--python-version", "3.10"] if sys.version_info[:2] == (3, 11) else []
    command = [sys.executable, "-m", "mypy", "--strict", *version, str(script)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stdout
