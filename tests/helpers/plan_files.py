"""Plan files for `autoprec.testing.tiny_model`, made without a search."""

from __future__ import annotations

from pathlib import Path

from autoprec.backends.ort import OrtBackend
from autoprec.calibrate.choose import calibrate_model
from autoprec.calibrate.job import CalibrationJob
from autoprec.plan import Choice, Plan
from autoprec.precision import Precision
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_task
from autoprec.testing import tiny_data, tiny_model


def tiny_plan(folder: Path, precision: Precision, *, scheme: str = "tensorrt", **changed: Precision) -> Path:
    """Write tiny.onnx, and plan.json that gives its units one precision where they can have it.

    Args:
        folder: for both files.
        precision: of all units that can; of others FP16, or FP32 on the CPU.
        scheme: "tensorrt" or "ort-cpu".
        changed: unit -> another precision.

    Returns:
        The plan file.
    """
    path = tiny_model(folder)
    backend = OrtBackend(threads=1)
    space, runtime, carrier = {
        "tensorrt": ("tensorrt-fp8", "tensorrt-rtx", Precision.FP16),
        "ort-cpu": ("cpu", "ort-cpu", Precision.FP32),
    }[scheme]
    settings = Settings(model=path, calib=tiny_data(path, 24), space=space, metric="agreement")
    task = prepare_task(settings, backend, timed=False)
    subject = task.subject
    ranges = calibrate_model(
        CalibrationJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=backend,
            dataset=task.splits.calibrate,
            recipe=task.recipe,
        )
    )
    wanted = {
        name: next(p for p in (changed.get(name, precision), carrier) if found[p] is None)
        for name, found in subject.possible.items()
    }
    plan = Plan(
        units={name: Choice(p, "written by hand", False, name) for name, p in wanted.items()},
        carrier=carrier,
        scheme=scheme,
        backend=runtime,
        fingerprints={"graph": subject.model.graph_fingerprint, "weights": subject.model.weights_fingerprint},
        evidence={},
        ranges=ranges.to_record(),
    )
    plan.save(folder / "plan.json")
    return folder / "plan.json"
