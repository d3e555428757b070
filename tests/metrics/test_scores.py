"""The built-in scores, by hand and on hostile outputs."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoprec.errors import MetricError
from autoprec.metrics.metric import load_metric
from autoprec.metrics.scores import (
    WORST_KL,
    WORST_NOISE_TO_SIGNAL,
    agreement,
    cosine,
    finite_samples,
    kl,
    noise_to_signal,
)

BUILT_IN = ("top1", "agreement", "cosine", "kl", "sqnr")
FIDELITY = BUILT_IN[1:]
LOGITS = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.5, 1.0]], dtype=np.float32)


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


def test_very_many_values_that_are_very_large_have_a_score() -> None:
    """As the logits of a language model, of which some are masked by the smallest float32 number."""
    before = np.full((1, 1 << 20), 3.0, dtype=np.float32)
    before[:, ::2] = np.finfo(np.float32).min
    after = before.copy()
    after[:, ::2] *= 0.5

    assert noise_to_signal({"y": after}, None, {"y": before}) == pytest.approx(0.25)
    assert cosine({"y": -after}, None, {"y": before}) == 0.0


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


@pytest.mark.parametrize("metric", ["cosine", "sqnr"])
def test_the_float_output_that_is_least_alike_counts(metric: str) -> None:
    """A small output is not drowned by a large one, and integer outputs are left out."""
    small, large = np.array([[1.0, 0.0]]), np.array([[1e6, 0.0]])
    reference = {"boxes": large, "scores": small, "count": np.array([[3]])}
    candidate = {"boxes": large, "scores": small[:, ::-1], "count": np.array([[9]])}
    alone = score(metric, small[:, ::-1], small)
    assert load_metric(metric).scores(candidate, None, reference) == pytest.approx(alone)


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


def test_outputs_with_very_many_values_get_the_scores_that_float64_gives() -> None:
    rng = np.random.default_rng(0)
    before = {"y": (3 * rng.normal(size=(2, 40, 16384))).astype(np.float32)}
    after = {"y": before["y"] + (0.05 * rng.normal(size=before["y"].shape)).astype(np.float32)}
    exact = [{"y": outputs["y"].astype(np.float64)} for outputs in (after, before)]
    for score in (kl, noise_to_signal, agreement):
        assert score(after, None, before) == pytest.approx(score(exact[0], None, exact[1]), rel=1e-4)
