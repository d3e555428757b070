"""The figures that a tune leaves for a gate: scores sample by sample, latencies round by round, and fingerprints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.errors import RunDirectoryError
from autoprec.files.json import as_json, fingerprint, read_json, write_bytes
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.plan import Plan

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class SampleScores:
    """The scores of each sample that had no part in the choice of the plan.

    Attributes:
        digests: eight hexadecimal digits over each sample's inputs and label.
        fp32: the scores of FP32.
        plan: the scores of the plan in its runtime; None stands for outputs that were not finite.
        exact: the scores of the plan in exact arithmetic, which any CPU can repeat; None where the runtime's own
            outputs can be repeated anywhere, as those of ONNX Runtime on the CPU.
    """

    digests: tuple[str, ...]
    fp32: tuple[float | None, ...]
    plan: tuple[float | None, ...]
    exact: tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True)
class Rounds:
    """The fastest run of FP32 and of the plan in each round of a race, milliseconds for one batch."""

    fp32_ms: tuple[float, ...]
    plan_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a baseline holds besides the plan.

    Attributes:
        model: path, bytes, fingerprints of graph and weights, inputs and outputs as [name, type, shape].
        lowered: path, bytes and SHA-256 of the lowered model.
        data: calib and eval as they were given, None for arrays; the recipe, seed, fingerprints and text of the splits.
        metric: name, direction, fingerprint, and the bound that the plan was tuned under.
        machine: versions and hardware, clock, batch and threads.
        samples: the scores of each sample.
        rounds: the latencies of each round.
        verification: what the runtime made of each unit.
        values: the name of each calibrated value -> its structural key.
        found: feasible, reason and complaint, for people.
    """

    model: Mapping[str, Any]
    lowered: Mapping[str, Any]
    data: Mapping[str, Any]
    metric: Mapping[str, Any]
    machine: Mapping[str, Any]
    samples: SampleScores
    rounds: Rounds
    verification: Mapping[str, Any]
    values: Mapping[str, str]
    found: Mapping[str, Any]


def interface_of(record: Mapping[str, Any]) -> Interface:
    """The interface that `model_record` wrote."""

    def specs(rows: Sequence[Any]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(str(name), np.dtype(str(kind)), tuple(shape)) for name, kind, shape in rows)

    return Interface(specs(record["inputs"]), specs(record["outputs"]))


def write_evidence(evidence: Evidence, plan: Plan, path: Path) -> None:
    """Write the evidence of a run, atomically, with the fingerprint of the plan that was measured."""
    head = {"schema": SCHEMA, "kind": "autoprec evidence", "plan": plan_fingerprint(plan)}
    write_bytes(path, (as_json(head | to_record(evidence)) + "\n").encode())


def read_evidence(path: Path, plan: Plan) -> Evidence:
    """The evidence of a run.

    Raises:
        RunDirectoryError: it is missing, damaged, or of another plan than `plan`.
    """
    if not path.is_file():
        raise RunDirectoryError(
            f"{path.parent} has no {path.name}: it is no run directory, or an older autoprec made it; run "
            f"`autoprec tune` with the same options and --out {path.parent} again"
        )
    record = read_json(path, "evidence", RunDirectoryError, SCHEMA)
    if record.get("plan") != plan_fingerprint(plan):
        raise RunDirectoryError(
            f"the plan in {path.parent} is not the one that was measured: {path.name} is of another; run "
            f"`autoprec tune` with the same options and --out {path.parent} again"
        )
    try:
        return from_record(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(f"the evidence {path} is damaged ({error!r}); tune the model again") from error


def plan_fingerprint(plan: Plan) -> str:
    """A fingerprint of a plan as it is stored."""
    return fingerprint([json.dumps(json.loads(as_json(plan.to_record())), sort_keys=True)])


def to_record(evidence: Evidence) -> dict[str, Any]:
    """As JSON."""
    samples, rounds = evidence.samples, evidence.rounds
    return {
        "model": dict(evidence.model),
        "lowered": dict(evidence.lowered),
        "data": dict(evidence.data),
        "metric": dict(evidence.metric),
        "machine": dict(evidence.machine),
        "latency": {"fp32_ms": list(rounds.fp32_ms), "plan_ms": list(rounds.plan_ms)},
        "samples": {
            "digests": list(samples.digests),
            "fp32": list(samples.fp32),
            "plan": list(samples.plan),
            "exact": None if samples.exact is None else list(samples.exact),
        },
        "verification": dict(evidence.verification),
        "values": dict(evidence.values),
        "found": dict(evidence.found),
    }


_PARTS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "model": {"path": str, "bytes": int, "graph": str, "weights": str, "inputs": list, "outputs": list},
    "lowered": {"path": str, "bytes": int, "sha256": str},
    "data": {"recipe": str, "seed": int, "splits": str, "calibration": str, "report": str},
    "metric": {"name": str, "fingerprint": str, "higher_is_better": bool, "max_drop": float},
    "machine": {
        "autoprec": str,
        "batch": int,
        "threads": int,
        "scheme": str,
        "clock": str,
        "hardware": str,
        "runs_here": bool,
        "driver": str,
        "clocks": str,
        "describe": dict,
    },
    "verification": {"counts": dict, "refused": list, "units": dict},
}


def from_record(record: Mapping[str, Any]) -> Evidence:
    """The evidence that `to_record` wrote.

    Raises:
        KeyError: a field is missing.
        TypeError: one has another type.
        ValueError: one has another form.
    """
    parts = {
        name: {**record[name], **{key: kind(record[name][key]) for key, kind in fields.items()}}
        for name, fields in _PARTS.items()
    }
    samples, rounds = record["samples"], record["latency"]
    scores = SampleScores(
        digests=tuple(map(str, samples["digests"])),
        fp32=_scores(samples["fp32"]),
        plan=_scores(samples["plan"]),
        exact=None if samples["exact"] is None else _scores(samples["exact"]),
    )
    evidence = Evidence(
        **parts,
        samples=scores,
        rounds=Rounds(tuple(map(float, rounds["fp32_ms"])), tuple(map(float, rounds["plan_ms"]))),
        values={str(name): str(key) for name, key in record["values"].items()},
        found=dict(record["found"]),
    )
    interface_of(evidence.model)
    _check_lengths(evidence)
    return evidence


def _check_lengths(evidence: Evidence) -> None:
    samples, rounds = evidence.samples, evidence.rounds
    columns = [samples.fp32, samples.plan, *([] if samples.exact is None else [samples.exact])]
    if not samples.digests or any(len(column) != len(samples.digests) for column in columns):
        raise ValueError("there must be one score for each sample")
    times = (*rounds.fp32_ms, *rounds.plan_ms)
    if not times or len(rounds.fp32_ms) != len(rounds.plan_ms) or min(times) <= 0:
        raise ValueError("latencies must be rounds of times above 0")


def _scores(values: Sequence[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)
