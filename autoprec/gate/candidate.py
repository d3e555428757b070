"""What is judged: the committed plan rebuilt on the model at hand, and the runtime to measure it with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoprec.backends.make import CPU_BACKEND, checked_clock, is_cpu_backend, make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, scheme_named
from autoprec.errors import BackendError, BaselineError, RunDirectoryError, UsageError
from autoprec.gate.baseline import Baseline
from autoprec.gate.evidence import interface_of, read_evidence
from autoprec.gate.mapping import check_interface, fit_plan
from autoprec.graph.model import Model, load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import usable_precisions
from autoprec.plan import Plan, load_plan
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable, ranges_from_plan
from autoprec.run.directory import RunDirectory
from autoprec.units.find import find_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The plan on the model.

    Attributes:
        model: the float model.
        plan: in this model's names.
        lowerer: of the model.
        precisions: unit -> precision.
        ranges: committed ones, in this model's names.
        lowered: the lowered model.
        notes: what did not fit one to one.
    """

    model: Model
    plan: Plan
    lowerer: Lowerer
    precisions: dict[str, Precision]
    ranges: RangeTable | None
    lowered: bytes
    notes: tuple[str, ...]

    def simulated(self) -> bytes:
        """The plan in exact arithmetic."""
        return to_bytes(self.lowerer.lower(self.precisions, self.ranges, simulate=True).ir)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What there is to measure with.

    Attributes:
        backend: the plan's own, or ONNX Runtime where that one cannot work here.
        absent: why the plan's own runtime cannot work here, None where it does.
    """

    backend: Backend
    absent: str | None


def find_candidate(path: str | Path, baseline: Baseline, own: Scheme | None = None) -> Candidate:
    """Rebuild the committed plan on a model, or take the plan and model of a run directory.

    Args:
        path: the model, or a run directory.
        baseline: the committed one.
        own: the scheme of the backend that was given, which need not be one of autoprec's.

    Raises:
        ModelError: the model cannot be read.
        RunDirectoryError: the folder is no run directory, or an older autoprec's.
        BaselineError: it is not the model that the baseline is of.
        PlanError: the plan cannot be lowered on it.
    """
    index = Path(path)
    if index.is_dir():
        run = RunDirectory(index)
        if not run.plan.is_file():
            raise RunDirectoryError(
                f"{path} is no run directory: it has no {run.plan.name}; give the folder that `autoprec tune` wrote, "
                f"or an ONNX file"
            )
        plan = load_plan(run.plan)
        evidence = read_evidence(run.evidence, plan)
        source, values = Path(evidence.model["path"]), evidence.values
        if plan.scheme != baseline.plan.scheme:
            raise BaselineError(
                f"the run {index} is for {plan.backend}, the baseline {baseline.path} for {baseline.plan.backend}; "
                f"give a run for the same runtime"
            )
    else:
        plan, values, source = baseline.plan, baseline.evidence.values, index
    model = load_model(source)
    check_interface(interface_of(baseline.evidence.model), model.interface, str(source))
    partition, scheme, topology = find_units(model.graph), scheme_named(plan.scheme, own), Topology(model.graph)
    fitted = fit_plan(plan, values, topology, partition, str(source))
    precisions = usable_precisions(fitted.plan, partition, topology, scheme)
    ranges = ranges_from_plan(fitted.plan.ranges)
    lowerer = Lowerer(model, partition, scheme, plan.carrier)
    lowered = to_bytes(lowerer.lower(precisions, ranges).ir)
    return Candidate(
        model=model,
        plan=fitted.plan,
        lowerer=lowerer,
        precisions=precisions,
        ranges=ranges,
        lowered=lowered,
        notes=fitted.notes,
    )


def find_runtime(
    plan: Plan, backend: str | Backend | None, threads: int | None, targets: tuple[str, ...] = ()
) -> Runtime:
    """The plan's own runtime where it works here, else ONNX Runtime, which can at least compute the plan exactly.

    Args:
        plan: of the baseline.
        backend: that was asked for, None for the plan's own.
        threads: of the CPU.
        targets: what the baseline's engine was built for ahead of time.

    Raises:
        UsageError: the baseline is of a runtime that has to be given as an object.
        BackendError: the runtime that was asked for does not work here.
    """
    try:
        wanted = plan.backend if backend is None else backend
        found = make_backend(wanted, threads, targets if wanted == plan.backend else ())
        checked_clock(found)
    except BackendError as error:
        if backend is not None:
            raise
        return Runtime(make_backend(CPU_BACKEND, threads), str(error))
    except UsageError as error:
        if backend is not None:
            raise
        raise UsageError(f"the baseline is of the runtime {plan.backend!r}: {error}") from error
    if found.scheme.name == plan.scheme:
        return Runtime(found, None)
    if is_cpu_backend(found):
        return Runtime(found, f"the plan is for {plan.backend}, and {found.name} was asked for")
    raise UsageError(
        f"the plan of the baseline is for {plan.backend}, which {found.name} cannot run; give --backend "
        f"{plan.backend}, or {CPU_BACKEND} to judge everything but latency"
    )
