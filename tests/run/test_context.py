"""Making the context of a run costs nothing, and its clock knows what each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprec.run import context
from autoprec.run.context import StageClock, judging_backend, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.progress import Silent
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_task
from autoprec.testing import FakeBackend, tiny_data, tiny_model


def test_making_a_run_builds_no_engine_and_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path)
    task = prepare_task(Settings(model=model, evaluate=tiny_data(model, 36)), FakeBackend())
    (tmp_path / "run").mkdir()
    builds: list[str] = []

    def counted(name: str) -> Any:
        return lambda *args, **options: builds.append(name)

    for name in ("build", "build_busy", "inspect", "profile"):
        monkeypatch.setattr(FakeBackend, name, counted(name))
    run = prepare_run(task, RunDirectory(tmp_path / "run"))

    assert builds == []
    assert list((tmp_path / "run").iterdir()) == []
    assert run.clock.seconds == {"start": 0.0}
    assert run.task.splits == task.splits


def test_each_stage_ends_where_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(context.time, "monotonic", lambda: now[0])
    clock = StageClock(Silent(), elapsed_s=2.0)
    for name, seconds in (("ranges", 1.0), ("search", 5.0)):
        now[0] += seconds
        clock.begin(name, "")
    now[0] += 7.0
    clock.end()
    now[0] += 50.0

    assert clock.seconds == {"start": 3.0, "ranges": 5.0, "search": 7.0}


class ForShapes(FakeBackend):
    """Builds engines for the shapes of a run, as TensorRT does."""

    keeps_engines = True

    def __init__(self, samples: int = 0) -> None:
        super().__init__()
        self.samples = samples

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> FakeBackend:
        return ForShapes(shapes["x"][0])


def test_outputs_are_computed_for_the_shapes_of_the_data_where_a_situation_has_others(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    settings = Settings(model=model, calib=tiny_data(model, 24), metric="sqnr", batch=8)
    situated = prepare_task(replace(settings, situations=("one:batch=1",)), ForShapes())
    shapes = {"x": (1, 24, 8, 8)}

    judging = judging_backend(situated, shapes, RunDirectory(tmp_path))
    assert isinstance(judging, ForShapes)
    assert judging.samples == 8
    assert judging_backend(situated, {"x": (8, 24, 8, 8)}, RunDirectory(tmp_path)) is None
    assert judging_backend(replace(situated, backend=FakeBackend()), shapes, RunDirectory(tmp_path)) is None
