"""Only what an earlier version got wrong is measured anew."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT
from autoprec.precision import Precision
from autoprec.sensitivity.journal import Journal
from autoprec.sensitivity.mended import REVISION, mended_entries
from autoprec.sensitivity.scoring import Total
from autoprec.sensitivity.table import Sensitivities, Sensitivity, load_sensitivities

from ..helpers.lowering_bench import Bench
from ..helpers.onnx_builder import Builder

FP32, FP16, BF16, INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8


def _reader_of_itself() -> onnx.ModelProto:
    """The first unit returns the exponentials that it goes on with."""
    b = Builder()
    exps = b.node("Exp", "exp", [b.input("x", ["N", 16])])
    both = [exps, b.node("Sin", "sin", [exps])]
    for name, x in zip(("first", "second"), both, strict=True):
        b.output(b.node("MatMul", name, [x, b.weight(f"{name}.w", 16, 16)]), ["N", 16])
    return b.model()


@pytest.fixture(name="bench", scope="module")
def _bench() -> Bench:
    return Bench(_reader_of_itself(), ORT_CPU, FP32)


def test_only_units_that_read_themselves_are_measured_anew(bench: Bench) -> None:
    units = {name for name, _ in mended_entries(bench.lowerer)}
    both = next(unit for unit in bench.partition.units if {"exp", "sin"} <= set(unit.nodes))

    assert units == {both.name}
    assert len(bench.partition.units) > 1


def test_a_carrier_in_bf16_concerns_every_unit_in_int8() -> None:
    bench = Bench(_reader_of_itself(), TENSORRT, BF16)

    assert {(unit.name, INT8) for unit in bench.partition.units} <= mended_entries(bench.lowerer)


def test_an_old_table_keeps_the_others(tmp_path: Path, bench: Bench) -> None:
    table = Sensitivities(
        entries={(unit.name, FP16): Sensitivity(1.0, None, 0.0) for unit in bench.partition.units},
        samples=8,
        pass_s=1.0,
        spent_s=2.0,
        fingerprint="f",
    )
    table.save(tmp_path / "profile.json")
    record = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
    assert record.pop("revision") == REVISION
    (tmp_path / "profile.json").write_text(json.dumps(record), encoding="utf-8")
    old = load_sensitivities(tmp_path / "profile.json")
    left = old.without(mended_entries(bench.lowerer))

    assert old.revision == 1
    assert left.revision == REVISION
    assert len(left.entries) == len(table.entries) - 1


def test_lines_of_an_old_journal_are_passed_over_where_they_were_wrong(tmp_path: Path) -> None:
    path, total = tmp_path / "journal", Total(noise=1.0, kl=None, drop=0.0, squares=1.0, count=2)
    Journal(path, "f").write(0, {("a", INT8): total, ("b", INT8): total}, 1.0)
    mended = frozenset({("a", INT8)})
    assert set(Journal(path, "f", mended).read([2])[0]) == {(0, "a", INT8), (0, "b", INT8)}
    path.write_text(path.read_text(encoding="utf-8").replace(f'"revision": {REVISION}, ', ""), encoding="utf-8")

    assert set(Journal(path, "f", mended).read([2])[0]) == {(0, "b", INT8)}
