"""What a profile says of one unit is what happens when just this unit is lowered in the whole model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, TENSORRT, Scheme
from autoprec.data.dataset import Dataset
from autoprec.errors import RunDirectoryError
from autoprec.graph.model import to_bytes
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import Metric, load_metric
from autoprec.precision import Precision
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of
from autoprec.sensitivity.table import DIRECTION, Sensitivities, load_sensitivities, sensitivity_fingerprint

from ..helpers.lowering_bench import SAMPLES, Bench, run
from ..helpers.networks import BUILDERS, conv_relu, mlp

Array = npt.NDArray[Any]

BACKEND = OrtBackend(threads=1)


def dataset(bench: Bench, labels: Array | None = None) -> Dataset:
    return Dataset.from_arrays(bench.feed, labels)


def profiled(
    bench: Bench,
    precisions: tuple[Precision, ...],
    metric: Metric,
    labels: Array | None = None,
    **changed: Any,
) -> Sensitivities:
    job = SensitivityJob(
        lowerer=bench.lowerer,
        possible=bench.possible,
        backend=BACKEND,
        dataset=dataset(bench, labels),
        metric=metric,
        ranges=bench.ranges,
        batch_size=5,
    )
    return sensitivities_of(dataclasses.replace(job, **changed), precisions)


def alone(bench: Bench, unit: str, precision: Precision) -> float:
    """Noise-to-signal ratio of the whole model with only `unit` lowered."""
    with BACKEND.build(to_bytes(bench.model.ir), exact=True) as reference:
        evaluator = Evaluator.against(reference, dataset(bench), bench.model.interface, load_metric("sqnr"), SAMPLES)
        with BACKEND.build(to_bytes(bench.lower({unit: precision}, simulate=True).ir), exact=True) as engine:
            return evaluator.evaluate(engine).noise


def points(bench: Bench, unit: str, plan: Mapping[str, Precision]) -> set[str]:
    """The values that `unit` reads in 8 bits under a plan."""
    nodes = set(bench.partition.unit(unit).nodes)
    return {p.tensor for p in bench.place(plan).activations if any(node in nodes for node, _ in p.consumers)}


@pytest.mark.parametrize("scheme", [ORT_CPU, TENSORRT], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("name", ["mlp", "pool_block", "resnet_block", "mha_block", "depthwise_block", "concat_block"])
def test_the_noise_of_a_unit_is_that_of_the_model_with_only_this_unit_lowered(name: str, scheme: Scheme) -> None:
    bench = Bench(BUILDERS[name](), scheme, Precision.FP32)
    precisions = tuple(p for p in Precision if any(row[p] is None for row in bench.possible.values()))
    profile = profiled(bench, precisions, load_metric("sqnr"))

    assert {unit for unit, _ in profile.entries} == set(bench.possible)
    for (unit, precision), entry in profile.entries.items():
        if precision.needs_ranges and not bench.place({unit: precision}).activations:
            assert bench.partition.unit(unit).kind in ("pool", "add", "resize")  # is in 8 bits beside others only
            continue
        expected = alone(bench, unit, precision)
        if points(bench, unit, bench.uniform(precision)) != points(bench, unit, {unit: precision}):
            assert entry.noise > expected  # beside quantised neighbours one more operand is in 8 bits
            continue
        # A range that is found at run time is that of the samples of one run, which are fewer here.
        near = 0.25 if precision is Precision.INT8_DYNAMIC else 0.02
        assert entry.noise == pytest.approx(expected, rel=near, abs=1e-10), f"{unit} in {precision}"
        assert entry.noise > 0 or precision is not Precision.INT8


@pytest.mark.parametrize("name", ["mlp", "mha_block", "concat_block"])
def test_it_makes_no_difference_how_many_units_one_engine_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(BUILDERS[name](), TENSORRT, Precision.FP32)
    precisions = (Precision.INT8, Precision.FP8)  # of different opsets
    together = profiled(bench, precisions, load_metric("sqnr"))
    monkeypatch.setattr("autoprec.sensitivity.portions.ENGINE_NODES", 0)
    alone = profiled(bench, precisions, load_metric("sqnr"))

    assert set(alone.entries) == set(together.entries)
    for key, entry in alone.entries.items():
        assert entry.noise == pytest.approx(together.entries[key].noise, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("name", ["mlp", "resnet_block"])
def test_entries_are_all_units_in_all_possible_precisions_but_fp32(name: str) -> None:
    bench = Bench(BUILDERS[name](), TENSORRT, Precision.FP16)
    profile = profiled(bench, tuple(Precision), load_metric("sqnr"))

    assert set(profile.entries) == {
        (unit, p) for unit, row in bench.possible.items() for p, why in row.items() if why is None and p.value != "fp32"
    }


def test_no_more_samples_are_measured_than_make_the_noise_as_certain_as_was_asked_for() -> None:
    bench = Bench(mlp(), ORT_CPU, Precision.FP32)
    whole, few = (
        profiled(bench, (Precision.INT8,), load_metric("sqnr"), batch_size=1, enough=enough) for enough in (0.0, 0.4)
    )

    assert (whole.samples, few.samples) == (SAMPLES, 8)
    for entry, found in few.entries.items():
        lowered = run(bench.lower({entry[0]: entry[1]}, simulate=True).ir, bench.feed)["fc2_out"]
        expected = bench.reference["fc2_out"]
        each = np.square(lowered - expected).sum(axis=1) / np.square(expected).sum(axis=1)
        for seen, count in ((whole.entries[entry], SAMPLES), (found, 8)):
            assert seen.noise == pytest.approx(each[:count].mean(), rel=1e-3)
            assert seen.noise_error == pytest.approx(each[:count].std(ddof=1) / count**0.5, rel=1e-3)


def test_a_measurement_that_is_cut_ends_with_what_all_units_lose_on_the_samples_until_then(tmp_path: Path) -> None:
    bench, metric, runs = Bench(conv_relu()), load_metric("sqnr"), [0]
    journal, int8 = tmp_path / "profile.jsonl", (Precision.INT8,)
    whole = profiled(bench, int8, metric, most_samples=1)

    def up() -> bool:
        runs[0] += 1
        return runs[0] > 2

    cut = profiled(bench, int8, metric, most_samples=1, out_of_time=up, journal=journal)

    assert cut.entries.keys() == whole.entries.keys()
    assert 0 < cut.samples < whole.samples
    assert profiled(bench, int8, metric, most_samples=1, journal=journal).entries == whole.entries, (
        "it goes on from there"
    )


@pytest.mark.parametrize("higher", [True, False])
def test_a_drop_is_positive_where_the_metric_got_worse_whatever_its_direction(higher: bool) -> None:
    bench = Bench(mlp(), ORT_CPU, Precision.FP32)

    def distance(outputs: dict[str, Array], labels: Array) -> Array:
        """The squared distance from FP32's output, which is stored as the label; signed by the direction."""
        far = np.square(outputs["fc2_out"] - labels).sum(axis=1)
        return -far if higher else far

    metric = load_metric(distance, "higher" if higher else "lower")
    profile = profiled(bench, (Precision.INT8,), metric, bench.reference["fc2_out"])

    assert all(entry.drop > 0 for entry in profile.entries.values())


