"""The baseline file: what a tune measured and the plan that it chose, small, readable in a review, and sealed.

The seal is a SHA-256 digest of the content, so a file that was edited by hand, merged badly or cut short is recognised
and refused. It protects against accidents, not against people who want to deceive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.errors import AutoprecError, BaselineError, NoBaselineError
from autoprec.files.forms import refuse_other_kind
from autoprec.files.json import as_json, write_bytes
from autoprec.files.parse import parse_json, read_text
from autoprec.gate.evidence import Evidence, from_record, to_record
from autoprec.plan import Plan, plan_from_record
from autoprec.stats.intervals import median

SCHEMA = 1
KIND = "autoprec baseline"
_WIDTH = 100
_DIGEST = 8
_AGAIN = "make it again with `autoprec baseline RUN -o FILE`, or take the committed one back"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A committed baseline.

    Attributes:
        plan: the plan that every gate rebuilds.
        evidence: the figures that were measured of the plan.
        path: the path of the file.
    """

    plan: Plan
    evidence: Evidence
    path: Path


def write_baseline(plan: Plan, evidence: Evidence, path: Path) -> Path:
    """Write a baseline, atomically.

    Raises:
        RunDirectoryError: the folder cannot be written, or there is a file that is no baseline.
    """
    refuse_other_kind(path, KIND)
    content = {"summary": summary_of(plan, evidence), **_packed(to_record(evidence)), "plan": plan.to_record()}
    content = json.loads(as_json(content))  # the numbers that are read back are those that are sealed
    record = {"schema": SCHEMA, "kind": KIND, "seal": seal(content), **content}
    write_bytes(path, (laid_out(record) + "\n").encode())
    return path


def load_baseline(path: str | Path) -> Baseline:
    """Read a baseline.

    Raises:
        NoBaselineError: there is no such file.
        BaselineError: the file cannot be read, is not a baseline, is damaged or edited, or is of a newer autoprec.
    """
    file = Path(path)
    record = _read(file)
    if record.get("kind") != KIND:
        raise BaselineError(f"{file} is not a baseline of autoprec; give the file that `autoprec baseline` wrote")
    schema = record.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BaselineError(f"the baseline {file} must have a whole number as 'schema', got {schema!r}; {_AGAIN}")
    if schema > SCHEMA:
        raise BaselineError(
            f"the baseline {file} has schema {schema}, this autoprec reads up to {SCHEMA}; upgrade autoprec"
        )
    content = {key: value for key, value in record.items() if key not in ("schema", "kind", "seal")}
    if record.get("seal") != seal(content):
        raise BaselineError(
            f"the baseline {file} is not as it was written: its checksum does not match; it was edited, merged or "
            f"damaged; {_AGAIN}"
        )
    try:
        return Baseline(plan_from_record(content["plan"], file), from_record(_unpacked(content)), file)
    except (KeyError, TypeError, ValueError, AttributeError, AutoprecError) as error:
        raise BaselineError(f"the baseline {file} is damaged ({error!r}); {_AGAIN}") from error


def seal(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of everything but schema, kind and the seal itself; the layout makes no difference."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def summary_of(plan: Plan, evidence: Evidence) -> dict[str, Any]:
    """Return the figures that a reviewer looks at."""
    samples, rounds = evidence.samples, evidence.rounds
    precisions = [choice.precision.value for choice in plan.units.values()]
    return {
        "model": evidence.model["path"],
        "metric": evidence.metric["name"],
        "samples": len(samples.digests),
        "score": mean_score(samples.plan),
        "score_fp32": mean_score(samples.fp32),
        "latency_ms": round(median(rounds.plan_ms), 4),
        "latency_vs_fp32": round(median(rounds.plan_ms) / median(rounds.fp32_ms), 4),
        "latency_is": "of the fastest runs, on one thread where the runtime lets that be chosen",
        "bytes": evidence.lowered["bytes"],
        "bytes_fp32": evidence.model["bytes"],
        "units": {name: precisions.count(name) for name in sorted(set(precisions))},
        "units_as_they_ran": {name: count for name, count in evidence.verification["counts"].items() if count},
        "objective": evidence.found.get("objective", "latency"),
        "feasible": evidence.found.get("feasible"),
        "hardware": evidence.machine["hardware"],
        "runtime": ", ".join(f"{key} {value}" for key, value in sorted(evidence.machine["describe"].items())),
        "autoprec": evidence.machine["autoprec"],
    }


def mean_score(scores: Sequence[float | None]) -> float | None:
    """Return the mean to six digits, or None if a score is not finite."""
    finite = [score for score in scores if score is not None]
    return float(f"{sum(finite) / len(finite):.6g}") if len(finite) == len(scores) else None


def laid_out(value: Any, depth: int = 0) -> str:
    """Return JSON with one field on each line and short lists on a single line, so that a review shows what changed."""
    inner, outer = " " * (depth + 1), " " * depth
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key)}: {laid_out(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{outer}}}"
    flat = json.dumps(value, allow_nan=False)
    if isinstance(value, list) and len(flat) > _WIDTH and all(isinstance(item, str) for item in value):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(item)}" for item in value) + f"\n{outer}]"
    return flat


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise NoBaselineError(
            f"there is no baseline {file}; make one with `autoprec baseline RUN -o {file}` and commit it"
        )
    try:
        record = parse_json(read_text(file), unique=True)
    except OSError as error:
        raise BaselineError(f"cannot read the baseline {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise BaselineError(f"the baseline {file} is not JSON ({error}); {_AGAIN}") from error
    if not isinstance(record, dict):
        raise BaselineError(f"the baseline {file} must be a JSON object; {_AGAIN}")
    return record


def _packed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with digests joined into rows, and with scores of 0 and 1 as text of single digits."""
    samples = record["samples"]
    rows = "".join(samples["digests"])
    packed = {"digests": _rows(rows, _DIGEST * 12)}
    packed |= {key: _packed_scores(samples[key]) for key in ("fp32", "plan", "exact")}
    if "statistics" in samples:
        packed["statistics"] = samples["statistics"]
    return {**record, "samples": packed}


def _packed_scores(scores: list[float | None] | None) -> Any:
    if scores is None or not all(score in (0.0, 1.0) for score in scores):
        return scores
    return {"bits": _rows("".join("1" if score else "0" for score in scores), _WIDTH)}


def _rows(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


def _unpacked(record: Mapping[str, Any]) -> dict[str, Any]:
    samples = dict(record["samples"])
    text = "".join(samples["digests"])
    samples["digests"] = _rows(text, _DIGEST)
    for key in ("fp32", "plan", "exact"):
        if isinstance(samples[key], dict):
            samples[key] = [float(int(bit)) for bit in "".join(samples[key]["bits"])]
    return {**record, "samples": samples}
