"""What can be compared unit by unit: a run, a plan file, or an engine with its record beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.errors import PlanError
from autoprec.files.json import read_json
from autoprec.plan import Assignment, load_plan
from autoprec.precision import Precision
from autoprec.report.answer import shown_plan, shown_trial
from autoprec.report.read import RunRecord, latency_share, read_run

SCHEMA = 1
_RECORD = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One side of a comparison.

    Attributes:
        name: what it is called: its path.
        plan: unit -> precision.
        keys: unit -> its structural key, by which units are found in another export.
        ran: unit -> the precision that ran, where the runtime tells it.
        outcome: unit -> what became of its precision.
        unit_ms: unit -> milliseconds, where they are known of this plan.
        noise: (unit, precision) -> noise / signal.
        facts: name of a figure of the whole -> the figure.
    """

    name: str
    plan: Assignment
    keys: Mapping[str, str]
    ran: Mapping[str, str]
    outcome: Mapping[str, str]
    unit_ms: Mapping[str, float]
    noise: Mapping[tuple[str, Precision], float]
    facts: Mapping[str, float | str | None]


def read_compared(path: Path) -> Compared:
    """Read a run directory, a plan file, or an engine.

    Raises:
        PlanError: a file is no plan, and no engine has its record beside it.
        RunDirectoryError: a folder is no run directory.
    """
    if path.is_dir():
        if not (path / "study.json").is_file() and (path / "plan.json").is_file():
            return _of_plan(path / "plan.json")  # what `autoprec front -o` writes
        return _of_run(path, read_run(path))
    found = _record_of(path)
    record = read_json(found, "plan", PlanError, SCHEMA)
    if record.get("kind") == "autoprec engine":
        return _of_engine(path, record)
    return _of_plan(found)


def _record_of(path: Path) -> Path:
    """The file that says what a path is about: itself, the record of an engine, or the plan that wrote a model."""
    if path.suffix == _RECORD:
        candidates = [path]
    else:
        candidates = [path.with_suffix(_RECORD), *([path.parent / "plan.json"] if path.suffix == ".onnx" else [])]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        what = "has no record or plan beside it" if path.is_file() else "does not exist"
        raise PlanError(f"{path} must be a run directory, a plan file, or an engine or model of one, but {what}")
    return found


def _of_run(path: Path, run: RunRecord) -> Compared:
    plan, trial = shown_plan(run), shown_trial(run)
    verified: Mapping[str, Any] = run.result.get("verification") or {}
    chosen: Mapping[str, Any] = (run.result.get("candidates") or {}).get(run.result.get("chosen"), {})
    measured = None if trial is None else trial.measured
    layers = (measured.layers_ms if measured is not None else None) or {}
    if not layers and trial is not None and trial.uniform:
        layers = run.unit_ms.get(trial.origin, {})
    ratio = latency_share(chosen).get("estimate") or (measured.latency_ratio if measured else None)
    drop = chosen.get("estimated_drop", {}).get("estimate")
    return Compared(
        name=str(path),
        plan=plan,
        keys={} if run.study is None else {name: unit.key for name, unit in run.study.units.items()},
        **_verified(verified),
        unit_ms=dict(layers),
        noise={entry: found.noise for entry, found in run.sensitivities.items()},
        facts={
            "answer": str(run.result.get("chosen") or (trial.name if trial else "none yet")),
            "latency, ms": chosen.get("latency_ms"),
            f"latency / {run.clock_unit}": ratio,
            f"drop of {run.study.metric if run.study else 'the metric'}": drop,
            "size, bytes": chosen.get("bytes") or (measured.bytes if measured else None),
            "backend": None if run.study is None else run.study.backend,
            "timed on": None if run.study is None else _machine(run.study.machine),
        },
    )


def _of_plan(path: Path) -> Compared:
    plan = load_plan(path)
    chosen: Mapping[str, Any] = plan.evidence.get("chosen") or {}
    point: Mapping[str, Any] = plan.evidence.get("point") or {}
    ratio = latency_share(chosen).get("estimate", point.get("latency_ratio"))
    drop = chosen.get("estimated_drop", {}).get("estimate", point.get("drop"))
    return Compared(
        name=str(path),
        plan=plan.precisions(),
        keys={name: choice.key for name, choice in plan.units.items()},
        ran={},
        outcome={},
        unit_ms={},
        noise={},
        facts={
            "latency, ms": chosen.get("latency_ms", point.get("latency_ms")),
            "latency / FP32": ratio,
            f"drop of {plan.evidence.get('metric', 'the metric')}": drop,
            "size, bytes": chosen.get("bytes", point.get("bytes")),
            "backend": plan.backend,
            "timed on": _machine(plan.evidence.get("machine") or {}),
        },
    )


def _machine(described: Mapping[str, Any]) -> str | None:
    """The processor and how it was timed, of what a backend says of its machine; None where it is not known."""
    parts = [described.get(key) for key in ("clock", "hardware", "cpu")]
    threads = [f"{described['threads']} threads"] if described.get("threads") else []
    return ", ".join([str(part) for part in parts if part] + threads) or None


def _of_engine(path: Path, record: Mapping[str, Any]) -> Compared:
    """What `autoprec build --backend` wrote beside an engine."""
    verified: Mapping[str, Any] = record.get("verification") or {}
    profile: Mapping[str, Any] = record.get("profile") or {}
    try:
        return Compared(
            name=str(path),
            plan={str(unit): Precision(row["requested"]) for unit, row in (verified.get("units") or {}).items()},
            keys={},
            **_verified(verified),
            unit_ms={str(row["unit"]): float(row["ms"]) for row in profile.get("units", ())},
            noise={},
            facts={
                "latency, ms": profile.get("engine_ms"),
                "size, bytes": record.get("engine_bytes"),
                "backend": f"{record.get('runtime')} {record.get('version')}",
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"the record of the engine {path} is damaged ({error!r}); build the engine again") from error


def _verified(record: Mapping[str, Any]) -> dict[str, Any]:
    rows: Mapping[str, Mapping[str, Any]] = record.get("units") or {}
    return {
        "ran": {name: str(row["ran"]) for name, row in rows.items() if row.get("ran")},
        "outcome": {name: str(row["status"]) for name, row in rows.items()},
    }
