"""Helpers for tests of code that uses autoprec: a backend with an artificial clock, a tiny model, and a contract.

    from autoprec.testing import FakeBackend, tiny_data, tiny_model

    model = tiny_model(tmp_path)
    result = autoprec.search(model, calib=tiny_data(model, 32), backend=FakeBackend(), out=tmp_path / "run")

With `FakeBackend` a search depends only on its arguments: the same seed gives the same trials and the same plan. Read
`fake.py` first; `contract.py` holds the tests that every backend must pass.
"""

from __future__ import annotations

from autoprec.testing.contract import BackendContract
from autoprec.testing.fake import FakeBackend, FakeEngine
from autoprec.testing.tiny import tiny_data, tiny_model

__all__ = ["BackendContract", "FakeBackend", "FakeEngine", "tiny_data", "tiny_model"]
