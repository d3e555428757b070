"""`autoprec diagnose`: its table, its JSON, and what it leaves in a run directory for the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from autoprec.cli import main
from autoprec.cli.text.diagnose import print_diagnosis
from autoprec.precision import Precision
from autoprec.proof.diagnosis.record import DIAGNOSIS, Diagnosis, Noise, UnitError, Visibility
from autoprec.report.content import report_of
from autoprec.report.diagnosis import conclusions, diagnosis_section
from autoprec.report.markdown import markdown
from autoprec.report.read import read_run
from autoprec.testing import tiny_data

from ..helpers.plan_files import tiny_plan

RUN = Path(__file__).resolve().parents[1] / "compatibility" / "data" / "runs" / "finished"


def unit(name: str, plan: float, runtime: float) -> UnitError:
    return UnitError(
        unit=name, precision=Precision.INT8, plan=Noise(plan, plan), runtime=Noise(runtime, runtime), tolerance=1e-4
    )


def found(*units: UnitError, changed: tuple[str, ...] | None = (), disturbed: float = 0.0) -> Diagnosis:
    return Diagnosis(
        plan="run",
        runtime="ort-cpu 1.32.0",
        samples=8,
        units=units,
        outputs={"scores": (Noise(1e-3), Noise(2e-3))},
        visibility=Visibility.EXTRA_OUTPUTS,
        changed=changed,
        disturbed=disturbed,
    )


def test_a_plan_file_is_diagnosed_and_printed_as_the_schema_says(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    plan = tiny_plan(tmp_path, Precision.INT8, scheme="ort-cpu")
    model = tmp_path / "tiny.onnx"
    np.savez(tmp_path / "data.npz", **tiny_data(model, 8))

    words = ["diagnose", str(plan), "--model", str(model), "--eval", str(tmp_path / "data.npz"), "--json"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)

    record = json.loads(result.stdout)
    jsonschema.validate(record, json.loads(CliRunner().invoke(main, ["--json-schema", "diagnose"]).stdout))
    assert result.exit_code == 0
    assert [row["unit"] for row in record["units"]] == ["conv1", "conv2", "conv3", "pool", "head"]
    assert record["samples"] == 8
    assert not (tmp_path / DIAGNOSIS).exists()


def test_the_table_of_a_long_network_fits_80_columns_and_shows_where_it_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    units = [unit(f"encoder.layer.{i}.attention.output.dense", 1e-3, 1e-2 if i == 50 else 1e-9) for i in range(100)]

    print_diagnosis(found(*units), everything=False)

    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= 80
    assert [line.split()[0] for line in table if line.endswith("differs")] == ["51"]
    assert len(table) < 70


def test_the_conclusions_name_the_first_unit_that_parts_and_what_looking_at_it_changed() -> None:
    text = " ".join(conclusions(found(unit("a", 1e-2, 0.0), unit("b", 1e-3, 1e-2), unit("c", 0.0, 1.0))))
    disturbed = " ".join(conclusions(found(unit("a", 1e-2, 0.0), changed=("a",), disturbed=1e-3)))

    assert "from exact arithmetic: b (int8), 20.0 dB by itself; rounding alone explains 40.0 dB" in text
    assert "other units that differ: c" in text
    assert "in the plan, a (int8) adds most" in text
    assert "changed the kernels of 1 units (a); reading them changed the outputs (30.0 dB)" in disturbed


def test_the_report_of_a_run_has_the_section_once_it_was_diagnosed(tmp_path: Path) -> None:
    run = read_run(RUN)
    assert diagnosis_section(run) is None
    for path in RUN.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / DIAGNOSIS).write_text(json.dumps(found(unit("a", 1e-2, 1.0), unit("b", 1e-2, 0.0)).to_record()))

    report = report_of(read_run(tmp_path))

    assert "Where the error comes from" in markdown(report)
    rows = report.to_record()["sections"]["diagnosis"]["rows"]
    assert [row[-1] for row in rows] == ["differs", ""]
    assert rows[1][5] == "exact"
