"""Evidence: what a tune leaves for a gate, every figure that a later model is compared with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.errors import RunDirectoryError
from autoprec.files.functions import is_function_name
from autoprec.files.json import as_json, fingerprint, read_json, write_bytes
from autoprec.files.trust import relative_text
from autoprec.gate.statistics import statistics_of_record, statistics_record
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.metrics.over_set import Rows
from autoprec.plan import Plan

SCHEMA = 1
FP32_UNIT = "uniform fp32"
SEEN_FROM = "relative to this file"
"""What evidence says of its paths; in that of older versions, they are relative to the folder of the tune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleScores:
    """The scores of each fresh sample, which had no part in the choice of the plan.

    Attributes:
        digests: the first eight hexadecimal digits of the digest of each sample with its label.
        fp32: the scores of FP32.
        plan: the scores of the plan in the runtime; None stands for outputs that were not finite.
        exact: the scores of the plan in exact arithmetic, which any CPU can repeat. None for a portable
            runtime such as ONNX Runtime on the CPU, whose own scores any CPU can repeat.
        statistics: "fp32", "plan" and, where there are scores of it, "exact" -> the statistics of each sample; None for
            a metric that has none, or of which outputs were not finite. The scores are then what samples contribute.
    """

    digests: tuple[str, ...]
    fp32: tuple[float | None, ...]
    plan: tuple[float | None, ...]
    exact: tuple[float | None, ...] | None
    statistics: Mapping[str, Rows] | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """The fastest run of FP32 and of the plan in each round of a race, milliseconds for one batch.

    Attributes:
        fp32_ms: those of FP32, or of another unit of the clock.
        plan_ms: those of the plan.
        unit: the name of the plan that is the unit.
    """

    fp32_ms: tuple[float, ...]
    plan_ms: tuple[float, ...]
    unit: str = FP32_UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a baseline holds besides the plan.

    Attributes:
        model: the path, the bytes and the fingerprints of the model, and its inputs and outputs as [name, type, shape].
        lowered: the path, the bytes and the SHA-256 digest of the lowered model.
        data: calib and eval as they were given, or None for arrays; recipe, seed, fingerprints, and the splits as text.
        metric: the name, the direction and the fingerprint of the metric, and the bound that the plan was tuned under.
        machine: the versions and the hardware, the clock, the batch and the threads.
        samples: the scores of the samples.
        rounds: the latencies of the rounds.
        verification: the precision that each unit really ran in.
        values: the name of each calibrated value -> its structural key.
        found: whether the bound was met, and what there is to complain about, for people.
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
    """Return the interface that `model_record` described."""

    def specs(rows: Sequence[Any]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(str(name), np.dtype(str(kind)), tuple(shape)) for name, kind, shape in rows)

    return Interface(specs(record["inputs"]), specs(record["outputs"]))


def write_evidence(evidence: Evidence, plan: Plan, path: Path) -> None:
    """Write the evidence of a run, atomically, with the fingerprint of the plan that was measured."""
    head = {"schema": SCHEMA, "kind": "autoprec evidence", "plan": plan_fingerprint(plan), "paths": SEEN_FROM}
    write_bytes(path, (as_json(head | to_record(evidence)) + "\n").encode())


def read_evidence(path: Path, plan: Plan) -> Evidence:
    """Read the evidence of a run; its paths become absolute.

    Args:
        path: the path of the file.
        plan: the plan that must have been measured.

    Raises:
        RunDirectoryError: the evidence is missing, is damaged, or belongs to another plan.
    """
    if not path.is_file():
        raise RunDirectoryError(
            f"{path.parent} has no {path.name}: it is not a run directory, or an older version of autoprec made it; "
            f"run `autoprec tune` with the same options and --out {path.parent} again"
        )
    record = read_json(path, "evidence", RunDirectoryError, SCHEMA)
    if record.get("plan") != plan_fingerprint(plan):
        raise RunDirectoryError(
            f"the plan in {path.parent} is not the one that was measured: {path.name} is of another; run "
            f"`autoprec tune` with the same options and --out {path.parent} again"
        )
    try:
        return _with_whole_paths(from_record(record), path.parent, seen_from_file=record.get("paths") == SEEN_FROM)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(f"the evidence {path} is damaged ({error!r}); tune the model again") from error


