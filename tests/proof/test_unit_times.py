"""The profile by unit beside the whole engine: whose clock it is, what is listed, in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from autoprec.backends.protocol import Clock, TimeProfile
from autoprec.graph.model import load_model
from autoprec.precision import Array, Precision
from autoprec.proof.inspect import time_profile_of
from autoprec.proof.unit_times import UnitTimes, ran_in, time_units
from autoprec.proof.verification import UnitRan, UnitStatus, Verification
from autoprec.testing import FakeBackend, tiny_data, tiny_model
from autoprec.units.find import find_units

FP16, FP32, INT8 = Precision.FP16, Precision.FP32, Precision.INT8


def ran(name: str, precision: Precision | None = FP16, **changed: object) -> UnitRan:
    fields = {"requested": FP16, "written": FP16, "status": UnitStatus.HONOURED, "heavy": True, "macs": 1} | changed
    return UnitRan(unit=name, ran=precision, **fields)  # type: ignore[arg-type]


TIMES = UnitTimes(
    Clock("modelled", "L4"),
    {"x": (2, 3)},
    TimeProfile({"a": 1.0, "b": 4.0}, {("", "a"): 0.5, ("a", "b"): 1.5, ("b", ""): 0.0}, (("odd", 1.0), ("wait", 0.0))),
    4.0,
)
VERIFICATION = Verification((ran("a"), ran("gone", None, status=UnitStatus.GONE), ran("b", INT8)))


def test_units_are_listed_longest_first_and_all_of_them() -> None:
    assert TIMES.units(VERIFICATION) == [("b", 4.0, "int8"), ("a", 1.0, "fp16"), ("gone", 0.0, "unknown")]


def test_boundaries_and_rest_are_listed_where_they_take_time() -> None:
    assert TIMES.boundaries() == [("a", "b", 1.5), ("", "a", 0.5)]
    assert TIMES.rest() == [("odd", 1.0)]


def test_the_record_says_whose_clock_it_is_and_how_much_is_attributed() -> None:
    record = json.loads(json.dumps(TIMES.to_record(VERIFICATION)))

    assert record["clock"] == "modelled for L4"
    assert record["shapes"] == {"x": [2, 3]}
    assert record["units"][0] == {"unit": "b", "ms": 4.0, "share": 0.5, "ran": "int8"}
    assert record["boundaries"][1] == {"before": "", "after": "a", "ms": 0.5, "share": 0.0625}
    assert record["rest"] == [{"layer": "odd", "ms": 1.0, "share": 0.125}]
    assert (record["attributed_share"], record["layers_ms"], record["engine_ms"]) == (0.875, 8.0, 4.0)
    assert record["layers_over_engine"] == 2.0


def test_an_empty_profile_has_no_shares() -> None:
    nothing = UnitTimes(Clock("measured", "H200"), {}, TimeProfile({}, {}, ()), 1.0)

    assert (nothing.share(0.0), nothing.layers_over_engine) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (ran("a", INT8), "int8"),
        (ran("a", None), "fp16"),  # ONNX Runtime only says that it is as asked
        (ran("a", None, written=FP32), "fp32"),
        (ran("a", None, status=UnitStatus.NOT_HONOURED), "unknown"),
        (ran("a", None, status=UnitStatus.FUSED), "unknown"),
    ],
)
def test_what_a_unit_ran_in_is_said_where_it_is_known(unit: UnitRan, words: str) -> None:
    assert ran_in(unit) == words


def test_an_engine_is_profiled_and_timed_as_a_whole(tmp_path: Path) -> None:
    """The fake backend's clock is the sum of its nodes, so both are equal."""
    path = tiny_model(tmp_path)
    model = load_model(path)
    partition = find_units(model.graph)
    feed = {"x": tiny_data(path, 4)["x"]}
    found = time_units(partition, FakeBackend({"conv2": (3.0, 1.0)}), path.read_bytes(), feed)

    assert found.attribution.unit_ms["conv2"] == pytest.approx(3.0 + 0.1)  # with its Relu
    assert found.layers_over_engine == pytest.approx(1.0)
    assert found.shapes == {"x": (4, 24, 8, 8)}
    assert found.clock.text == "modelled for a sum of costs"


class Listening(FakeBackend):
    """Keeps what it is asked to share time out by."""

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        self.home, self.macs = dict(home), dict(macs)
        return super().profile(model, feed, home, macs)


def test_time_is_shared_out_by_the_real_work_of_units(tmp_path: Path) -> None:
    path, backend = tiny_model(tmp_path), Listening()
    time_profile_of(find_units(load_model(path).graph), backend, path.read_bytes(), {})

    assert backend.macs["conv1"] == 24 * 24 * 9 * 8 * 8
    assert backend.macs["head"] == 24 * 16
    assert backend.macs["pool"] == 0
    assert backend.home["relu1"] == backend.home["conv1"] == "conv1"
