"""The plans that a search begins with, with pins and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from autoprec.precision import Precision
from autoprec.run.settings import Settings
from autoprec.run.task import Subject, prepare_subject
from autoprec.run.uniform import seed_plans, uniform_plans
from autoprec.testing import FakeBackend
from autoprec.units.records import Edge, Partition, Unit, UnitKind

FP16, FP32, INT8 = Precision.FP16, Precision.FP32, Precision.INT8
UNITS = ("conv1", "conv2", "conv3", "pool", "head")


def subject(model: Path, *pins: str, space: str | None = None) -> Subject:
    return prepare_subject(Settings(model=model, pins=pins, space=space), FakeBackend(), timed=space is None)


def test_without_pins_there_is_a_plan_for_each_precision(model: Path) -> None:
    plans = uniform_plans(subject(model))

    assert plans == {"uniform fp32": dict.fromkeys(UNITS, FP32), "uniform int8": dict.fromkeys(UNITS, INT8)}
    assert list(seed_plans(subject(model))) == [*plans, "first half int8", "last half int8"]


def test_pins_never_change_fp32_itself(model: Path) -> None:
    """It is what drops and latencies are compared with."""
    plans = uniform_plans(subject(model, "head=int8"))

    assert list(plans) == ["uniform fp32", "uniform fp32 but for pins", "uniform int8"]
    assert plans["uniform fp32"] == dict.fromkeys(UNITS, FP32)
    assert plans["uniform fp32 but for pins"] == dict.fromkeys(UNITS, FP32) | {"head": INT8}
    assert plans["uniform int8"] == dict.fromkeys(UNITS, INT8)


def test_seeds_obey_pins_and_begin_with_what_is_nearest_to_fp32(model: Path) -> None:
    seeds = seed_plans(subject(model, "head=int8"))

    assert list(seeds) == ["uniform fp32 but for pins", "uniform int8", "first half int8", "last half int8"]
    assert all(plan["head"] is INT8 for plan in seeds.values())
    first, last = seeds["first half int8"], seeds["last half int8"]
    assert {first[name] for name in UNITS[:2]} == {INT8} == {last[name] for name in UNITS[2:]}
    assert {first[name] for name in UNITS[2:4]} == {FP32} == {last[name] for name in UNITS[:2]}


def test_a_pin_to_fp32_leaves_fp32_an_answer(model: Path) -> None:
    seeds = seed_plans(subject(model, "head=fp32"))

    assert list(seeds)[:2] == ["uniform fp32", "uniform int8"]
    assert seeds["uniform int8"] == dict.fromkeys(UNITS, INT8) | {"head": FP32}


def test_a_precision_that_only_pins_ask_for_makes_no_plan(model: Path, tmp_path: Path) -> None:
    """Else INT8 with one pinned unit would be called FP32."""
    space = tmp_path / "space.toml"
    space.write_text('description = "no FP32"\nprecisions = ["int8", "fp16"]\ncarrier = "fp16"\n', encoding="utf-8")
    seeds = seed_plans(subject(model, "head=fp32", space=str(space)))

    assert list(seeds) == ["uniform fp16", "uniform int8", "first half int8", "last half int8"]
    assert seeds["uniform fp16"] == dict.fromkeys(UNITS, FP16) | {"head": FP32}


def test_where_all_is_pinned_the_one_possible_plan_is_offered(model: Path) -> None:
    pinned = subject(model, ".*=int8")

    assert seed_plans(pinned) == {"uniform int8": dict.fromkeys(UNITS, INT8)}
    assert uniform_plans(pinned)["uniform fp32"] == dict.fromkeys(UNITS, FP32)


def test_what_cannot_be_int8_runs_in_the_carrier_beside_it(model: Path) -> None:
    """Between FP32 and 8 bits each boundary converts; the carrier is the float type that 8-bit kernels write."""
    found = subject(model, space="tensorrt")
    without = {**found.choices, "pool": tuple(p for p in found.choices["pool"] if p is not INT8)}

    assert uniform_plans(replace(found, choices=without))["uniform int8"] == dict.fromkeys(UNITS, INT8) | {"pool": FP16}


def test_where_builds_are_slow_the_first_plans_cut_no_residual_block() -> None:
    """A cut in its midst costs one more boundary, and TensorRT 8.6 has no kernel for an Add of two precisions."""
    names = ["stem", "a1", "a2", "b1", "b2", "head"]
    read = {"stem": ("a1", "a2"), "a1": ("a2",), "a2": ("b1", "b2"), "b1": ("b2",), "b2": ("head",), "head": ("",)}
    units = [
        Unit(name=n, kind=UnitKind.CONV, nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n)
        for n in names
    ]
    edges = [Edge(made, reader, made, 1) for made, readers in read.items() for reader in readers]
    partition = Partition(units=tuple(units), reasons={}, edges=tuple(edges))
    choices = dict.fromkeys(names, (INT8, FP16))
    model = SimpleNamespace(partition=partition, choices=choices, space=SimpleNamespace(carrier=FP16))

    assert [n for n in names if seed_plans(model, FP16)["last half int8"][n] is INT8] == ["b1", "b2", "head"]
    partition = replace(partition, units=partition.units[1:], edges=partition.edges[2:])
    model = SimpleNamespace(partition=partition, choices={n: choices[n] for n in names[1:]}, space=model.space)

    assert seed_plans(model, FP16)["last half int8"]["a2"] is FP16
    assert seed_plans(model, FP16)["last half int8"]["b1"] is INT8
