"""A backend that was written for the earlier Protocol goes on working."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import autoprec
from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Attribution, RanAs
from autoprec.backends.scheme import ORT_CPU, TENSORRT
from autoprec.errors import UsageError
from autoprec.gate.judge import gate, record_baseline
from autoprec.precision import Array
from autoprec.testing import FakeBackend, FakeEngine, tiny_data, tiny_model


class EngineWithoutSize:
    """An engine with nothing but what the earlier Protocol asked for."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._engine.run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        return self._engine.time_ms(feed, runs)

    def __enter__(self) -> EngineWithoutSize:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.__exit__(kind, error, trace)


class Earlier:
    """A backend with nothing but what the earlier Protocol asked for."""

    name, scheme, threads, runs_here, keeps_engines = "earlier", "ort-cpu", 1, True, False

    def __init__(self) -> None:
        fake = FakeBackend()
        self.clock, self.support, self.inspect, self.profile = fake.clock, fake.support, fake.inspect, fake.profile
        self._fake = fake

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> Earlier:
        return self

    def describe(self) -> dict[str, str]:
        return {"backend": self.name}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> EngineWithoutSize:
        return EngineWithoutSize(self._fake.build(model, exact=exact, threads=threads))

    def build_busy(self, model: bytes) -> EngineWithoutSize:
        return EngineWithoutSize(self._fake.build_busy(model))


def searched(folder: Path, backend: Any) -> autoprec.SearchResult:
    model = tiny_model(folder)
    data = tiny_data(model, 120)
    return autoprec.search(
        model, calib=data, recipe="minmax", max_drop=0.5, trials=3, backend=backend, out=folder / "run"
    )


def test_a_search_with_it_finds_what_a_search_with_todays_protocol_finds(tmp_path: Path) -> None:
    earlier, today = tmp_path / "earlier", tmp_path / "today"
    earlier.mkdir()
    today.mkdir()
    old, new = searched(earlier, Earlier()), searched(today, FakeBackend())

    assert old.plan.precisions() == new.plan.precisions()
    assert [trial.measured for trial in old.trials] == [trial.measured for trial in new.trials]
    assert old.plan.scheme == "ort-cpu"


def test_a_gate_takes_it(tmp_path: Path) -> None:
    result = searched(tmp_path, Earlier())
    record_baseline(result.save(), tmp_path / "baseline.json")
    data = tiny_data(tmp_path / "tiny.onnx", 120)

    assert gate(tmp_path / "run", tmp_path / "baseline.json", eval=data, backend=Earlier()).exit_code in (0, 3)  # type: ignore[arg-type]


def test_what_its_schemes_name_meant_are_flags_now() -> None:
    class OnGpu(Earlier):
        scheme = "tensorrt"

    cpu, gpu = make_backend(Earlier()), make_backend(OnGpu())  # type: ignore[arg-type]

    assert (cpu.scheme, cpu.portable, cpu.builds_quickly, cpu.uses_gpu) == (ORT_CPU, True, True, False)
    assert (gpu.scheme, gpu.portable, gpu.builds_quickly, gpu.uses_gpu) == (TENSORRT, False, False, True)
    assert (cpu.default_space, gpu.default_space) == ("cpu", "tensorrt")


def test_a_scheme_that_is_not_known_is_refused() -> None:
    class Strange(Earlier):
        scheme = "tvm"

    with pytest.raises(UsageError, match="a scheme must be one of"):
        make_backend(Strange())  # type: ignore[arg-type]


def test_a_backend_of_today_is_returned_as_it_is() -> None:
    backend = FakeBackend()

    assert make_backend(backend) is backend


def test_what_a_backend_gives_back_has_the_names_and_the_order_of_fields_of_the_earlier_protocol() -> None:
    assert RanAs("Conv", True) == RanAs(operator="Conv", quantized=True)
    assert Attribution({"a": 1.0}, {("a", "b"): 0.5}, (("copy", 0.5),)).total_ms == 2.0