def test_a_profile_says_its_direction(tmp_path: Path) -> None:
    bench = Bench(mlp(), ORT_CPU, Precision.FP32)
    path = tmp_path / "profile.json"
    profile = profiled(bench, (Precision.INT8,), load_metric("sqnr"))
    profile.save(path)
    record = json.loads(path.read_text(encoding="utf-8"))

    assert record["direction"] == DIRECTION == "higher is worse"
    assert load_sensitivities(path) == profile
    path.write_text(json.dumps({**record, "direction": "lower is worse"}), encoding="utf-8")
    with pytest.raises(RunDirectoryError, match="must have direction 'higher is worse'; delete it"):
        load_sensitivities(path)


def changed_weight() -> onnx.ModelProto:
    model = conv_relu()
    tensor = next(t for t in model.graph.initializer if t.name == "conv.w")
    bits = bytearray(tensor.raw_data)
    bits[0] ^= 1
    tensor.raw_data = bytes(bits)
    return model


def changed_attribute() -> onnx.ModelProto:
    model = conv_relu()
    next(node for node in model.graph.node if node.op_type == "Conv").attribute[0].ints[:] = [1, 1, 1, 1]
    attribute = onnx.helper.make_attribute("dilations", [1, 1])
    next(node for node in model.graph.node if node.op_type == "Conv").attribute.append(attribute)
    return model


def test_whatever_a_profile_depends_on_makes_it_void() -> None:
    bench = Bench(conv_relu(), ORT_CPU, Precision.FP32)
    data, metric = dataset(bench), load_metric("kl")
    other_sample = {"x": bench.feed["x"].copy()}
    other_sample["x"].flat[-1] += 1e-3
    labelled = Dataset.from_arrays(bench.feed, np.zeros(SAMPLES, np.int64))
    shifted = dataclasses.replace(bench.ranges, fingerprint="0123456789abcdef")
    marks = [
        sensitivity_fingerprint(bench.lowerer, data, metric, bench.ranges),
        sensitivity_fingerprint(Bench(changed_weight(), ORT_CPU, Precision.FP32).lowerer, data, metric, bench.ranges),
        sensitivity_fingerprint(
            Bench(changed_attribute(), ORT_CPU, Precision.FP32).lowerer, data, metric, bench.ranges
        ),
        sensitivity_fingerprint(bench.lowerer, Dataset.from_arrays(other_sample), metric, bench.ranges),
        sensitivity_fingerprint(bench.lowerer, labelled, metric, bench.ranges),
        sensitivity_fingerprint(bench.lowerer, data, load_metric("sqnr"), bench.ranges),
        sensitivity_fingerprint(bench.lowerer, data, metric, shifted),
        sensitivity_fingerprint(Bench(conv_relu(), TENSORRT, Precision.FP32).lowerer, data, metric, bench.ranges),
    ]

    assert len(set(marks)) == len(marks)
    assert (
        sensitivity_fingerprint(Bench(conv_relu(), ORT_CPU, Precision.FP32).lowerer, data, metric, bench.ranges)
        == marks[0]
    )


def test_a_journal_of_other_inputs_is_not_used(tmp_path: Path) -> None:
    bench = Bench(mlp(), ORT_CPU, Precision.FP32)
    journal = tmp_path / "journal"
    unit = next(iter(bench.possible))
    row = {"mark": "another", "chunk": 0, "unit": unit, "precision": "int8", "noise": 7.0, "kl": 1.0, "drop": 1.0}
    journal.write_text(json.dumps({**row, "spent_s": 1.0}) + "\nnot json\n", encoding="utf-8")
    job = SensitivityJob(
        lowerer=bench.lowerer,
        possible=bench.possible,
        backend=BACKEND,
        dataset=dataset(bench),
        metric=load_metric("sqnr"),
        ranges=bench.ranges,
        batch_size=8,
        journal=journal,
    )

    assert sensitivities_of(job, (Precision.INT8,)).entries[unit, Precision.INT8].noise < 1