def seen_from(evidence: Evidence, folder: Path) -> Evidence:
    """The evidence with its absolute paths as a file in `folder` names them, so that both can be moved together."""
    return _with_paths(evidence, lambda text: relative_text(text, folder) if os.path.isabs(text) else text)


def _with_whole_paths(evidence: Evidence, folder: Path, *, seen_from_file: bool) -> Evidence:
    """The evidence with absolute paths; where it is older, only of what is there in the current folder."""

    def whole(text: str) -> str:
        path = os.path.normpath(os.path.join(os.path.abspath(folder if seen_from_file else "."), text))
        return path if seen_from_file or os.path.exists(path) else text

    return _with_paths(evidence, whole)


def _with_paths(evidence: Evidence, change: Callable[[str], str]) -> Evidence:
    sources = {name: evidence.data.get(name) for name in ("calib", "eval")}
    data = {name: change(s) for name, s in sources.items() if isinstance(s, str) and not is_function_name(s)}
    if is_recipe_file(str(evidence.data["recipe"])):
        data["recipe"] = change(str(evidence.data["recipe"]))
    return replace(
        evidence,
        model={**evidence.model, "path": change(evidence.model["path"])},
        lowered={**evidence.lowered, "path": change(evidence.lowered["path"])},
        data={**evidence.data, **data},
    )


def is_recipe_file(text: str) -> bool:
    """Whether a recipe is named by its file."""
    return Path(text).suffix == ".toml" or Path(text).name != text


def plan_fingerprint(plan: Plan) -> str:
    """Return a fingerprint of a plan as it is stored."""
    return fingerprint([json.dumps(json.loads(as_json(plan.to_record())), sort_keys=True)])


def to_record(evidence: Evidence) -> dict[str, Any]:
    """Return the evidence as plain JSON values."""
    samples, rounds = evidence.samples, evidence.rounds
    return {
        "model": dict(evidence.model),
        "lowered": dict(evidence.lowered),
        "data": dict(evidence.data),
        "metric": dict(evidence.metric),
        "machine": dict(evidence.machine),
        "latency": {
            "fp32_ms": list(rounds.fp32_ms),
            "plan_ms": list(rounds.plan_ms),
            **({} if rounds.unit == FP32_UNIT else {"unit": rounds.unit}),
        },
        "samples": {
            "digests": list(samples.digests),
            "fp32": list(samples.fp32),
            "plan": list(samples.plan),
            "exact": None if samples.exact is None else list(samples.exact),
            **({} if samples.statistics is None else {"statistics": statistics_record(samples.statistics)}),
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
    """Return the evidence that `to_record` described.

    Raises:
        KeyError: a field is missing.
        TypeError: a field has a wrong type.
        ValueError: a field has a wrong form.
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
        statistics=statistics_of_record(samples.get("statistics"), len(samples["digests"])),
    )
    evidence = Evidence(
        **parts,
        samples=scores,
        rounds=Rounds(
            tuple(map(float, rounds["fp32_ms"])),
            tuple(map(float, rounds["plan_ms"])),
            str(rounds.get("unit", FP32_UNIT)),
        ),
        values={str(name): str(key) for name, key in record["values"].items()},
        found=dict(record["found"]),
    )
    interface_of(evidence.model)
    _check_lengths(evidence)
    _check_verification(evidence.verification)
    return evidence


def _check_verification(record: Mapping[str, Any]) -> None:
    lists = [record["refused"], record.get("unproven", [])]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("the units that were refused or are unproven must be lists of names")
    if not all(isinstance(unit, dict) for unit in record["units"].values()):
        raise ValueError("each unit of the verification must be a record")
    if not all(type(count) is int for count in record["counts"].values()):
        raise ValueError("the counts of the verification must be integers")


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
