"""Every backend keeps the contract that `autoprec.testing` offers to writers of backends."""

from __future__ import annotations

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend
from autoprec.testing import BackendContract, FakeBackend


class TestOrt(BackendContract):
    def backend(self) -> Backend:
        return OrtBackend(threads=1)


class TestFake(BackendContract):
    def backend(self) -> Backend:
        return FakeBackend()


class TestFakeWithJitter(BackendContract):
    def backend(self) -> Backend:
        return FakeBackend({"conv1": (9.0, 1.0)}, jitter=0.1, seed=3)
