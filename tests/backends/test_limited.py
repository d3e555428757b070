"""An engine runs only while there is time."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.backends.limited import LimitedEngine, never
from autoprec.errors import OutOfTimeError
from autoprec.testing import FakeEngine


class _Counting(FakeEngine):
    def __init__(self) -> None:
        """Needs no model."""
        self.runs = 0

    def run(self, feed: object) -> dict[str, np.ndarray]:
        self.runs += 1
        return {"y": np.zeros(1)}


def test_no_batch_begins_once_the_time_is_up() -> None:
    engine, left = _Counting(), [False, False, True]
    limited = LimitedEngine(engine, lambda: left[engine.runs])

    limited.run({})
    limited.run({})
    with pytest.raises(OutOfTimeError, match="allow more time"):
        limited.run({})
    assert engine.runs == 2


def test_without_a_limit_every_batch_runs() -> None:
    engine = _Counting()
    for _ in range(3):
        LimitedEngine(engine, never).run({})

    assert engine.runs == 3
