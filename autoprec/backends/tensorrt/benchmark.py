"""What the times of an engine say: the statistics and the self-diagnosis of NVIDIA's trtexec 11.

Pure functions of samples; who measures them is the engine's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.stats.intervals import median

UNSTABLE_VARIATION = 0.025
"""A coefficient of variation above this means that the clocks move, so trtexec 11."""
ENQUEUE_BOUND = 0.8
"""Enqueueing that takes more than this share of the GPU's time cannot be hidden behind it, so trtexec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Times of the counted runs of one engine, one after the other.

    Attributes:
        gpu_ms: between CUDA events round each run, without transfers.
        enqueue_ms: the host's time to enqueue each run.
        to_device_ms: copying the inputs of each run; empty where transfers were left out.
        to_host_ms: copying the outputs of each run; empty where transfers were left out.
        wall_s: from before the first run was enqueued until the last one was finished.
        batch: the number of samples in each run.
        cuda_graph: whether runs were launched as a CUDA graph.
    """

    gpu_ms: tuple[float, ...]
    enqueue_ms: tuple[float, ...]
    to_device_ms: tuple[float, ...]
    to_host_ms: tuple[float, ...]
    wall_s: float
    batch: int
    cuda_graph: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one kind of time was distributed over runs.

    Attributes:
        minimum_ms: the least value.
        mean_ms: the mean of all values.
        median_ms: the middle value, or the mean of the two.
        p90_ms: the 90th percentile as trtexec takes it: a value that occurred, never a blend of two.
        p95_ms: the 95th percentile, likewise.
        p99_ms: the 99th percentile, likewise.
        maximum_ms: the largest value.
        variation: the coefficient of variation, standard deviation over mean.
    """

    minimum_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    maximum_ms: float
    variation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is reported of one engine.

    Attributes:
        latency: the time of one run from its input to its output: the GPU's time, and transfers where measured.
        gpu: the GPU's time alone.
        enqueue: the host's time to enqueue a run.
        to_device: the inputs' transfer; None where it was left out.
        to_host: the outputs' transfer; None where it was left out.
        runs: the number of counted runs.
        batch: the number of samples in each run.
        runs_per_s: the throughput by the host's clock.
        samples_per_s: the samples per second, likewise.
        cuda_graph: whether runs were launched as a CUDA graph.
    """

    latency: Spread
    gpu: Spread
    enqueue: Spread
    to_device: Spread | None
    to_host: Spread | None
    runs: int
    batch: int
    runs_per_s: float
    samples_per_s: float
    cuda_graph: bool


def percentile(times_ms: Sequence[float], percent: int) -> float:
    """The time that `percent` of all do not exceed: trtexec's sorted[max(n - 1 - floor((1 - p / 100) n), 0)].

    trtexec computes in 32-bit floats, where its index may be off by one; this is the formula itself.

    Raises:
        ValueError: there are no times, or `percent` is not between 0 and 100.
    """
    if not times_ms:
        raise ValueError("there must be at least one time")
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile must lie between 0 and 100, got {percent}")
    count = len(times_ms)
    left_out = (100 - percent) * count // 100
    return float(sorted(times_ms)[max(count - 1 - left_out, 0)])


def spread(times_ms: Sequence[float]) -> Spread:
    """Statistics of one kind of time; the variation is of the whole population, as trtexec's.

    Raises:
        ValueError: there are no times.
    """
    middle = median(times_ms)
    times = np.asarray(times_ms, dtype=np.float64)
    mean = float(times.mean())
    return Spread(
        minimum_ms=float(times.min()),
        mean_ms=mean,
        median_ms=middle,
        p90_ms=percentile(times_ms, 90),
        p95_ms=percentile(times_ms, 95),
        p99_ms=percentile(times_ms, 99),
        maximum_ms=float(times.max()),
        variation=float(times.std()) / mean if mean > 0 else 0.0,
    )


def summarize(samples: RunTimes) -> Summary:
    """Statistics of all kinds of time.

    Raises:
        ValueError: there are no samples, or kinds of time differ in number.
    """
    runs = len(samples.gpu_ms)
    transfers = (samples.to_device_ms, samples.to_host_ms)
    if {len(times) for times in (samples.enqueue_ms, *filter(None, transfers))} != {runs}:
        raise ValueError("every kind of time needs one value for each run")
    parts = [times for times in (samples.gpu_ms, *transfers) if times]
    per_s = runs / samples.wall_s if samples.wall_s > 0 else 0.0
    return Summary(
        latency=spread([sum(part) for part in zip(*parts, strict=True)]),
        gpu=spread(samples.gpu_ms),
        enqueue=spread(samples.enqueue_ms),
        to_device=spread(samples.to_device_ms) if samples.to_device_ms else None,
        to_host=spread(samples.to_host_ms) if samples.to_host_ms else None,
        runs=runs,
        batch=samples.batch,
        runs_per_s=per_s,
        samples_per_s=per_s * samples.batch,
        cuda_graph=samples.cuda_graph,
    )


def diagnose(summary: Summary) -> tuple[str, ...]:
    """What keeps the figures from meaning what they seem to mean, and what to do; by the rules of trtexec 11."""
    gpu, findings = summary.gpu, []
    if gpu.variation > UNSTABLE_VARIATION:
        findings.append(
            f"unstable: the GPU's time varies by {gpu.variation:.1%} (coefficient of variation, "
            f"{UNSTABLE_VARIATION:.1%} is steady); lock the clocks, where that is allowed, with nvidia-smi -lgc "
            "FREQUENCY (back with -rgc), let no other work run on the GPU, or measure for longer with --duration"
        )
    if summary.enqueue.median_ms > ENQUEUE_BOUND * gpu.median_ms:
        mend = "use a larger batch" if summary.cuda_graph else "use a CUDA graph or a larger batch"
        findings.append(
            f"enqueue bound: enqueueing takes {summary.enqueue.median_ms:.3g} ms of the host against "
            f"{gpu.median_ms:.3g} ms of the GPU, which waits for it; {mend}"
        )
    transfers = ((summary.to_device, "copying the inputs to the GPU"), (summary.to_host, "copying the outputs back"))
    findings += [
        f"transfer bound: {what} takes {part.median_ms:.3g} ms against {gpu.median_ms:.3g} ms of computing; "
        "keep data on the GPU, send smaller types, or measure without --include-transfers"
        for part, what in transfers
        if part is not None and part.median_ms >= gpu.median_ms
    ]
    return tuple(findings)
