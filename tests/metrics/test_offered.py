"""The built-in metrics over a data set, against the textbook's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from autoprec.errors import MetricError, UsageError
from autoprec.metrics.metric import Metric, load_metric, metric_names
from autoprec.metrics.offered import Decoding
from autoprec.metrics.over_set import SetScore
from autoprec.metrics.sequences import edits

Array = np.ndarray
GENERATOR = np.random.default_rng(7)


def scored(metric: str | Metric, outputs: Array, labels: Array | None, *, batch: int = 5) -> SetScore:
    found = load_metric(metric) if isinstance(metric, str) else metric
    assert found.over_set is not None
    tally = found.over_set.tally()
    for start in range(0, len(outputs), batch):
        part = slice(start, start + batch)
        found.tell(tally, {"y": outputs[part]}, None if labels is None else labels[part], len(outputs[part]))
    return tally.score()


def figure(metric: str | Metric, outputs: Any, labels: Any) -> float:
    return scored(metric, np.asarray(outputs), None if labels is None else np.asarray(labels)).figure


def confusion(made: Array, labels: Array, classes: int) -> Array:
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, made), 1)
    return table


LOGITS = GENERATOR.normal(size=(60, 4)).astype(np.float32)
CLASSES = GENERATOR.integers(0, 4, 60)
TABLE = confusion(LOGITS.argmax(1), CLASSES, 4)


def test_f1_and_macro_accuracy_follow_from_the_confusion_matrix() -> None:
    right, said, true = np.diag(TABLE), TABLE.sum(axis=0), TABLE.sum(axis=1)

    assert figure("macro-accuracy", LOGITS, CLASSES) == pytest.approx((right / true).mean())
    assert figure("f1", LOGITS, CLASSES) == pytest.approx((2 * right / (said + true)).mean())


def test_f1_of_two_classes_is_that_of_the_second_however_the_output_says_it() -> None:
    logits = GENERATOR.normal(size=60)
    labels = (GENERATOR.random(60) < 0.3).astype(int)
    said = logits > 0
    expected = 2 * (said & (labels == 1)).sum() / (said.sum() + labels.sum())
    two = np.stack([-logits, logits], axis=1)
    probabilities = 1 / (1 + np.exp(-logits[:, None]))

    for outputs in (two, logits[:, None], probabilities, probabilities[:, 0], said.astype(int)):
        assert figure("f1", outputs, labels) == pytest.approx(expected)


def test_f1_of_many_labels_a_sample_is_over_all_decisions() -> None:
    logits, labels = GENERATOR.normal(size=(30, 5)), (GENERATOR.random((30, 5)) < 0.4).astype(int)
    said = logits > 0

    assert figure("f1", logits, labels) == pytest.approx(2 * (said & (labels == 1)).sum() / (said.sum() + labels.sum()))


@pytest.mark.parametrize("axis", [1, 3])
def test_miou_is_over_all_pixels_without_ignored_ones_and_absent_classes(axis: int) -> None:
    logits = GENERATOR.normal(size=(6, 5, 7, 4))  # four classes, the last of which never occurs
    logits[..., 3] = -10
    labels = GENERATOR.integers(0, 3, (6, 5, 7))
    labels[:, 0], labels[:, 1, 0] = 255, -1
    counts = (labels >= 0) & (labels < 255)
    table = confusion(logits.argmax(-1)[counts], labels[counts], 4)
    right = np.diag(table)
    shares = (right / np.maximum(table.sum(0) + table.sum(1) - right, 1))[:3]

    assert figure("miou", np.moveaxis(logits, -1, axis), labels) == pytest.approx(shares.mean())
    assert figure("miou", logits.argmax(-1), labels) == pytest.approx(shares.mean())


def test_perplexity_leaves_padding_out_and_weights_texts_by_their_tokens() -> None:
    logits, labels = GENERATOR.normal(size=(8, 6, 11)), GENERATOR.integers(0, 11, (8, 6))
    for row in range(8):
        labels[row, 6 - row % 4 :] = -100
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = labels >= 0
    mean = np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0][kept].mean()
    whole = np.concatenate([np.zeros((8, 1), int), labels], axis=1)  # the tokens of the text, the first one included

    assert figure("loglik", logits, labels) == pytest.approx(mean)
    assert figure("perplexity", logits, labels) == pytest.approx(np.exp(-mean))
    assert figure("perplexity", logits, whole) == pytest.approx(np.exp(-mean))
    assert figure("loglik", np.take_along_axis(logs, np.maximum(labels, 0)[..., None], -1)[..., 0], labels) == (
        pytest.approx(mean)
    )


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ([1, 2, 3], [2, 3, 4, 5], 3)],
)
def test_edits(first: Any, second: Any, distance: int) -> None:
    assert edits(first, second) == edits(second, first) == distance


def columns(texts: list[list[int]], classes: int = 6) -> Array:
    """Logits of a recogniser that reads these classes column by column."""
    return np.eye(classes)[np.array(texts)]


def test_the_character_error_rate_reads_ctc_and_is_over_all_characters() -> None:
    """Blanks part equal characters; labels are padded."""
    outputs = columns([[1, 1, 0, 1, 2, 0], [3, 0, 0, 4, 4, 5], [2, 2, 2, 2, 2, 2]])
    labels = np.array([[1, 1, 2, -1, -1], [3, 4, 4, 5, -1], [1, -1, -1, -1, -1]])

    assert figure("cer", outputs, labels) == pytest.approx((0 + 1 + 1) / (3 + 4 + 1))
    assert figure("edit-similarity", outputs, labels) == pytest.approx((1 + (1 - 1 / 4) + 0) / 3)


def test_the_word_error_rate_of_texts_is_by_words_and_needs_them_read() -> None:
    texts = {0: "the cat sat", 1: "on a hat", 2: ""}
    metric = load_metric("wer", None, Decoding(decoder=lambda outputs: [texts[int(row[0])] for row in outputs["y"]]))
    labels = np.array(["the cat sat", "on the mat", "now"])

    assert figure(metric, np.arange(3)[:, None], labels) == pytest.approx((0 + 2 + 1) / 7)
    with pytest.raises(MetricError, match="texts must be compared with texts"):
        figure("wer", columns([[1, 2], [0, 1], [1, 1]]), labels)


def test_correlations_are_those_of_scipy_with_ties() -> None:
    outputs, labels = GENERATOR.normal(size=(40, 1)), GENERATOR.integers(0, 6, 40).astype(float)
    outputs[:, 0] = np.round(outputs[:, 0] + labels, 1)

    assert figure("pearson", outputs, labels) == pytest.approx(stats.pearsonr(outputs[:, 0], labels)[0])
    assert figure("spearman", outputs, labels) == pytest.approx(stats.spearmanr(outputs[:, 0], labels)[0])


def test_a_draw_of_ranks_is_the_correlation_of_the_drawn_samples() -> None:
    outputs, labels = GENERATOR.normal(size=(20, 1)), GENERATOR.normal(size=20)
    metric = load_metric("spearman").over_set
    rows = scored("spearman", outputs, labels).rows
    assert metric is not None
    assert rows is not None
    picks = GENERATOR.integers(0, 20, 20)
    drawn = metric.figures(rows, np.bincount(picks, minlength=20).astype(float)[None])[0]

    assert drawn == pytest.approx(stats.spearmanr(outputs[picks, 0], labels[picks])[0])


def test_psnr_is_of_the_mean_squared_error_of_all_pixels() -> None:
    labels = GENERATOR.random((6, 3, 4, 4))
    outputs = labels + GENERATOR.normal(0, 0.1, labels.shape)

    assert figure("psnr", outputs, labels) == pytest.approx(-10 * np.log10(np.square(outputs - labels).mean()))
    assert figure("psnr", 255 * outputs, 255 * labels) == pytest.approx(figure("psnr", outputs, labels))


def test_recall_at_k_is_the_share_of_right_items_among_the_highest() -> None:
    scores = np.array([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4]])

    assert figure("recall@2", scores, np.array([2, 0])) == pytest.approx(0.5)
    assert figure("recall@2", scores, np.array([[0, 1], [3, -1]])) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("name", ["f1", "macro-accuracy", "recall@2"])
def test_the_size_of_the_batches_does_not_matter(name: str) -> None:
    one, all_ = (scored(name, LOGITS, CLASSES, batch=batch) for batch in (1, 60))

    np.testing.assert_allclose(one.contributions, all_.contributions)


def test_a_decoder_goes_before_any_metric_and_is_tried_like_the_users_own() -> None:
    """A model at half the resolution of the labels."""
    labels = GENERATOR.integers(0, 3, (4, 6, 6))
    logits = np.eye(3)[labels[:, ::2, ::2]].transpose(0, 3, 1, 2)
    twice = Decoding(decoder=lambda outputs: outputs["y"].repeat(2, axis=2).repeat(2, axis=3))
    metric = load_metric("miou", None, twice)

    assert not metric.built_in
    with pytest.raises(MetricError, match="miou needs one label for each decision"):
        figure("miou", logits, labels)
    assert figure(metric, logits, labels) == pytest.approx(
        figure("miou", logits.repeat(2, axis=2).repeat(2, axis=3), labels)
    )


def test_names_that_are_nearly_right_are_recognised_and_decoders_are_checked() -> None:
    assert {"map", "miou", "recall@K", "top1"} <= set(metric_names())
    with pytest.raises(UsageError, match="did you mean 'miou'"):
        load_metric("mIoU")
    with pytest.raises(UsageError, match="map must know what the outputs are: give --decode with one of yolox"):
        load_metric("map")
    with pytest.raises(UsageError, match=r"--decode must be one of yolox, .* for the metric map, got 'yolo9000'"):
        load_metric("map", None, Decoding(decoder="yolo9000"))
    with pytest.raises(UsageError, match=r"--decode reads outputs for map, .* not for top1"):
        load_metric("top1", None, Decoding(decoder="ctc"))
