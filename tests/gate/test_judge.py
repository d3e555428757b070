"""Whole gates of a tiny model with a reckoned clock: what each change of the model comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import autoprec
from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock
from autoprec.calibrate.observe import observe
from autoprec.data.sources import load_data
from autoprec.errors import BaselineError, DataError, ModelError, UsageError
from autoprec.gate.baseline import load_baseline, write_baseline
from autoprec.gate.judge import record_baseline, update_baseline
from autoprec.gate.rebuild import rebuild_plan
from autoprec.gate.verdict import Status
from autoprec.ranges.calibrators import calibrate
from autoprec.testing import FakeBackend, tiny_data
from autoprec.testing.fake import _COSTS

from ..helpers.renamed_models import renamed
from ..helpers.spoilt_models import scale_weight, turn_classes
from .conftest import Tiny, check

Edited = Callable[..., Path]


def add_work(proto: onnx.ModelProto, nodes: int) -> None:
    """Sin over the input, so many times, whose result is 0 times added to the scores."""
    graph = proto.graph
    last = graph.node[-1]
    last.output[0] = "bare"
    source = graph.input[0].name
    for number in range(nodes):
        graph.node.append(helper.make_node("Sin", [source], [f"extra{number}"], name=f"extra{number}"))
        source = f"extra{number}"
    graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1], [0.0]))
    graph.initializer.append(helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [source], ["mean"], name="mean", axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"], name="nothing"),
            helper.make_node("Unsqueeze", ["nothing", "axes"], ["column"], name="column"),
            helper.make_node("Add", ["bare", "column"], ["scores"], name="sum"),
        ]
    )


def test_an_unchanged_model_is_fine_in_everything(tiny: Tiny) -> None:
    report = tiny.gate()

    assert [(c.name, c.status) for c in report.checks] == [
        (name, Status.FINE) for name in ("accuracy", "precision", "latency", "size", "ranges")
    ]
    assert report.exit_code == 0
    assert report.changes == ()
    assert report.seconds > 0


def test_a_run_directory_is_judged_by_its_own_plan(tiny: Tiny) -> None:
    assert tiny.gate(tiny.run).status is Status.FINE


def test_a_re_export_that_renames_everything_is_fine(tiny: Tiny, edited: Edited) -> None:
    report = tiny.gate(edited(lambda proto: renamed(proto, "other/")))

    assert report.status is Status.FINE
    assert check(report, "accuracy").change.startswith("+0.0000")
    assert check(report, "ranges").change == "0.00 bits at worst"
    assert any("units renamed since the baseline and found by structure" in words for words in report.changes)


def test_a_model_that_answers_otherwise_is_worse(tiny: Tiny, edited: Edited) -> None:
    report = tiny.gate(edited(turn_classes), max_drop=0.05)
    found = check(report, "accuracy")

    assert report.exit_code == 1
    assert found.status is Status.WORSE
    assert "more than the 0.05 allowed" in found.sentence
    assert found.details[0].startswith("FP32 itself changed by -")


def test_a_model_that_lowers_to_the_same_bytes_is_not_raced_against_itself(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the machine's noise could come out of it."""
    monkeypatch.setattr("autoprec.gate.duel.race", lambda *_: pytest.fail("raced"))
    found = check(tiny.gate(), "latency")

    assert found.status is Status.FINE
    assert "the lowered model is identical to the baseline's, byte for byte" in found.sentence


def test_more_work_is_slower(tiny: Tiny, edited: Edited) -> None:
    found = check(tiny.gate(edited(lambda proto: add_work(proto, 8)), max_slowdown=0.05), "latency")

    assert found.status is Status.WORSE
    assert "interleaved rounds, in two measurements: more than the 5.0% allowed" in found.sentence


def test_more_work_within_the_bound_is_fine(tiny: Tiny, edited: Edited) -> None:
    assert (
        check(tiny.gate(edited(lambda proto: add_work(proto, 8)), max_slowdown=50.0), "latency").status is Status.FINE
    )


def test_units_that_the_plan_does_not_know_are_named(tiny: Tiny, edited: Edited) -> None:
    report = tiny.gate(edited(lambda proto: add_work(proto, 1)), max_slowdown=50.0)
    assert any("not in the baseline's plan and run in fp32" in words for words in report.changes)


