"""A run keeps the scheme that it was begun with, whatever this machine would choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.backends.scheme import ORT_CPU_7BIT
from autoprec.run.begun_with import written_as
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_task
from autoprec.testing import FakeBackend, tiny_data


@pytest.mark.parametrize(("begun_with", "written_by"), [("ort-cpu-7bit", ORT_CPU_7BIT), ("tensorrt", None)])
def test_only_a_variant_of_the_own_scheme_is_taken_over(
    model: Path, begun_with: str, written_by: object | None
) -> None:
    task = prepare_task(Settings(model=model, calib=tiny_data(model, 30)), FakeBackend())
    own = task.subject.lowerer.scheme

    assert written_as(task, begun_with).subject.lowerer.scheme == (written_by or own)
    assert written_as(task, own.name) is task
