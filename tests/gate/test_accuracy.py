"""Whether a drop of the metric is different, and whether it is big enough."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from autoprec.gate.accuracy import default_bound, paired
from autoprec.gate.decision import caught_drop, decide, samples_to_decide
from autoprec.gate.verdict import Status
from autoprec.stats.significance import Compared, compare_scores


def compared(lost: int, won: int, samples: int) -> Compared:
    before, after = np.ones(samples), np.ones(samples)
    after[:lost] = 0
    before[lost : lost + won] = 0
    return compare_scores(before, after, higher_is_better=True)


def test_a_drop_that_is_certain_and_big_is_worse() -> None:
    status, words = decide(compared(20, 0, 1000), 0.01)

    assert status is Status.WORSE
    assert words.startswith("20 of 1000 samples got worse and 0 better: a drop of 0.02, more than the 0.01 allowed")


def test_a_drop_that_is_certain_and_small_is_fine() -> None:
    assert decide(compared(20, 0, 10_000), 0.01)[0] is Status.FINE


def test_a_drop_that_is_big_and_uncertain_cannot_be_judged() -> None:
    status, words = decide(compared(5, 0, 300), 0.01)

    assert status is Status.CANNOT_JUDGE
    assert "but not statistically significant (McNemar, p = 0.031); about" in words


def test_so_many_samples_as_it_says_do_decide() -> None:
    few = compared(8, 2, 600)
    assert decide(few, 0.005)[0] is Status.CANNOT_JUDGE
    factor = samples_to_decide(few) / 600

    assert 1.5 < factor < 20
    assert decide(compared(round(8 * factor), round(2 * factor), round(600 * factor)), 0.005)[0] is Status.WORSE


@pytest.mark.parametrize(
    ("samples", "scores", "allowed"),
    [(10_000, (0.0, 1.0), 0.005), (500, (0.0, 1.0), 0.006), (390, (0.0, 1.0), 0.0077), (500, (0.0, 0.5), 0.005)],
)
def test_the_default_bound_is_one_that_the_samples_can_show(
    samples: int, scores: tuple[float, float], allowed: float
) -> None:
    """Else an unchanged model could never pass without an option."""
    committed = SimpleNamespace(
        metric={"max_drop": 0.01}, samples=SimpleNamespace(plan=tuple(scores[n % 2] for n in range(samples)))
    )

    assert default_bound(committed) == pytest.approx(allowed)  # type: ignore[arg-type]
    if scores == (0.0, 1.0):
        assert decide(compared(0, 0, samples), allowed)[0] is Status.FINE


def test_too_few_samples_are_no_pass() -> None:
    """Without a single change, too: ten equal decisions prove nothing about one point."""
    status, words = decide(compared(0, 0, 10), 0.01)

    assert status is Status.CANNOT_JUDGE
    assert words == "10 samples are too few to see a drop of 0.01; give about 300, or allow more by --max-drop"
    assert decide(compared(0, 0, 10), 5.0)[0] is Status.CANNOT_JUDGE
    assert decide(compared(0, 0, 300), 0.01)[0] is Status.FINE


def test_a_bound_of_zero_does_not_ask_for_endless_samples() -> None:
    assert decide(compared(0, 0, 600), 0.0)[0] is Status.FINE
    assert decide(compared(1, 0, 600), 0.0)[0] is Status.CANNOT_JUDGE
    assert decide(compared(7, 0, 600), 0.0)[0] is Status.WORSE


def test_better_is_fine_and_said() -> None:
    status, words = decide(compared(0, 30, 1000), 0.01)

    assert status is Status.FINE
    assert words.endswith("within the bound, and significantly better")


def test_the_interval_decides_whether_scores_are_enough() -> None:
    random = np.random.default_rng(0)
    before = random.normal(size=50)
    noisy = compare_scores(before, before + random.normal(0, 1, 50) - 0.0, higher_is_better=True)

    status, words = decide(noisy, max(noisy.change.estimate, 0) + 0.01)
    assert status is Status.CANNOT_JUDGE
    assert "samples are too few" in words
    assert decide(compare_scores(before, before.copy(), higher_is_better=True), 0.001)[0] is Status.FINE


def test_under_the_null_at_most_one_gate_in_a_hundred_fails() -> None:
    """As many decisions won as lost, as a retrain leaves them: how often is that called worse?"""
    random, alarms = np.random.default_rng(0), 0
    for _ in range(2000):
        lost, won, _ = random.multinomial(650, [0.01, 0.01, 0.98])
        alarms += decide(compared(lost, won, 650), 0.005)[0] is Status.WORSE
    assert alarms / 2000 <= 0.01


def test_a_drop_of_one_point_is_caught_with_two_thousand_samples() -> None:
    random, caught = np.random.default_rng(0), 0
    for _ in range(1000):
        lost, won, _ = random.multinomial(2000, [0.011, 0.001, 0.988])
        caught += decide(compared(lost, won, 2000), 0.005)[0] is Status.WORSE
    assert caught / 1000 >= 0.95


@pytest.mark.parametrize(("samples", "allowed"), [(650, 0.005), (2000, 0.005), (5000, 0.01)])
def test_the_drop_that_is_caught_is_what_it_says(samples: int, allowed: float) -> None:
    random, caught = np.random.default_rng(0), 0
    drop = caught_drop(samples, allowed)
    for _ in range(1000):
        caught += decide(compared(int(random.binomial(samples, drop)), 0, samples), allowed)[0] is Status.WORSE
    assert caught / 1000 == pytest.approx(0.95, abs=0.025)


def test_samples_are_paired_by_their_digests_in_any_order() -> None:
    assert paired(["a", "b", "a"], [1.0, 2.0, 3.0], ["a", "a", "b"]) == [1.0, 3.0, 2.0]
    with pytest.raises(KeyError):
        paired(["a"], [1.0], ["b"])