def test_the_baselines_own_model_may_lie_elsewhere(tiny: Tiny, edited: Edited, tmp_path: Path) -> None:
    moved = tmp_path / "moved.onnx"
    moved.write_bytes((tiny.run / "model.onnx").read_bytes())
    found = check(tiny.gate(edited(lambda proto: add_work(proto, 8)), baseline_model=moved), "latency")
    assert str(moved) in found.details[0]

    with pytest.raises(UsageError, match=r"tiny\.onnx is not the lowered model of the baseline"):
        tiny.gate(baseline_model=tiny.model)
    with pytest.raises(UsageError, match="no such file: absent"):
        tiny.gate(baseline_model="absent")


def test_without_the_baselines_model_fp32_is_the_measure(
    tiny: Tiny, edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprec.gate.latency.find_rival", lambda *_: None)
    found = check(tiny.gate(edited(lambda proto: scale_weight(proto, "conv3.weight", 1.01))), "latency")

    assert found.status is Status.FINE
    assert found.sentence == "1.000 of the baseline's share of FP32's latency"


def test_without_the_baselines_model_another_graph_cannot_be_timed(
    tiny: Tiny, edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FP32 became slower too, so that its share would hide what was added."""
    monkeypatch.setattr("autoprec.gate.latency.find_rival", lambda *_: None)
    model = edited(lambda proto: add_work(proto, 8))

    assert check(tiny.gate(model), "latency").status is Status.SKIPPED
    required = check(tiny.gate(model, latency_required=True), "latency")
    assert required.status is Status.CANNOT_JUDGE
    assert "cannot judge here: the graph changed, so FP32's latency is not comparable" in required.sentence


class Elsewhere(FakeBackend):
    """Another machine."""

    def describe(self) -> dict[str, str]:
        return super().describe() | {"driver": "580"}


def test_another_driver_is_said_and_its_part_is_judged_apart(tiny: Tiny) -> None:
    report = tiny.gate(backend=Elsewhere())

    assert "driver: not there -> 580" in report.changes
    assert report.status is Status.FINE
    assert "the runtime or machine is not the baseline's, and 1.000 of" in check(report, "latency").sentence


def test_a_runtime_that_became_slower_is_found(tiny: Tiny) -> None:
    """Beside the baseline's model nothing changed, as both became slower; FP32 did not, so days compare."""

    class Upgraded(Elsewhere):
        def __init__(self) -> None:
            floats, codes = _COSTS["Conv"]
            super().__init__({"Conv": (floats, 1.5 * codes)})

    found = check(tiny.gate(backend=Upgraded()), "latency")

    assert found.status is Status.WORSE
    assert "of the baseline's milliseconds, in two measurements" in found.sentence
    assert found.sentence.endswith("; the runtime became slower, not the model")


def test_a_machine_that_is_slower_in_fp32_too_proves_nothing(tiny: Tiny) -> None:
    class Busy(Elsewhere):
        def __init__(self) -> None:
            super().__init__({name: (2 * floats, 2 * codes) for name, (floats, codes) in _COSTS.items()})

    report = tiny.gate(backend=Busy())
    assert check(report, "latency").status is Status.FINE
    assert check(report, "latency").sentence.endswith("and how much that changed cannot be judged here")
    required = check(tiny.gate(backend=Busy(), latency_required=True), "latency")
    assert required.status is Status.CANNOT_JUDGE
    assert required.sentence.endswith("and how much that changed cannot be judged")


def test_another_processor_cannot_be_judged_and_fails_only_if_asked(
    tiny: Tiny, edited: Edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprec.gate.latency.find_rival", lambda *_: None)

    class Other(FakeBackend):
        clock = Clock("modelled", "another sum of costs")

    report = tiny.gate(backend=Other())
    assert report.exit_code == 0
    assert check(report, "latency").status is Status.SKIPPED
    assert check(report, "latency").sentence.startswith(
        "cannot judge here: the baseline was modelled on a sum of costs with 1 threads, this is another sum of costs"
    )
    assert tiny.gate(backend=Other(), latency_required=True).exit_code == 3


def test_a_larger_model_is_worse_by_its_bytes(tiny: Tiny) -> None:
    found = check(tiny.gate(max_size=None, max_bytes=1000), "size")

    assert found.status is Status.WORSE
    assert "more than the 1,000 bytes allowed" in found.sentence
    assert check(tiny.gate(max_size=None), "size").status is Status.SKIPPED


def test_ranges_that_moved_are_named(tiny: Tiny, edited: Edited) -> None:
    """A retrain that makes one convolution's outputs eight times as large: its committed range clips them."""
    found = check(tiny.gate(edited(lambda proto: scale_weight(proto, "conv1.weight", 8.0)), max_drop=2.0), "ranges")

    assert found.status is Status.WORSE
    assert "no longer fit: the committed ones lose up to" in found.sentence
    assert any(line.startswith("relu1_out: committed ") for line in found.details)
    assert "bits of resolution lost" in found.details[0]


def test_a_value_is_calibrated_again_by_its_own_calibrator(tiny: Tiny, edited: Edited) -> None:
    """A tune may choose another calibrator for single values; by that one, nothing drifted."""
    baseline = load_baseline(tiny.baseline)
    candidate = rebuild_plan(tiny.model, baseline)
    data = load_data(tiny.folder / "calib.npz", candidate.model.interface)
    histogram = observe(candidate.lowerer, ("relu1_out",), OrtBackend(1), data, 16).histograms["relu1_out"]
    span = calibrate(histogram, "percentile", symmetric=False, percentile=90.0)
    record = dict(baseline.plan.ranges or {})
    record["ranges"] = {**record["ranges"], "relu1_out": [span.low, span.high, histogram.low, histogram.high]}

    def bits(chosen: dict[str, str], model: Path) -> str:
        plan = replace(baseline.plan, ranges={**record, "chosen": {**record.get("chosen", {}), **chosen}})
        path = write_baseline(plan, baseline.evidence, tiny.folder / "chosen.json")
        return check(tiny.gate(model, baseline=path, max_drop=2.0), "ranges").change

    renamed_model = edited(lambda proto: renamed(proto, "other/"))
    assert bits({"relu1_out": "percentile 90"}, tiny.model) == "0.00 bits at worst"
    assert bits({"relu1_out": "percentile 90"}, renamed_model) == "0.00 bits at worst"
    assert bits({"relu1_out": "minmax"}, tiny.model) != "0.00 bits at worst"


def test_without_calibration_data_ranges_are_left_out_in_words(tiny: Tiny) -> None:
    baseline = load_baseline(tiny.baseline)
    data = {**baseline.evidence.data, "calib": "gone.npz"}
    path = write_baseline(baseline.plan, replace(baseline.evidence, data=data), tiny.folder / "moved.json")
    found = check(tiny.gate(baseline=path), "ranges")

    assert found.status is Status.SKIPPED
    assert "no such file or folder: 'gone.npz'" in found.sentence
    assert found.sentence.endswith("give calibration data by --calib")
    assert check(tiny.gate(baseline=path, calib=tiny.folder / "calib.npz"), "ranges").status is Status.FINE


def test_a_tune_with_a_single_set_is_calibrated_again_on_the_same_part_of_it(tiny: Tiny, tmp_path: Path) -> None:
    result = autoprec.search(
        tiny.model, calib=tiny.folder / "eval.npz", max_drop=0.5, trials=2, backend=FakeBackend(), out=tmp_path / "run"
    )
    path = record_baseline(result.save(), tmp_path / "single.json")
    report = tiny.gate(baseline=path)

    assert report.status is Status.FINE
    assert check(report, "ranges").change == "0.00 bits at worst"


def test_calibration_data_that_was_given_must_be_there(tiny: Tiny) -> None:
    with pytest.raises(DataError, match=r"no such file or folder"):
        tiny.gate(calib="absent.npz")


def test_missing_evaluation_data_is_said(tiny: Tiny) -> None:
    with pytest.raises(DataError, match=r"no such file or folder: 'absent\.npz'"):
        tiny.gate(eval="absent.npz")


def test_other_samples_are_no_measure(tiny: Tiny) -> None:
    with pytest.raises(DataError, match="has none of the 200 samples that the baseline was measured on"):
        tiny.gate(eval=tiny_data(tiny.model, 50, seed=99))


def test_too_few_of_the_samples_cannot_be_judged(tiny: Tiny) -> None:
    data = {name: array[:60] for name, array in np.load(tiny.folder / "eval.npz").items()}
    found = check(tiny.gate(eval=data, max_drop=0.05), "accuracy")

    assert found.status is Status.CANNOT_JUDGE
    assert "samples are too few to see a drop of 0.05; give about" in found.sentence
    assert "of the baseline's 200 samples are not in" in found.details[0]


def test_labels_belong_to_the_samples(tiny: Tiny) -> None:
    """The same images with other labels are other samples, not a worse model."""
    data = {name: array.copy() for name, array in np.load(tiny.folder / "eval.npz").items()}
    data["labels"] = (data["labels"] + 1) % 16
    with pytest.raises(DataError, match="labels included"):
        tiny.gate(eval=data)


def test_another_interface_is_refused(tiny: Tiny, edited: Edited) -> None:
    def rename_input(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].name = "pixels"
        for node in proto.graph.node:
            node.input[:] = ["pixels" if name == "x" else name for name in node.input]

    with pytest.raises(BaselineError, match=r"has another interface than the baseline's model: input 'x' was float32"):
        tiny.gate(edited(rename_input))


def test_another_network_is_refused(tiny: Tiny, edited: Edited) -> None:
    def other(proto: onnx.ModelProto) -> None:
        del proto.graph.node[:], proto.graph.initializer[:]
        weight = np.ones((24, 16), np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        proto.graph.node.extend(
            [
                helper.make_node("ReduceMean", ["x"], ["m"], name="m", axes=[2, 3], keepdims=0),
                helper.make_node("MatMul", ["m", "w"], ["scores"], name="product"),
            ]
        )

    with pytest.raises(BaselineError, match=r"is of another model: 0 of the \d units of .* are in its plan"):
        tiny.gate(edited(other))


def test_a_lowered_model_is_not_what_a_gate_takes(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="give the model from before quantisation"):
        tiny.gate(tiny.run / "model.onnx")


def test_what_another_tune_wrote_is_known_by_its_8_bits(tiny: Tiny, tmp_path: Path) -> None:
    proto = onnx.load(tiny.run / "model.onnx")
    proto.doc_string = "from another run"
    onnx.save(proto, tmp_path / "lowered.onnx")
    with pytest.raises(BaselineError, match=r"are in its plan; give the model from before quantisation, or tune this"):
        tiny.gate(tmp_path / "lowered.onnx")


def test_a_metric_whose_code_changed_cannot_be_compared(tiny: Tiny) -> None:
    baseline = load_baseline(tiny.baseline)
    metric = {**baseline.evidence.metric, "fingerprint": "0" * 16}
    path = write_baseline(baseline.plan, replace(baseline.evidence, metric=metric), tiny.folder / "old.json")
    found = check(tiny.gate(baseline=path), "accuracy")

    assert found.status is Status.CANNOT_JUDGE
    assert "computes something else than at the time of the baseline" in found.sentence


def test_a_baseline_of_arrays_asks_for_data(tiny: Tiny) -> None:
    baseline = load_baseline(tiny.baseline)
    data = {**baseline.evidence.data, "calib": None, "eval": None}
    path = write_baseline(baseline.plan, replace(baseline.evidence, data=data), tiny.folder / "arrays.json")
    with pytest.raises(DataError, match="the tune was given arrays; give --eval"):
        tiny.gate(baseline=path)


def test_an_updated_baseline_is_of_the_new_model(tiny: Tiny, edited: Edited) -> None:
    model, path = edited(turn_classes), tiny.folder / "updated.json"
    path.write_bytes(tiny.baseline.read_bytes())
    assert tiny.gate(model, baseline=path).exit_code == 1
    update_baseline(model, path, backend=FakeBackend())
    report = tiny.gate(model, baseline=path)

    assert report.status is Status.FINE
    assert load_baseline(path).plan.precisions() == load_baseline(tiny.baseline).plan.precisions()
    assert load_baseline(path).evidence.model["weights"] != load_baseline(tiny.baseline).evidence.model["weights"]
