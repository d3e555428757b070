"""Samples and entries are portioned out whole, in order, and within the limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.data.dataset import Dataset
from autoprec.metrics.metric import load_metric
from autoprec.precision import Precision
from autoprec.sensitivity import portions
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.portions import chunks_of, groups_of, samples_per_run

from ..helpers.lowering_bench import SAMPLES, bench

INT8, FP16, FP8 = Precision.INT8, Precision.FP16, Precision.FP8


@pytest.fixture(name="job")
def _job() -> SensitivityJob:
    one = bench("resnet_block")
    return SensitivityJob(
        lowerer=one.lowerer,
        possible=one.possible,
        backend=OrtBackend(1),
        dataset=Dataset.from_arrays(one.feed),
        metric=load_metric("sqnr"),
        ranges=one.ranges,
        batch_size=4,
    )


@pytest.mark.parametrize("entries", [1, 10**5])
def test_chunks_hold_all_samples_and_none_is_empty(job: SensitivityJob, entries: int) -> None:
    chunks = chunks_of(job, 4, entries)

    assert sum(chunk.count for chunk in chunks) == SAMPLES
    assert all(chunk.count for chunk in chunks)


def test_many_outputs_make_chunks_small(job: SensitivityJob) -> None:
    assert chunks_of(job, 4, 10**6)[0].count == 1 < chunks_of(job, 4, 1)[0].count


def test_a_run_has_no_more_samples_than_the_batch(job: SensitivityJob) -> None:
    assert samples_per_run(job) == 4
    assert samples_per_run(replace(job, batch_size=1)) == 1


def test_groups_hold_entries_of_one_opset(job: SensitivityJob) -> None:
    entries = job.entries((INT8, FP16, FP8))
    opsets = {INT8: 17, FP16: 17, FP8: 19}
    groups = list(groups_of(job, entries, opsets))

    assert [{opsets[p] for _, p in group} for group in groups] == [{17}, {19}]
    assert sorted(entry for group in groups for entry in group) == sorted(entries)


def test_groups_are_small_where_an_engine_would_be_large(job: SensitivityJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "ENGINE_BYTES", 0)
    entries = job.entries((INT8,))

    assert [len(group) for group in groups_of(job, entries, {INT8: 17})] == [1] * len(entries)
