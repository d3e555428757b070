"""Scores by hand-computed values, the direction of each metric, and the words for one that misbehaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoprec.errors import MetricError, UsageError
from autoprec.metrics.metric import Metric, choose_metric, load_metric
from autoprec.metrics.scores import WORST_KL, WORST_NOISE_TO_SIGNAL, finite_samples

BUILT_IN = ("top1", "agreement", "cosine", "kl", "sqnr")
FIDELITY = BUILT_IN[1:]
LOGITS = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.5, 1.0]], dtype=np.float32)


def first_logit(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    return outputs["y"][:, 0]


def returning(result: Any) -> Metric:
    return load_metric(lambda outputs, labels: result, "higher")


def score(metric: str, candidate: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Fidelity of one output."""
    return load_metric(metric).scores({"y": candidate}, None, {"y": LOGITS if reference is None else reference})


def test_top1_is_one_where_the_largest_output_is_the_label() -> None:
    scores = load_metric("top1").scores({"y": LOGITS, "aux": -LOGITS}, np.array([1, 2, 2]), None)

    assert scores.tolist() == [1.0, 0.0, 1.0]
    assert scores.dtype == np.float64


def test_top1_flattens_what_follows_the_samples() -> None:
    scores = load_metric("top1").scores({"y": LOGITS[:, :, None, None]}, np.array([[1], [0], [0]]), None)

    assert scores.tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 3]), "between 0 and 2, since output 'y' has 3 classes; got 0 to 3"),
        (np.array([0, -1, 1]), "got -1 to 1"),
        (np.array([0.0, 1.0, 2.0]), "integer label per sample, got float64"),
        (np.zeros((3, 2), int), r"integer label per sample, got int64 of shape \(3, 2\)"),
        (np.array([0, 1]), "expected 2 rows, got 3"),
        (None, "needs labels"),
    ],
)
def test_top1_refuses_labels_that_cannot_be(labels: np.ndarray | None, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        load_metric("top1").scores({"y": LOGITS}, labels, None)


def test_agreement_compares_answers_with_the_reference() -> None:
    candidate = LOGITS.copy()
    candidate[1] = [0.0, 5.0, 0.0]

    assert score("agreement", candidate).tolist() == [1.0, 0.0, 1.0]


def test_agreement_over_a_sequence_is_the_share_of_positions() -> None:
    """[samples, positions, classes]: one of four positions differs."""
    reference = np.eye(4)[None]
    candidate = np.eye(4)[None].copy()
    candidate[0, 3] = [1, 0, 0, 0]

    assert score("agreement", candidate, reference).tolist() == [0.75]


@pytest.mark.parametrize("metric", ["agreement", "kl"])
def test_axes_of_length_one_hold_no_classes(metric: str) -> None:
    """A classifier that ends in [samples, classes, 1, 1] scores like one that ends in [samples, classes]."""
    candidate = LOGITS[:, ::-1]

    assert np.array_equal(
        score(metric, candidate[:, :, None, None], LOGITS[:, :, None, None]), score(metric, candidate)
    )


@pytest.mark.parametrize("metric", ["agreement", "kl"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_value_per_sample_is_no_distribution(metric: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(MetricError, match="one value per sample; use cosine, sqnr or module:function"):
        score(metric, np.ones(shape), np.ones(shape))


def test_kl_in_nats_by_hand() -> None:
    """KL between (1/2, 1/2) and (3/4, 1/4) is ln(2/√3)."""
    reference, candidate = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])

    assert score("kl", candidate, reference) == pytest.approx([math.log(2 / math.sqrt(3))], rel=1e-12)


def test_kl_is_of_the_reference_relative_to_the_candidate() -> None:
    reference, candidate = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)

    assert score("kl", candidate, reference) == pytest.approx([expected], rel=1e-12)


def test_kl_takes_probabilities_as_they_are() -> None:
    """A model that ends in softmax: a second softmax would hide most of the difference."""
    reference, candidate = np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]])

    assert score("kl", candidate, reference) == pytest.approx([math.log(2 / math.sqrt(3))], rel=1e-9)


