"""The committed plan rebuilt on the model at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoprec.backends.make import CPU_BACKEND, make_backend
from autoprec.backends.scheme import Scheme, same_family, scheme_named
from autoprec.errors import BaselineError, ModelError, RunDirectoryError
from autoprec.gate.baseline import Baseline
from autoprec.gate.evidence import interface_of, read_evidence
from autoprec.gate.mapping import check_interface, fit_plan
from autoprec.graph.model import Model, load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.graph.written import is_written
from autoprec.lowering.builders_choice import lower_plan
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.node_metadata import note_plan
from autoprec.lowering.possible import usable_precisions
from autoprec.lowering.repaired import located, repaired
from autoprec.plan import Plan, load_plan
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable, ranges_from_plan
from autoprec.run.directory import RunDirectory
from autoprec.run.trusted import named_model
from autoprec.units.foreign import units_of
from autoprec.units.shapes import sized_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The committed plan on the model that is judged.

    Attributes:
        model: the float model.
        plan: the plan, with the unit names of this model.
        lowerer: the lowerer of this model.
        precisions: unit -> its precision.
        ranges: the committed ranges, with the value names of this model; None where nothing is quantised.
        lowered: the lowered model, serialised.
        notes: one sentence for each kind of unit that did not fit one to one.
    """

    model: Model
    plan: Plan
    lowerer: Lowerer
    precisions: dict[str, Precision]
    ranges: RangeTable | None
    lowered: bytes
    notes: tuple[str, ...]

    def simulated(self) -> bytes:
        """The plan in exact arithmetic, serialised."""
        return to_bytes(self.lowerer.lower(self.precisions, self.ranges, simulate=True).ir)


@dataclass(frozen=True, slots=True)
class _Source:
    """A plan to rebuild.

    Attributes:
        plan: the plan.
        values: the name of each calibrated value -> its structural key.
        model: the path of the model to rebuild it on.
    """

    plan: Plan
    values: dict[str, str]
    model: Path


def rebuild_plan(
    path: str | Path, baseline: Baseline, own: Scheme | None = None, trusted: tuple[str | Path, ...] = ()
) -> Rebuilt:
    """Rebuild the committed plan on a model, or the plan of a run directory on the model of that run.

    Args:
        path: an ONNX file, or a run directory.
        baseline: the committed baseline.
        own: the scheme of the backend that the caller gave, which need not be one of autoprec's.
        trusted: the files that the user trusts, such as the run directory, which may name a model anywhere.

    Raises:
        ModelError: the model cannot be read, or is what the tune wrote.
        RunDirectoryError: the folder is no run directory, or was made by an older autoprec.
        BaselineError: the baseline is of another model.
        PlanError: the plan cannot be lowered on this model, or one of its repairs does not fit it.
        UsageError: the plan's scheme is not known here.
    """
    run = Path(path).is_dir()
    source = _of_run(Path(path), baseline, trusted) if run else _of_baseline(Path(path), baseline)
    scheme = scheme_named(source.plan.scheme, own)
    model = load_model(source.model, scheme.newest_opset)
    check_interface(interface_of(baseline.evidence.model), model.interface, str(source.model))
    _check_not_lowered(model, baseline)
    model = repaired(model, located(source.plan.repairs, model.graph))
    partition = sized_for(units_of(model, source.plan.units), model, source.plan.shapes, make_backend(CPU_BACKEND))
    topology = Topology(model.graph)
    fitted = fit_plan(source.plan, source.values, topology, partition, str(source.model))
    precisions = usable_precisions(fitted.plan, partition, topology, scheme)
    ranges = ranges_from_plan(fitted.plan.ranges)
    lowerer = Lowerer(model, partition, scheme, source.plan.carrier)
    return Rebuilt(
        model=model,
        plan=fitted.plan,
        lowerer=lowerer,
        precisions=precisions,
        ranges=ranges,
        lowered=to_bytes(
            note_plan(lower_plan(lowerer, fitted.plan, precisions, ranges), lowerer.partition, precisions).ir
        ),
        notes=fitted.notes,
    )


def _check_not_lowered(model: Model, baseline: Baseline) -> None:
    """Refuse the baseline's own lowered model, whose drop would always be nothing: it would be compared with itself."""
    committed = baseline.evidence
    lowered = is_written(model.path, committed.lowered["bytes"], committed.lowered["sha256"])
    if lowered and model.graph_fingerprint != committed.model["graph"]:
        raise ModelError(
            f"{model.path} is the lowered model of the baseline {baseline.path}, in which the plan is carried out "
            f"already; give the model from before quantisation"
        )


def _of_baseline(model: Path, baseline: Baseline) -> _Source:
    return _Source(baseline.plan, dict(baseline.evidence.values), model)


def _of_run(folder: Path, baseline: Baseline, trusted: tuple[str | Path, ...]) -> _Source:
    run = RunDirectory(folder)
    if not run.plan.is_file():
        raise RunDirectoryError(
            f"{folder} is not a run directory: it has no {run.plan.name}; give the folder that `autoprec tune` wrote, "
            f"or an ONNX file"
        )
    plan = load_plan(run.plan)
    evidence = read_evidence(run.evidence, plan)
    if not same_family(plan.scheme, baseline.plan.scheme):
        raise BaselineError(
            f"the run {folder} is for {plan.backend}, the baseline {baseline.path} for {baseline.plan.backend}; "
            f"give a run for the same runtime"
        )
    return _Source(plan, dict(evidence.values), named_model(run.evidence, evidence.model["path"], trusted))
