"""A plan that runs: as a session of ONNX Runtime, as an engine of TensorRT, or called as the module that was tuned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.build import EngineWish, deliver
from autoprec.errors import BackendError, RunDirectoryError
from autoprec.exporting.signature import Signature, read_signature
from autoprec.files.json import read_json
from autoprec.files.onnx_message import OnnxMessage
from autoprec.files.trust import trusted_files
from autoprec.plan import Plan, load_plan
from autoprec.proof.delivered import Delivered
from autoprec.run.directory import SCHEMA, RunDirectory
from autoprec.run.study_description import read_study_description
from autoprec.run.trusted import trusted_settings


class PlanInUse(ABC):
    """The answer of a run, as something that computes."""

    @abstractmethod
    def lowered_model(self) -> bytes | Path:
        """Return the model lowered by the plan, serialised or as a file."""

    @abstractmethod
    def plan_and_model(self) -> tuple[Path, Path]:
        """Return the file of the plan, and that of the model before tuning."""

    @property
    @abstractmethod
    def module_signature(self) -> Signature | None:
        """How the module that was tuned is called, None where it was an ONNX file."""

    def session(self, threads: int | None = None) -> Any:
        """Return an `onnxruntime.InferenceSession` on the CPU, with the options that plans are measured with.

        Args:
            threads: the number of threads of one run, by default the CPUs that this process may use.

        Raises:
            BackendError: ONNX Runtime refused the model, such as one for TensorRT with FP8.
        """
        from autoprec.backends.host import available_cpus
        from autoprec.backends.ort_sessions import open_session, session_options

        model, threads = self.lowered_model(), threads or available_cpus()
        try:
            if isinstance(model, Path):
                return open_session(str(model), session_options(threads, folder=str(model.parent)))
            in_files = isinstance(model, OnnxMessage)
            return open_session(model, session_options(threads, in_files=in_files), in_files=in_files)
        except Exception as error:  # ONNX Runtime raises plain RuntimeErrors of its C++ part
            raise BackendError(f"ONNX Runtime refused the lowered model: {str(error).splitlines()[0]}") from error

    def module(self, threads: int | None = None) -> Any:
        """Return a torch module that takes and returns what the tuned module did, and runs the plan on the CPU.

        For a run of an ONNX file it takes tensors in the order of the inputs or by their names, and returns a tensor,
        or a mapping of several. Tensors of other devices are taken, and its outputs are on the device of its inputs.

        Args:
            threads: the number of threads of one run, by default the CPUs that this process may use.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        from autoprec.exporting.torch_planned import planned_module

        return planned_module(self.session(threads), self.module_signature)

    def engine(
        self,
        backend: str = "tensorrt",
        *,
        targets: Sequence[str] = (),
        shapes: Sequence[str] = (),
        batch: int = 1,
        time_limit_s: float = 900.0,
        profile: bool = False,
    ) -> Delivered:
        """Build an engine of TensorRT of the plan, as `autoprec build` does; it lies beside the lowered model.

        Args:
            backend: "tensorrt" or "tensorrt-rtx".
            targets: the compute capabilities to build for; if empty, that of this machine's GPU.
            shapes: the shapes of inputs as "INPUT:1x3x224x224", or as "INPUT:LEAST:BEST:LARGEST".
            batch: the number of samples for inputs without a shape.
            time_limit_s: the most seconds that the build may take.
            profile: whether the time of the engine is measured by unit.

        Returns:
            The paths of the engine and the model, and what each unit really runs in; its `open()` gives what runs.

        Raises:
            AutoprecError: see `autoprec.build.deliver`.
        """
        plan, model = self.plan_and_model()
        wish = EngineWish(
            backend=backend,
            targets=tuple(targets),
            shapes=tuple(shapes),
            batch=batch,
            time_limit_s=time_limit_s,
            profile=profile,
        )
        return deliver(plan, model, None, wish)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedResult(PlanInUse):
    """The answer of a run, read from its directory.

    Attributes:
        plan: the plan that is the answer.
        summary: all figures: candidates on fresh samples, drops with intervals, latencies, seconds.
        directory: the path of the run directory.
        signature: how the module that was tuned is called, None where it was an ONNX file.
        model: the model before tuning, where the user said which it is.
        trust: the files of the run that may name a model anywhere.
    """

    plan: Plan
    summary: dict[str, Any]
    directory: Path
    signature: Signature | None
    model: Path | None = None
    trust: tuple[str | Path, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether the bound is met."""
        return bool(self.summary.get("feasible"))

    @property
    def reason(self) -> str:
        """The sentence that says why this plan is the answer."""
        return str(self.summary.get("reason", ""))

    @property
    def module_signature(self) -> Signature | None:
        """How the module that was tuned is called."""
        return self.signature

    def lowered_model(self) -> Path:
        """Return the file of the lowered model."""
        return RunDirectory(self.directory).model

    def plan_and_model(self) -> tuple[Path, Path]:
        """Return the file of the plan, and that of the model before tuning.

        Raises:
            ModelError: the run names a model that lies somewhere else.
        """
        run = RunDirectory(self.directory)
        if self.model is not None or run.exported.is_file():
            return run.plan, self.model or run.exported
        named = {"model": read_study_description(run.studied).model}
        return run.plan, Path(trusted_settings(run.studied, named, frozenset(), self.trust)["model"])


def load(
    run: str | Path, *, model: str | Path | None = None, trust: str | Path | Sequence[str | Path] = ()
) -> SavedResult:
    """Return the answer of a run directory, as a search or `autoprec tune` left it there.

    Args:
        run: the path of the run directory.
        model: the model before tuning, of which `engine` is built, where it is not where the run names it.
        trust: the files, such as the run's study.json, that may name a model anywhere; by default they may name one
            beside the run directory or below the current folder.

    Raises:
        RunDirectoryError: it holds no answer, or a file is damaged.
        PlanError: the plan is damaged.
    """
    directory = RunDirectory(Path(run))
    for path in (directory.plan, directory.model, directory.result):
        if not path.is_file():
            raise RunDirectoryError(
                f"{run} must hold the answer of a run, but has no {path.name}; let `autoprec tune` end, or call save() "
                f"of the result"
            )
    return SavedResult(
        plan=load_plan(directory.plan),
        summary=read_json(directory.result, "result", RunDirectoryError, SCHEMA),
        directory=directory.root,
        signature=read_signature(directory.signature),
        model=None if model is None else Path(model),
        trust=trusted_files(trust),
    )
