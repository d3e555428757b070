"""A tiny model tuned with a reckoned clock, and gates of it that take no chances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import autoprec
from autoprec.gate.judge import Limits, gate, record_baseline
from autoprec.gate.verdict import Check, GateReport
from autoprec.testing import FakeBackend, tiny_data, tiny_model


@dataclass(frozen=True)
class Tiny:
    """A folder with tiny.onnx, eval.npz, calib.npz, run/ and baseline.json."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "tiny.onnx"

    @property
    def baseline(self) -> Path:
        return self.folder / "baseline.json"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def gate(self, model: Path | None = None, **options: Any) -> GateReport:
        """A gate with the reckoned clock; `max_drop` and other limits by name."""
        limits = {name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__}
        given = {"backend": FakeBackend(), "limits": Limits(**limits)}
        return gate(model or self.model, options.pop("baseline", self.baseline), **{**given, **options})


@pytest.fixture(name="tiny", scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    tiny = Tiny(tmp_path_factory.mktemp("tiny"))
    model = tiny_model(tiny.folder)
    np.savez(tiny.folder / "eval.npz", **tiny_data(model, 400, seed=1))
    np.savez(tiny.folder / "calib.npz", **tiny_data(model, 32, seed=2))
    result = autoprec.search(
        model,
        calib=tiny.folder / "calib.npz",
        eval=tiny.folder / "eval.npz",
        max_drop=0.5,  # kernels without VNNI saturate, so that INT8 loses a third of the decisions
        trials=2,
        backend=FakeBackend(),
        out=tiny.run,
    )
    record_baseline(result.save(), tiny.baseline)
    return tiny


@pytest.fixture(name="edited")
def _edited(tiny: Tiny, tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of the model, changed by a function of its proto."""

    def edited(change: Callable[[onnx.ModelProto], Any], name: str = "edited.onnx") -> Path:
        proto = onnx.load(tiny.model)
        changed = change(proto)
        onnx.save(changed if isinstance(changed, onnx.ModelProto) else proto, tmp_path / name)
        return tmp_path / name

    return edited


def check(report: GateReport, name: str) -> Check:
    """The check of that name."""
    return next(check for check in report.checks if check.name == name)
