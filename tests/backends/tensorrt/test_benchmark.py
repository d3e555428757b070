"""Statistics and diagnosis of engine timings, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.tensorrt.benchmark import RunTimes, Summary, diagnose, percentile, spread, summarize

TIMES = st.lists(st.floats(0.001, 1e3), min_size=1, max_size=60)


def samples(
    gpu: tuple[float, ...],
    *,
    enqueue: float = 0.1,
    to_device: float | None = None,
    to_host: float | None = None,
    wall_s: float = 1.0,
    batch: int = 1,
    cuda_graph: bool = True,
) -> RunTimes:
    n = len(gpu)
    copies_in = () if to_device is None else (to_device,) * n
    copies_out = () if to_host is None else (to_host,) * n
    return RunTimes(
        gpu_ms=gpu,
        enqueue_ms=(enqueue,) * n,
        to_device_ms=copies_in,
        to_host_ms=copies_out,
        wall_s=wall_s,
        batch=batch,
        cuda_graph=cuda_graph,
    )


def steady(enqueue: float = 0.1, **others: object) -> Summary:
    """A summary of 20 runs of exactly 1 ms."""
    return summarize(samples((1.0,) * 20, enqueue=enqueue, **others))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        # sorted[max(n - 1 - floor((1 - p / 100) n), 0)] of 1, 2, ..., n
        (10, 90, 9),  # 10 - 1 - 1 = index 8; in 64-bit floats (1 - 0.9) 10 is below 1 and would give 10
        (10, 95, 10),  # floor(0.5) = 0: index 9
        (10, 99, 10),
        (100, 90, 90),  # index 89
        (100, 95, 95),
        (100, 99, 99),  # index 98
        (250, 99, 248),  # floor(2.5) = 2: index 247
        (3, 50, 2),  # floor(1.5) = 1: index 1
        (4, 0, 1),  # 4 - 1 - 4 < 0: index 0
        (4, 100, 4),
        (1, 90, 1),
    ],
)
def test_percentile_is_trtexecs(count: int, percent: int, expected: float) -> None:
    assert percentile([float(n) for n in range(count, 0, -1)], percent) == expected


@given(TIMES, st.integers(0, 100))
def test_a_percentile_is_a_time_that_occurred_and_at_most_the_rest_lies_above_it(
    times: list[float], percent: int
) -> None:
    found = percentile(times, percent)

    assert found in times
    assert sum(time > found for time in times) * 100 <= (100 - percent) * len(times)


def test_percentiles_refuse_what_they_cannot_mean() -> None:
    with pytest.raises(ValueError, match="at least one time"):
        percentile([], 90)
    with pytest.raises(ValueError, match="between 0 and 100, got 101"):
        percentile([1.0], 101)


def test_spread_by_hand() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0])

    assert (found.minimum_ms, found.maximum_ms, found.mean_ms) == (1.0, 4.0, 2.5)
    assert found.median_ms == 2.5  # the mean of the two in the middle
    assert found.p90_ms == found.p99_ms == 4.0
    # Population: squares of 1.5, 1.5, 0.5, 0.5 are 5 in sum, over 4 is 1.25.
    assert found.variation == pytest.approx(math.sqrt(1.25) / 2.5)


def test_the_median_of_an_odd_number_is_the_middle_value() -> None:
    assert spread([9.0, 1.0, 2.0]).median_ms == 2.0


@given(TIMES)
def test_spread_is_ordered(times: list[float]) -> None:
    found = spread(times)

    assert found.minimum_ms <= found.median_ms <= found.maximum_ms
    assert found.p90_ms <= found.p95_ms <= found.p99_ms <= found.maximum_ms
    assert found.variation >= 0


def test_without_transfers_latency_is_the_gpus_time() -> None:
    found = summarize(samples((1.0, 2.0, 3.0)))

    assert found.latency == found.gpu
    assert found.to_device is None
    assert found.to_host is None


def test_latency_adds_the_transfers_of_the_same_run() -> None:
    found = summarize(
        RunTimes(
            gpu_ms=(1.0, 2.0, 3.0),
            enqueue_ms=(0.1, 0.1, 0.1),
            to_device_ms=(3.0, 2.0, 1.0),
            to_host_ms=(0.5, 0.5, 0.5),
            wall_s=1.0,
            batch=1,
            cuda_graph=True,
        )
    )

    assert found.latency.minimum_ms == found.latency.maximum_ms == 4.5
    assert found.gpu.median_ms == 2.0


def test_throughput_is_by_the_hosts_clock() -> None:
    found = summarize(samples((1.0,) * 50, wall_s=0.25, batch=128))

    assert found.runs_per_s == 200
    assert found.samples_per_s == 25600
    assert (found.runs, found.batch) == (50, 128)


def test_every_run_needs_every_time() -> None:
    with pytest.raises(ValueError, match="one value for each run"):
        summarize(
            RunTimes(
                gpu_ms=(1.0, 2.0),
                enqueue_ms=(0.1,),
                to_device_ms=(),
                to_host_ms=(),
                wall_s=1.0,
                batch=1,
                cuda_graph=True,
            )
        )
    with pytest.raises(ValueError, match="one value for each run"):
        summarize(
            RunTimes(
                gpu_ms=(1.0, 2.0),
                enqueue_ms=(0.1, 0.1),
                to_device_ms=(0.1,),
                to_host_ms=(),
                wall_s=1.0,
                batch=1,
                cuda_graph=True,
            )
        )


def test_a_sound_measurement_has_no_findings() -> None:
    assert diagnose(steady()) == ()


@pytest.mark.parametrize(("offset", "told"), [(0.024, False), (0.026, True)])
def test_clocks_that_move_are_told_above_2_5_percent(offset: float, told: bool) -> None:
    """Half of the runs at 1 - d and half at 1 + d have a coefficient of variation of exactly d."""
    summary = summarize(samples((1.0 - offset, 1.0 + offset) * 10))

    assert summary.gpu.variation == pytest.approx(offset)
    findings = diagnose(summary)
    assert len(findings) == told
    if told:
        assert "varies by 2.6%" in findings[0]
        assert "nvidia-smi -lgc" in findings[0]


@pytest.mark.parametrize(("enqueue", "told"), [(0.8, False), (0.81, True)])
def test_enqueue_bound_is_told_above_four_fifths(enqueue: float, told: bool) -> None:
    assert [f.startswith("enqueue bound") for f in diagnose(steady(enqueue))] == [True] * told


def test_the_mend_for_enqueue_bound_depends_on_the_graph() -> None:
    assert "use a CUDA graph or a larger batch" in diagnose(steady(2.0, cuda_graph=False))[0]
    assert "use a larger batch" in diagnose(steady(2.0, cuda_graph=True))[0]
    assert "use a CUDA graph" not in diagnose(steady(2.0, cuda_graph=True))[0]


def test_transfers_are_told_from_equality_on_each_by_itself() -> None:
    assert diagnose(steady(to_device=0.99, to_host=0.99)) == ()
    (inputs,) = diagnose(steady(to_device=1.0, to_host=0.1))
    assert "copying the inputs to the GPU takes 1 ms against 1 ms" in inputs
    (outputs,) = diagnose(steady(to_device=0.1, to_host=1.5))
    assert "copying the outputs back takes 1.5 ms" in outputs
    assert "--include-transfers" in outputs
    assert len(diagnose(steady(to_device=2.0, to_host=2.0))) == 2
