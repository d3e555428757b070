"""Reads a run directory for its report: whatever is there, of a run that ended, was killed, or is at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from autoprec.errors import AutoprecError, RunDirectoryError
from autoprec.files.json import read_json
from autoprec.precision import Precision
from autoprec.proof.diagnosis.record import DIAGNOSIS, Diagnosis, read_diagnosis
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.run.causes_description import Causes, read_causes
from autoprec.run.directory import RunDirectory
from autoprec.run.network_description import NetworkDescription, read_network
from autoprec.run.owner import owner_of
from autoprec.run.repairs_record import RepairsFound, read_repairs
from autoprec.run.study_description import StudyDescription, read_study_description
from autoprec.sensitivity.table import Sensitivity, load_sensitivities
from autoprec.study.ledger.reading import stored_trials
from autoprec.study.trial import Trial

SCHEMA = 1
_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run directory holds; what is missing is None or empty.

    Attributes:
        root: the run directory.
        model: the path of the model, as the run has it.
        study: what the study is about; None before the search.
        result: the content of result.json; empty before the end.
        trials: the measured plans in order.
        sensitivities: (unit, precision) -> what the outputs lose.
        unit_ms: name of a uniform plan -> unit -> milliseconds.
        ranges: the calibrated ranges.
        network: the units with their sizes, and the edges between them; None in runs of older versions.
        diagnosis: where the plan and the runtime err; None where `autoprec diagnose` did not look.
        repairs: what became of exact changes of the model; None where the run tried none.
        causes: how the values of units that stayed high look on other samples; None where that was not measured.
        settings: the settings of the run, as search.json has them.
        threads: the number of CPU threads, None where it is not known.
        targets: the machines that engines were built for ahead of time.
        problems: one sentence for each file that is damaged.
    """

    root: Path
    model: str
    study: StudyDescription | None
    result: Mapping[str, Any]
    trials: tuple[Trial, ...]
    sensitivities: Mapping[tuple[str, Precision], Sensitivity]
    unit_ms: Mapping[str, Mapping[str, float]]
    ranges: RangeTable | None
    network: NetworkDescription | None
    repairs: RepairsFound | None
    causes: Causes | None
    diagnosis: Diagnosis | None
    settings: Mapping[str, Any]
    threads: int | None
    targets: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether the run has ended and written its answer."""
        return bool(self.result)

    @property
    def clock_unit(self) -> str:
        """The precision of the uniform plan that latencies are shares of, as a text: "FP32"."""
        return "FP32" if self.study is None else self.study.goal.unit_text

    @property
    def units(self) -> tuple[str, ...]:
        """The names of the units in the order of the network; empty where no file tells."""
        if self.network is not None:
            return tuple(self.network.units)
        return () if self.study is None else tuple(self.study.units)


def read_run(root: Path) -> RunRecord:
    """Read a run directory; nothing in it is changed.

    Raises:
        RunDirectoryError: it is no run directory.
    """
    directory = RunDirectory(root)
    present = (directory.ranges, directory.profile_journal, directory.profile, directory.studied, directory.network)
    if not root.is_dir() or not any(path.is_file() for path in (*present, directory.result)):
        kind = "a folder without files of a run" if root.is_dir() else "a file" if root.exists() else "not there"
        raise RunDirectoryError(f"a run must be a folder that `autoprec tune` made, but {root} is {kind}")
    problems: list[str] = []

    def read(path: Path, reader: Callable[[Path], _Read]) -> _Read | None:
        try:
            return reader(path) if path.is_file() else None
        except AutoprecError as error:
            problems.append(str(error))
            return None

    study = read(directory.studied, read_study_description)
    search = read(directory.search, _record) or {}
    profile = read(directory.profile, load_sensitivities)
    return RunRecord(
        root=root,
        model=_model(directory, study),
        study=study,
        result=read(directory.result, _record) or {},
        trials=() if study is None else read(directory.study, lambda path: _trials(path, study)) or (),
        sensitivities={} if profile is None else profile.entries,
        unit_ms=read(directory.latency, _unit_ms) or {},
        ranges=read(directory.ranges, load_ranges),
        network=read(directory.network, read_network),
        repairs=read(directory.repairs, read_repairs),
        causes=read(directory.causes, read_causes),
        diagnosis=read(root / DIAGNOSIS, read_diagnosis),
        settings=search.get("settings") or {},
        threads=search.get("threads"),
        targets=tuple(search.get("targets") or ()),
        problems=tuple(problems),
    )


def _model(directory: RunDirectory, study: StudyDescription | None) -> str:
    if study is not None:
        return study.model
    try:
        owner = owner_of(directory)
    except RunDirectoryError:
        owner = None
    return "unknown" if owner is None else owner.model


def _trials(path: Path, study: StudyDescription) -> tuple[Trial, ...]:
    return stored_trials(path, study.study, study.choices, study.goal)


def _record(path: Path) -> dict[str, Any]:
    return read_json(path, "record", RunDirectoryError, SCHEMA)


def _unit_ms(path: Path) -> dict[str, dict[str, float]]:
    rows = _record(path).get("unit_ms", {})
    return {str(plan): {str(unit): float(ms) for unit, ms in row.items()} for plan, row in rows.items()}


def latency_share(record: Mapping[str, Any]) -> Mapping[str, float]:
    """A candidate's latency as a share of the clock's unit, with its interval; older versions had no unit but FP32."""
    share: Mapping[str, float] = record.get("latency_vs_unit") or record.get("latency_vs_fp32") or {}
    return share
