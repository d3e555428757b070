"""The baseline file: small, sealed, readable; what is not as it was written is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprec.errors import AutoprecError, BaselineError, NoBaselineError, RunDirectoryError
from autoprec.gate.baseline import SCHEMA, laid_out, load_baseline, seal, write_baseline
from autoprec.gate.judge import record_baseline
from autoprec.gate.verdict import Status

from .conftest import Tiny


def rewritten(tiny: Tiny, target: Path, change: Any, *, sealed: bool = False) -> Path:
    """A copy of the baseline, changed by a function of its record."""
    record = json.loads(tiny.baseline.read_text(encoding="utf-8"))
    change(record)
    if sealed:
        record["seal"] = seal({k: v for k, v in record.items() if k not in ("schema", "kind", "seal")})
    target.write_text(json.dumps(record), encoding="utf-8")
    return target


def test_what_is_written_is_read_back(tiny: Tiny, tmp_path: Path) -> None:
    first = load_baseline(tiny.baseline)
    second = load_baseline(write_baseline(first.plan, first.evidence, tmp_path / "again.json"))

    assert second.plan == first.plan
    assert second.evidence == first.evidence
    assert (tmp_path / "again.json").read_bytes() == tiny.baseline.read_bytes()


def test_it_begins_with_the_figures_that_a_reviewer_wants(tiny: Tiny) -> None:
    record = json.loads(tiny.baseline.read_text(encoding="utf-8"))
    summary = record["summary"]

    assert list(record)[:4] == ["schema", "kind", "seal", "summary"]
    assert summary["metric"] == "top1"
    assert summary["samples"] == 200
    assert summary["score_fp32"] == 1.0
    assert 0 < summary["latency_vs_fp32"] < 1
    assert summary["bytes"] == (tiny.run / "model.onnx").stat().st_size
    assert sum(summary["units"].values()) == 5


def test_it_is_small_and_changes_line_by_line(tiny: Tiny) -> None:
    text = tiny.baseline.read_text(encoding="utf-8")

    assert len(text) < 30_000
    assert text.count("\n") > 100
    assert len(load_baseline(tiny.baseline).evidence.samples.plan) == 200
    assert '"bits": [' in text


def test_a_layout_keeps_the_content() -> None:
    record = {"a": {"b": [1, 2.5, None], "c": []}, "d": ["x" * 60, "y" * 60], "e": {}}
    assert json.loads(laid_out(record)) == record


def test_no_baseline_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(NoBaselineError, match=r"there is no baseline .*absent\.json; make one with `autoprec baseline"):
        load_baseline(tmp_path / "absent.json")
    assert NoBaselineError.exit_code == 3
    assert BaselineError.exit_code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"3", "must be a JSON object"),
        (b"{}", "is not a baseline of autoprec"),
        (b'{"kind": "autoprec plan", "schema": 1}', "is not a baseline of autoprec"),
        (b'{"kind": "autoprec baseline"}', "must have a whole number as 'schema', got None"),
        (b'{"kind": "autoprec baseline", "schema": true}', "must have a whole number as 'schema', got True"),
        (b'{"kind": "autoprec baseline", "schema": 1}', "its checksum does not match"),
        (b'{"kind": "autoprec baseline", "schema": 1, "a": NaN}', "NaN is not a number in JSON"),
        (b'{"kind": "autoprec baseline", "kind": "autoprec baseline"}', "a field occurs twice"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_baseline_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=words) as caught:
        load_baseline(path)
    assert "broken.json" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(NoBaselineError):
        load_baseline(tmp_path)


def test_a_future_schema_asks_for_a_newer_autoprec(tiny: Tiny, tmp_path: Path) -> None:
    path = rewritten(tiny, tmp_path / "future.json", lambda record: record.update(schema=SCHEMA + 1))
    with pytest.raises(BaselineError, match=rf"has schema {SCHEMA + 1}, this autoprec reads up to {SCHEMA}; upgrade"):
        load_baseline(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["metric"].update(max_drop=1.0),
        lambda record: record["samples"]["plan"]["bits"].__setitem__(0, "0" * 100),
        lambda record: record["latency"]["plan_ms"].__setitem__(0, 1e9),
        lambda record: record["lowered"].update(bytes=10**9),
        lambda record: record["summary"].update(score=1.0, by="hand"),
        lambda record: record["plan"]["units"].pop("conv1"),
        lambda record: record.update(seal="0" * 64),
        lambda record: record.pop("seal"),
    ],
)
def test_an_edit_by_hand_is_refused(tiny: Tiny, tmp_path: Path, change: Any) -> None:
    path = rewritten(tiny, tmp_path / "edited.json", change)
    with pytest.raises(BaselineError, match=r"edited\.json is not as it was written: .* make it again"):
        load_baseline(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("samples"),
        lambda record: record["samples"].update(plan=[1.0]),
        lambda record: record["samples"].update(plan="many"),
        lambda record: record["samples"]["plan"].update(bits=["0", "x"]),
        lambda record: record["samples"].update(digests=[]),
        lambda record: record["latency"].update(plan_ms=[]),
        lambda record: record["latency"].update(plan_ms=[-1.0] * len(record["latency"]["fp32_ms"])),
        lambda record: record["model"].update(inputs=[["x", "no type", []]]),
        lambda record: record["machine"].update(batch="many"),
        lambda record: record["metric"].pop("fingerprint"),
        lambda record: record["verification"].pop("refused"),
        lambda record: record["plan"].update(carrier="int8"),
        lambda record: record["plan"]["units"]["conv1"].update(precision="int5"),
        lambda record: record.update(values=[]),
    ],
)
def test_a_seal_alone_makes_no_baseline(tiny: Tiny, tmp_path: Path, change: Any) -> None:
    """A file with a right seal round a wrong content, as another program might write it."""
    path = rewritten(tiny, tmp_path / "odd.json", change, sealed=True)
    with pytest.raises(BaselineError, match=r"odd\.json is damaged"):
        load_baseline(path)


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_mutation_of_its_bytes_passes_as_another_baseline(tiny: Tiny, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut out or put in anywhere: refused with an exit code that is no pass, or the same content."""
    original = tiny.baseline.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    length = data.draw(st.sampled_from([0, 1, 2, 50, 5000]))
    put = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"", b"1", b"0", b" ", b'"', b"}", b",", b"e9"])))
    path = tmp_path / "mutated.json"
    path.write_bytes(original[:start] + put + original[start + length :])
    try:
        found = load_baseline(path)
    except AutoprecError as error:
        assert error.exit_code in (2, 3)  # noqa: PT017 - either outcome is right
    else:
        known = load_baseline(tiny.baseline)
        assert (found.plan, found.evidence) == (known.plan, known.evidence)


def test_a_run_directory_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"is not a run directory: it has no plan\.json; give the folder that"):
        record_baseline(tmp_path, tmp_path / "baseline.json")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_an_older_autoprec_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((tiny.run / "plan.json").read_bytes())
    with pytest.raises(RunDirectoryError, match=r"has no evidence\.json: it is not a run directory, or an older"):
        record_baseline(tmp_path, tmp_path / "baseline.json")


def test_a_plan_that_was_changed_since_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes((tiny.run / "evidence.json").read_bytes())
    record = json.loads((tiny.run / "plan.json").read_text(encoding="utf-8"))
    record["units"]["conv1"]["precision"] = "fp32"
    (tmp_path / "plan.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunDirectoryError, match=r"is not the one that was measured"):
        record_baseline(tmp_path, tmp_path / "baseline.json")


def test_an_unreadable_baseline_never_judges(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_bytes(tiny.baseline.read_bytes()[:-200])
    with pytest.raises(BaselineError, match=r"cut\.json is not JSON"):
        tiny.gate(baseline=path)
    assert tiny.gate().status is Status.FINE
