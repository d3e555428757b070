"""For tests of code that uses autoprec: a backend with a reckoned clock, a tiny model, a contract for backends.

    from autoprec.testing import FakeBackend, tiny_data, tiny_model

    model = tiny_model(tmp_path)
    result = autoprec.search(model, calib=tiny_data(model, 32), backend=FakeBackend(), out=tmp_path / "run")

With `FakeBackend` a search depends on nothing but its arguments: the same seed gives the same trials and plan. Read
`fake.py` first; `contract.py` holds the tests that every backend passes.
"""

from __future__ import annotations

from autoprec.testing.contract import BackendContract
from autoprec.testing.fake import FakeBackend, FakeEngine
from autoprec.testing.tiny import tiny_data, tiny_model

__all__ = ["BackendContract", "FakeBackend", "FakeEngine", "tiny_data", "tiny_model"]
