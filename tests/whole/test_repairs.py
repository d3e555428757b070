"""A tune that may repair the model: the repair is measured, kept in the plan, shown, and made again from the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import autoprec
from autoprec.build import deliver
from autoprec.errors import UsageError
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import record_baseline
from autoprec.gate.rebuild import rebuild_plan
from autoprec.lowering.repaired import repairs_in
from autoprec.plan import RepairKind, load_plan
from autoprec.report.content import report_of
from autoprec.report.read import read_run
from autoprec.run.directory import RunDirectory
from autoprec.run.repairs_record import read_repairs
from autoprec.run.settings import repair_kinds
from autoprec.testing.fake import FakeBackend

from ..helpers.renamed_models import renamed
from ..helpers.uneven_networks import uneven


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    folder = tmp_path_factory.mktemp("repaired")
    onnx.save(uneven(), folder / "uneven.onnx")
    return tuned(folder, trials=3)


def tuned(folder: Path, trials: int) -> autoprec.SearchResult:
    x = np.random.default_rng(0).normal(0, 1, (48, 32, 8, 8)).astype(np.float32)
    return autoprec.search(
        folder / "uneven.onnx",
        calib={"x": x[:24]},
        eval={"x": x[24:]},
        metric="sqnr",
        max_drop=200.0,
        backend=FakeBackend(),
        repairs="auto",
        trials=trials,
        out=folder / "out",
    )


def test_the_repair_is_kept_since_samples_that_did_not_propose_it_say_so(run: autoprec.SearchResult) -> None:
    found = read_repairs(RunDirectory(run.directory).repairs)
    assert [(each.kind, each.value) for each in found.kept] == [(RepairKind.EQUALISE, "v_out")]
    assert found.kept[0].noise_after < 0.5 * found.kept[0].noise_before
    assert found.noise_with < 0.5 * found.noise_without
    assert run.plan.repairs == found.kept == repairs_in(run.tuned.task.subject.model)


def test_the_plan_alone_makes_the_same_model_again(run: autoprec.SearchResult, tmp_path: Path) -> None:
    run.save()
    plan = RunDirectory(run.directory).plan
    assert load_plan(plan).repairs
    made = deliver(plan, run.directory.parent / "uneven.onnx", tmp_path / "again.onnx").model
    one, two = (onnx.load(path).graph for path in (made, RunDirectory(run.directory).model))
    assert sorted(t.SerializeToString() for t in one.initializer) == sorted(
        t.SerializeToString() for t in two.initializer
    )
    assert [node.name for node in one.node] == [node.name for node in two.node]


def test_a_run_that_goes_on_takes_the_repairs_over(run: autoprec.SearchResult) -> None:
    path = RunDirectory(run.directory).repairs
    before = path.stat().st_mtime_ns
    again = tuned(run.directory.parent, trials=4)
    assert path.stat().st_mtime_ns == before
    assert again.plan.repairs == run.plan.repairs


def test_the_report_says_what_the_repair_bought(run: autoprec.SearchResult) -> None:
    section = next(s for s in report_of(read_run(run.directory)).sections if s.key == "repairs")
    assert section.table is not None
    row = section.table.rows[0]
    assert row[:2] == ["v_out", "equalise"]
    assert isinstance(row[4], float)
    assert row[4] > 3


def test_names_of_repairs_are_checked() -> None:
    assert repair_kinds("none") == ()
    assert repair_kinds("smooth, equalise") == (RepairKind.EQUALISE, RepairKind.SMOOTH)
    with pytest.raises(UsageError, match="equalise, smooth, split, got 'awq'"):
        repair_kinds("awq")


def test_a_gate_repairs_an_export_with_other_names_by_structure(run: autoprec.SearchResult, tmp_path: Path) -> None:
    baseline = load_baseline(record_baseline(run.save(), tmp_path / "baseline.json"))
    onnx.save(renamed(uneven(), "again/"), tmp_path / "again.onnx")
    rebuilt = rebuild_plan(tmp_path / "again.onnx", baseline, FakeBackend().scheme)
    (found,) = repairs_in(rebuilt.model)
    assert found.value != "v_out"
    assert found.factors == run.plan.repairs[0].factors
    kept = [each.precision for each in run.plan.units.values()]
    assert [each.precision for each in rebuilt.plan.units.values()] == kept