def test_kl_averages_over_positions() -> None:
    reference = np.log([[[0.5, 0.5], [0.5, 0.5]]])
    candidate = np.log([[[0.75, 0.25], [0.5, 0.5]]])

    assert score("kl", candidate, reference) == pytest.approx([math.log(2 / math.sqrt(3)) / 2], rel=1e-12)


def test_kl_of_hopeless_logits_is_bounded() -> None:
    assert score("kl", np.array([[-3e38, 3e38]], np.float32), np.array([[3e38, -3e38]], np.float32)) == [WORST_KL]


def test_cosine_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    candidate = np.array([[2.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])

    assert score("cosine", candidate, reference) == pytest.approx([1, math.sqrt(0.5), 0, 1], abs=1e-12)


def test_sqnr_is_noise_power_over_signal_power() -> None:
    reference = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    candidate = np.array([[3.0, 4.5], [0.0, 0.0], [0.1, 0.0]])

    assert score("sqnr", candidate, reference) == pytest.approx([0.01, 0, WORST_NOISE_TO_SIGNAL], rel=1e-12)


def test_a_drop_of_sqnr_reads_in_decibels() -> None:
    metric = load_metric("sqnr")
    drop = metric.drop(np.zeros(2), np.array([0.0015, 0.0005]))

    assert drop == pytest.approx(0.001)
    assert metric.describe(drop) == "30.0 dB"
    assert metric.describe(0.0) == "no noise"


@pytest.mark.parametrize("metric", ["cosine", "sqnr"])
def test_every_float_output_counts_the_same(metric: str) -> None:
    """A small output is not drowned by a large one, and integer outputs are left out."""
    small, large = np.array([[1.0, 0.0]]), np.array([[1e6, 0.0]])
    reference = {"boxes": large, "scores": small, "count": np.array([[3]])}
    candidate = {"boxes": large, "scores": small[:, ::-1], "count": np.array([[9]])}
    alone = score(metric, small[:, ::-1], small)
    best = {"cosine": 1.0, "sqnr": 0.0}[metric]

    assert load_metric(metric).scores(candidate, None, reference) == pytest.approx((alone + best) / 2)


@pytest.mark.parametrize("metric", ["cosine", "sqnr"])
def test_fidelity_needs_a_float_output(metric: str) -> None:
    with pytest.raises(MetricError, match="at least one float output, the model gives y"):
        score(metric, np.array([[1]]), np.array([[1]]))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_fidelity_survives_extreme_scales(scale: float) -> None:
    reference = (LOGITS * scale).astype(np.float32)

    assert score("sqnr", reference * np.float32(1.1), reference) == pytest.approx([0.01] * 3, rel=1e-4)
    assert score("cosine", reference * 2, reference) == pytest.approx([1] * 3)


@pytest.mark.parametrize("metric", FIDELITY)
def test_a_changed_output_shape_is_named(metric: str) -> None:
    with pytest.raises(MetricError, match=r"'y' in FP32's shape \(3, 3\), got \(3, 2\)"):
        score(metric, LOGITS[:, :2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("metric", "worst"),
    [("top1", 0.0), ("agreement", 0.0), ("cosine", 0.0), ("kl", WORST_KL), ("sqnr", WORST_NOISE_TO_SIGNAL)],
)
def test_an_output_that_is_not_finite_scores_worst(metric: str, worst: float, bad: float) -> None:
    candidate = LOGITS.copy()
    candidate[1, 0] = bad  # sample 1's answer is class 0, so an infinity there would still be "right"
    scores = load_metric(metric).scores({"y": candidate}, LOGITS.argmax(1), {"y": LOGITS})

    assert scores[1] == worst
    assert scores[[0, 2]] == pytest.approx([0.0 if metric in ("kl", "sqnr") else 1.0] * 2, abs=1e-12)


@given(
    st.sampled_from(FIDELITY),
    arrays(np.float32, (4, 5), elements=st.floats(width=32)),
    arrays(np.float32, (4, 5), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
def test_fidelity_is_finite_for_whatever_the_candidate_gives(
    metric: str, candidate: np.ndarray, reference: np.ndarray
) -> None:
    scores = score(metric, candidate, reference)

    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@pytest.mark.parametrize("metric", BUILT_IN)
def test_no_plan_scores_better_than_the_reference_itself(metric: str) -> None:
    """Fixes direction and drop of each metric: noise makes the drop positive, and more noise larger."""
    chosen = load_metric(metric)
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(200, 10))
    labels = reference.argmax(1)
    own, slight, strong = (
        chosen.scores({"y": reference + noise * generator.normal(size=(200, 10))}, labels, {"y": reference})
        for noise in (0.0, 0.3, 3.0)
    )

    assert chosen.drop(own, own) == 0
    assert 0 < chosen.drop(own, slight) < chosen.drop(own, strong)


@pytest.mark.parametrize("metric", FIDELITY)
def test_half_types_are_compared_in_float64(metric: str) -> None:
    half = LOGITS.astype(ml_dtypes.bfloat16)

    assert np.array_equal(score(metric, half), score(metric, half.astype(np.float64)))


def test_finite_samples_look_at_every_float_output() -> None:
    outputs = {
        "a": np.array([[1.0], [np.nan], [2.0]]),
        "b": np.array([1.0, 1.0, np.inf]),
        "n": np.array([1, 2, 3]),
    }

    assert finite_samples(outputs).tolist() == [True, False, False]


def test_a_function_gets_outputs_and_labels_of_a_batch() -> None:
    seen: list[Any] = []

    def metric(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> list[float]:
        seen.append((outputs, labels))
        return [1, 2, 3]

    labels = np.array([4, 5, 6])
    scores = load_metric(metric, "lower").scores({"y": LOGITS}, labels, None)

    assert scores.tolist() == [1.0, 2.0, 3.0]
    assert type(seen[0][0]) is dict
    assert seen[0][0]["y"] is LOGITS
    assert seen[0][1] is labels


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module into a fresh current folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text) and None


def test_a_metric_is_found_in_the_current_folder_with_its_direction(
    module: Callable[[str, str], None],
) -> None:
    module(
        "my_metric_a",
        "def loss(outputs, labels):\n    return outputs['y'][:, 0]\nloss.higher_is_better = False\n",
    )
    metric = load_metric("my_metric_a:loss")

    assert (metric.name, metric.higher_is_better) == ("my_metric_a:loss", False)
    assert metric.scores({"y": LOGITS}, None, None).tolist() == [1.0, 3.0, 0.0]
    assert metric.drop(np.array([1.0]), np.array([3.0])) == 2.0


def test_the_direction_must_be_said_somewhere() -> None:
    with pytest.raises(UsageError, match=r"higher_is_better to True or False .*or give the direction, 'higher'"):
        load_metric(first_logit)


def test_two_directions_must_not_contradict() -> None:
    def metric(outputs: dict[str, np.ndarray], labels: None) -> np.ndarray:
        return outputs["y"][:, 0]

    metric.higher_is_better = True  # type: ignore[attr-defined]

    assert load_metric(metric, "higher").higher_is_better
    with pytest.raises(UsageError, match="higher is better; leave the direction out"):
        load_metric(metric, "lower")
    with pytest.raises(UsageError, match="for the metric kl, lower is better"):
        load_metric("kl", "higher")
    with pytest.raises(UsageError, match="'higher' or 'lower', got 'up'"):
        load_metric(metric, "up")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([1.0, 2.0], r"expected 3 scores, got 2 in an array of shape \(2,\)"),
        (0.5, "expected 3 scores, got a single number; do not average"),
        ([[1.0], [1.0], [1.0]], r"expected 3 scores, got 3 in an array of shape \(3, 1\)"),
        ([1.0, math.nan, 2.0], "must return finite scores, got nan for sample 1 of 3"),
        ([1.0, 2.0, math.inf], "must return finite scores, got inf for sample 2 of 3"),
        (["a", "b", "c"], "must return numbers, got <U1"),
    ],
)
def test_a_wrong_result_is_named(result: Any, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        returning(result).scores({"y": LOGITS}, None, None)


def test_the_count_of_samples_can_be_given() -> None:
    """For outputs whose first axis is not samples."""
    assert returning([1.0, 2.0]).scores({"y": LOGITS}, None, None, count=2).tolist() == [1.0, 2.0]


def test_a_metric_that_raises_is_named_with_its_error() -> None:
    def broken(outputs: dict[str, np.ndarray], labels: None) -> np.ndarray:
        return outputs["logits"]

    with pytest.raises(MetricError, match=r"test_metric:.*broken raised KeyError: 'logits'; it is called as"):
        load_metric(broken, "higher").scores({"y": LOGITS}, None, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:f", "cannot import 'no_such_module_here' .*ModuleNotFoundError"),
        ("math:no_such", "module 'math' has no 'no_such'"),
        ("math:pi", "'math:pi' must be a function, but is a float"),
        ("my_metric_b:f", "cannot import 'my_metric_b' .*ZeroDivisionError"),
        ("my_metric_c:f", "cannot import 'my_metric_c' .*SystemExit"),
    ],
)
def test_a_metric_that_cannot_be_imported_says_why(module: Callable[[str, str], None], name: str, words: str) -> None:
    module("my_metric_b", "1 / 0\n")
    module("my_metric_c", "raise SystemExit(1)\n")
    with pytest.raises(MetricError, match=words):
        load_metric(name)


def test_an_unknown_name_lists_the_metrics() -> None:
    with pytest.raises(UsageError, match="one of top1, agreement, cosine, kl, sqnr, or module:function, got 'acc'"):
        load_metric("acc")
    with pytest.raises(UsageError, match="a name or a function, got int"):
        load_metric(3)  # type: ignore[arg-type]


def test_the_fingerprint_follows_source_and_direction(module: Callable[[str, str], None]) -> None:
    module("my_metric_d", "def f(outputs, labels):\n    return labels\n")
    module("my_metric_e", "def f(outputs, labels):\n    return labels + 1\n")
    d, e = (load_metric(f"my_metric_{letter}:f", "higher").fingerprint for letter in "de")

    assert d == load_metric("my_metric_d:f", "higher").fingerprint
    assert len({d, e, load_metric("my_metric_d:f", "lower").fingerprint}) == 3
    assert len({load_metric(name).fingerprint for name in BUILT_IN}) == len(BUILT_IN)


def test_a_function_without_source_still_has_a_fingerprint() -> None:
    assert load_metric(math.hypot, "higher").fingerprint != load_metric(math.dist, "higher").fingerprint


@pytest.mark.parametrize(
    ("wish", "has_labels", "expected"),
    [(None, True, "top1"), (None, False, "agreement"), ("kl", True, "kl"), ("top1", True, "top1")],
)
def test_the_metric_chosen(wish: str | None, has_labels: bool, expected: str) -> None:
    assert choose_metric(wish, has_labels).name == expected


def test_labels_are_asked_for_where_the_metric_needs_them() -> None:
    with pytest.raises(UsageError, match=r"top1 needs labels, .* choose agreement, cosine, kl or sqnr"):
        choose_metric("top1", has_labels=False)


def test_a_metric_passes_through() -> None:
    metric = load_metric("kl")

    assert load_metric(metric) is metric


@pytest.mark.parametrize("metric", FIDELITY)
def test_a_reference_is_asked_for(metric: str) -> None:
    with pytest.raises(MetricError, match="compares with FP32's outputs, but was given none"):
        load_metric(metric).scores({"y": LOGITS}, None, None)


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("top1", 0.78, "78.00 %"),
        ("agreement", 1.0, "100.00 %"),
        ("kl", 0.01234, "0.01234 nats"),
        ("cosine", 0.9987, "0.9987"),
    ],
)
def test_scores_in_words(metric: str, value: float, words: str) -> None:
    assert load_metric(metric).describe(value) == words
