"""Reading a run directory: its model, its ranges, and its measured plans with all that is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, scheme_named
from autoprec.errors import ModelError, RunDirectoryError, UsageError
from autoprec.files.onnx_message import whole_bytes
from autoprec.front.points import Point
from autoprec.graph.model import Model, load_model, to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.repaired import repaired
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.compatible import check_model, stored_ranges
from autoprec.run.directory import RunDirectory
from autoprec.run.refusals import refuse_no_folder
from autoprec.run.repairs_record import repairs_of
from autoprec.run.study_description import StudyDescription, read_study_description
from autoprec.run.trusted import named_model
from autoprec.sensitivity.table import load_sensitivities
from autoprec.study.ledger.reading import stored_trials
from autoprec.study.trial import Trial
from autoprec.units.foreign import units_of
from autoprec.units.homes import homes_of, renamed
from autoprec.units.records import Partition
from autoprec.units.shares import mac_share
from autoprec.units.sizes import sized


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """What a run directory holds.

    Attributes:
        directory: the run directory.
        studied: what its study is about.
        model: the model that was tuned.
        partition: the units of the model.
        lowerer: writes plans into the model.
        ranges: the ranges that the plans were measured with, None where no plan needs any.
        points: the measured plans, in the order in which they were measured.
    """

    directory: RunDirectory
    studied: StudyDescription
    model: Model
    partition: Partition
    lowerer: Lowerer
    ranges: RangeTable | None
    points: tuple[Point, ...]

    @property
    def answer(self) -> Point | None:
        """The plan that the run chose, None where it did not end."""
        return next((point for point in self.points if point.confirmed), None)

    @property
    def unit_ms(self) -> float | None:
        """The latency of the clock's unit in the run's last rounds, None where it did not end."""
        return None if self.studied.answer is None else self.studied.answer.unit_ms

    @property
    def noises(self) -> dict[str, dict[Precision, float]]:
        """Unit -> precision -> the noise that it alone adds, in the order of the unit's choices.

        The rows are empty where a time limit left the sensitivities out, or where their file was deleted.

        Raises:
            RunDirectoryError: the run's sensitivities are damaged.
        """
        if not self.directory.profile.is_file():
            return {name: {} for name in self.studied.units}
        entries = load_sensitivities(self.directory.profile).entries
        return {
            name: {p: entries[(name, p)].noise for p in unit.choices if (name, p) in entries}
            for name, unit in self.studied.units.items()
        }


def load_run(
    root: Path, model: str | Path | None, backend: Backend | None, trusted: tuple[str | Path, ...] = ()
) -> LoadedRun:
    """Read a run directory; nothing in it is changed.

    Args:
        root: the run directory.
        model: where the model is now; None for where the run found it.
        backend: the run's backend, None where its scheme is one of autoprec's.
        trusted: the files that the user trusts, which may name a model anywhere.

    Raises:
        RunDirectoryError: a file is missing, damaged, or of another study.
        ModelError: the model is missing, has changed, or lies where a file that is not trusted is not followed.
    """
    directory = RunDirectory(root)
    refuse_no_folder(root)
    studied = read_study_description(directory.studied)
    trials = stored_trials(directory.study, studied.study, studied.choices, studied.goal)
    if not trials:
        raise RunDirectoryError(
            f"no plan was measured in {root} yet; run `autoprec tune` with the same options and --out {root}"
        )
    scheme = _scheme(studied, directory, backend)
    path = named_model(directory.studied, studied.model, trusted) if model is None else Path(model)
    loaded = _model(path, scheme.newest_opset)
    check_model(studied, loaded, root)
    loaded = repaired(loaded, repairs_of(directory))
    partition = units_of(loaded, studied.units)
    homes = homes_of(partition, {name: unit.key for name, unit in studied.units.items()})
    if {homes.get(unit.name): unit.key for unit in partition.units} != {n: u.key for n, u in studied.units.items()}:
        raise RunDirectoryError(
            f"the units in {root} are not those that this autoprec finds in the model; run `autoprec tune` again"
        )
    # An earlier version may have named the units by other rules.
    partition = sized(renamed(partition, homes), loaded.graph, studied.shapes)
    lowerer = Lowerer(loaded, partition, scheme, studied.carrier)
    ranges = stored_ranges(studied, directory)
    return LoadedRun(
        directory=directory,
        studied=studied,
        model=loaded,
        partition=partition,
        lowerer=lowerer,
        ranges=ranges,
        points=tuple(_point(trial, studied, lowerer, ranges) for trial in trials),
    )


def _point(trial: Trial, studied: StudyDescription, lowerer: Lowerer, ranges: RangeTable | None) -> Point:
    answer, measured = studied.answer, trial.measured
    # Studies of older versions do not say the size, nor do trials of a runtime that keeps no engine.
    size = int(measured.bytes or 0) or whole_bytes(to_bytes(lowerer.lower(trial.plan, ranges).ir))
    return Point(
        trial=trial,
        samples=measured.samples or studied.samples,
        size=size,
        mac_share=mac_share(lowerer.partition, trial.plan),
        latency_ms=measured.latency_ratio * answer.unit_ms if answer is not None and measured.timed else None,
        confirmed=answer is not None and dict(answer.plan) == dict(trial.plan),
    )


def _model(path: Path, newest_opset: int | None) -> Model:
    if not path.is_file():
        raise ModelError(f"the run's model must be at {path}, which is {_kind(path)}; say where it is by --model")
    return load_model(path, newest_opset)


def _scheme(studied: StudyDescription, directory: RunDirectory, backend: Backend | None) -> Scheme:
    try:
        return scheme_named(studied.scheme, None if backend is None else make_backend(backend).scheme)
    except UsageError as error:
        raise RunDirectoryError(
            f"{directory.studied} is damaged, or of a backend that is not given here: there is no scheme "
            f"{studied.scheme!r}"
        ) from error


def _kind(path: Path) -> str:
    return "not there" if not path.exists() else "a folder" if path.is_dir() else "a file"
