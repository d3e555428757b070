"""Where a chosen plan and the runtime err: of a run, of a plan file, or of what was written by a plan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from autoprec.backends.make import CPU_BACKEND, ENGINE_BUILDERS, make_backend
from autoprec.backends.protocol import Backend, Engine
from autoprec.backends.scheme import scheme_named
from autoprec.build import lowerer_of
from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.data.sources import load_data
from autoprec.errors import BackendError, DataError, UsageError
from autoprec.files.json import write_json
from autoprec.files.onnx_message import OnnxMessage, whole_bytes
from autoprec.files.scratch import ScratchFolder
from autoprec.files.trust import trusted_files
from autoprec.front.question import Question, Subject, refuse_question, subject_of
from autoprec.front.run_front import load_front
from autoprec.graph.model import Model, load_model
from autoprec.plan import Plan, check_plan_fits, load_plan
from autoprec.proof.diagnosis.job import DiagnosisJob
from autoprec.proof.diagnosis.measure import diagnose
from autoprec.proof.diagnosis.record import DIAGNOSIS, Diagnosis
from autoprec.proof.diagnosis.seen import written_model
from autoprec.ranges.table import ranges_from_plan
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.run.search_description import UNSHARED, read_search_description
from autoprec.run.study_description import read_study_description
from autoprec.run.trusted import named_model, trusted_settings
from autoprec.run.turns import Turns

_BATCH = 16
_AT_ONCE = 2.2
"""So many times the bytes of the model may be in engines at once, as in a tune."""


def diagnose_run(question: Question, progress: Callable[[float], None] = lambda share: None) -> Diagnosis:
    """Compare FP32, a plan in exact arithmetic, and what the runtime computes of it, unit by unit.

    The diagnosis of a plan of a run directory is also written there, for the report.

    Args:
        question: what is diagnosed.
        progress: is told the share that is done.

    Raises:
        UsageError: an option is missing, or is of no use.
        PlanError: there is no plan, or it is of another model.
        ModelError: the model is missing or has changed, or lies where a run that is not trusted is not followed.
        DataError: there are no samples, or they do not fit the model.
        BackendError: the runtime is missing, or refused the plan.
        RunDirectoryError: there is no run, or its diagnosis.json is not autoprec's own.
    """
    refuse_question(question)
    subject, trusted = subject_of(question), trusted_files(question.trust)
    plan, title = _plan(question, subject)
    if subject.run is not None:
        subject.run.inventory.refuse_foreign([DIAGNOSIS])
    backend = _backend(question, plan)
    scheme = scheme_named(plan.scheme, backend.scheme)
    model = load_model(_model_path(question, subject, trusted), scheme.newest_opset)
    check_plan_fits(plan, model.graph_fingerprint, model.weights_fingerprint, model.path)
    lowerer, precisions = lowerer_of(plan, model, scheme)
    data = _data(question, subject, model, trusted)
    batch = min(_BATCH, data.count)
    turns = Turns(int(_AT_ONCE * model.weight_bytes))

    def opened(content: bytes, build: Callable[[], Engine], stack: ExitStack) -> Engine:
        if isinstance(content, OnnxMessage):
            return stack.enter_context(turns.engine(build, whole_bytes(content)))
        return stack.enter_context(build())

    with ScratchFolder() as scratch:
        shapes = {name: array.shape for name, array in batch_feed(model.interface, data, batch).items()}
        found = diagnose(
            DiagnosisJob(
                title=title,
                lowerer=lowerer,
                plan=precisions,
                ranges=ranges_from_plan(plan.ranges),
                backend=backend.for_run(shapes, subject.run.root if subject.run is not None else scratch),
                data=data,
                batch_size=batch,
                written=None if subject.written is None else written_model(subject.written),
                opened=opened,
                progress=progress,
            )
        )
    if subject.run is not None:
        with subject.run.inventory.replacing(DIAGNOSIS):
            write_json(subject.run.root / DIAGNOSIS, found.to_record())
    return found


def _plan(question: Question, subject: Subject) -> tuple[Plan, str]:
    """Return the plan, and what it is called."""
    if question.point is not None and subject.run is not None:
        run = load_front(subject.run.root, question.model, trust=question.trust)
        return run.plan(run.point(question.point)), f"trial {question.point} of {subject.run.root}"
    plan = load_plan(subject.plan)
    if plan.left_to_builder:
        raise UsageError(
            f"{subject.plan} must say where values are rounded, but it leaves that to the builder of the runtime; "
            f"diagnose another plan of the run"
        )
    return plan, str(question.subject)


def _backend(question: Question, plan: Plan) -> Backend:
    wanted = question.backend or plan.backend
    try:
        return make_backend(wanted, question.threads)
    except BackendError as error:
        if wanted not in ENGINE_BUILDERS:
            raise
        raise BackendError(f"{error}; or see what ONNX Runtime computes by --backend {CPU_BACKEND}") from error


def _model_path(question: Question, subject: Subject, trusted: tuple[str | Path, ...]) -> Path:
    if question.model is not None or subject.run is None:
        return Path(question.model or "")
    return named_model(subject.run.studied, read_study_description(subject.run.studied).model, trusted)


def _data(question: Question, subject: Subject, model: Model, trusted: tuple[str | Path, ...]) -> Dataset:
    """Return some of the samples, spread evenly over the data."""
    source, recipe = question.evaluate, "default"
    if source is None and subject.run is not None:
        shared = read_search_description(subject.run.search)
        samples = shared.settings.get("evaluate") or shared.settings.get("calib")
        wanted = {"evaluate": samples, "recipe": shared.settings.get("recipe") or recipe}
        settings = trusted_settings(subject.run.search, wanted, set(), trusted)
        source, recipe = settings["evaluate"], settings["recipe"]
        if source in (None, UNSHARED):
            raise DataError(f"the data of the run {subject.run.root} was {UNSHARED}; give samples by --eval")
    data = load_data(source or "", model.interface, load_calibration_recipe(recipe))
    chosen = np.unique(np.linspace(0, data.count - 1, min(question.samples, data.count)).round().astype(int))
    return data.subset(chosen.tolist())
