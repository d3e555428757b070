"""Measuring sensitivities: one unit at a time on FP32 activations, then only what its outputs reach.

Every unit is a branch of one model: the FP32 model runs once for all of them, and each branch computes a lowered unit
and what lies behind it. Where that would be too large, units are measured in groups. Samples pass through in chunks,
each batch on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from autoprec.backends.limited import LimitedEngine
from autoprec.backends.protocol import Engine
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import OutOfTimeError
from autoprec.lowering.lowerer import Lowered
from autoprec.metrics.running import run_dataset
from autoprec.precision import Array, Precision
from autoprec.sensitivity.job import Entry, SensitivityJob
from autoprec.sensitivity.journal import Journal, Part
from autoprec.sensitivity.mended import mended_entries
from autoprec.sensitivity.portions import chunks_of, groups_of, samples_per_run
from autoprec.sensitivity.scoring import Outputs, ScoredChunk, Scorer, Total, of_one_shape
from autoprec.sensitivity.splice import branched, splice
from autoprec.sensitivity.table import Sensitivities, sensitivity_fingerprint
from autoprec.sensitivity.yardstick import FullPass

_SURE_OF = 0.9
"""The share of entries whose noise must be known well enough.

A few entries of heavy tails would need very many samples, which the others need not wait for.
"""
_RELIABLE = 0.93
"""Noises that differ a hundredfold need not be known to a tenth: their order is what the search begins with."""
_FEWEST_COMPARED = 8  # entries of which the spread is known

Parts = list[tuple[Batch, Outputs]]
"""The batches of a chunk with all outputs of an engine."""


def sensitivities_of(job: SensitivityJob, precisions: Sequence[Precision]) -> Sensitivities:
    """Measure what every unit loses in every given precision that it can run in and that is not FP32.

    What the journal holds already is not measured again.
    """
    entries, step = job.entries(precisions), samples_per_run(job)
    fingerprint = sensitivity_fingerprint(job.lowerer, job.dataset, job.metric, job.ranges)
    chunks = chunks_of(job, step, len(entries))
    journal = Journal(job.journal, f"{fingerprint} in {len(chunks)}", mended_entries(job.lowerer))
    done, earlier_s = journal.read([chunk.count for chunk in chunks])
    middle = dict(entries[len(entries) // 2 :][:1])
    with FullPass(job.lowerer, middle, job.ranges, job.backend, step) as full:
        start = time.process_time()
        measurement = _Measurement(job=job, chunks=chunks, step=step, full=full, scorer=Scorer(job))
        lowered: dict[Precision, Lowered] = {p: job.lowered(p) for p in precisions if p is not Precision.FP32}
        groups = list(groups_of(job, entries, {p: one.ir.opset_imports[""] for p, one in lowered.items()}))
        for index, numbers in _portions(job, len(groups), len(chunks)):
            group = groups[index]
            todo = [n for n in numbers if any((n, *entry) not in done for entry in group)]
            compared = {n for n in todo if n % len(groups) == index}
            sure = partial(_sure, job.enough, group, done)
            try:
                for number, totals in measurement.totals(group, lowered, todo, compared, sure):
                    done.update({(number, *entry): total for entry, total in totals.items()})
                    journal.write(number, totals, earlier_s + time.process_time() - start - full.own_s)
                    job.progress((index + (number + 1) / len(chunks)) / len(groups))
            except OutOfTimeError:
                break
        if not full.samples and not job.cut():
            full.run(chunks[-1])
        spent_s = earlier_s + time.process_time() - start - full.own_s
    totals = _sums(done)
    fewest = min((total.count for total in totals.values()), default=job.dataset.count)
    return Sensitivities(
        entries={entry: totals[entry].mean() for entry in entries if entry in totals},
        samples=fewest,
        pass_s=full.seconds(fewest),
        spent_s=spent_s,
        fingerprint=fingerprint,
    )


def _portions(job: SensitivityJob, groups: int, chunks: int) -> Iterator[tuple[int, range]]:
    """The index of a group and the chunks to measure it on, in their order.

    Where the time is limited, every group is measured on the first chunk before any is on the others: to know a little
    of all units decides more than to know much of some.
    """
    rounds = [range(chunks)] if job.out_of_time is None or groups == 1 else [range(1), range(1, chunks)]
    for numbers in rounds:
        yield from ((index, numbers) for index in range(groups))


def _sums(done: Mapping[Part, Total]) -> dict[Entry, Total]:
    """The sums of each entry over all chunks."""
    totals: dict[Entry, Total] = {}
    for (_, unit, precision), total in done.items():
        totals[unit, precision] = totals.get((unit, precision), Total()).plus(total)
    return totals


def _sure(enough: float, group: Sequence[Entry], done: Mapping[Part, Total]) -> bool:
    """Whether the noises of a group are known well enough, or differ by far more than they are uncertain.

    Args:
        enough: the relative standard error that is enough; 0 is never.
        group: the entries.
        done: what was measured.
    """
    if not enough:
        return False
    wanted = set(group)
    totals = _sums({part: total for part, total in done.items() if part[1:] in wanted})
    if len(totals) < len(wanted):
        return False
    known = [(total.noise_error, total.noise / total.count) for total in totals.values()]
    noises = np.array([mean for error, mean in known if error is not None and mean > 0])
    errors = np.array([error / mean for error, mean in known if error is not None and mean > 0])
    if not len(errors):
        return False
    return float(np.quantile(errors, _SURE_OF)) <= enough or reliability(noises, errors) >= _RELIABLE


def reliability(noises: Array, errors: Array) -> float:
    """Return how much of what noises differ by is real: 1 where all of it is, 0 where all may be chance.

    It is the reliability of classical test theory, on a logarithmic scale: one minus the share of the variance between
    entries that their errors explain (Spearman, Correlation calculated from faulty data, 1910).

    Args:
        noises: positive noise-to-signal ratios of some entries.
        errors: their relative standard errors.
    """
    spread = float(np.var(np.log(noises), ddof=1)) if len(noises) >= _FEWEST_COMPARED else 0.0
    return 1 - float(np.square(errors).mean()) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Branches:
    """Entries that one engine computes; entry -> the model's output -> the engine's."""

    engine: Engine
    outputs: Mapping[Entry, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    """The samples in chunks, and what looks at their outputs.

    Attributes:
        job: what is measured.
        chunks: the parts of the samples.
        step: the number of samples of one run.
        full: the yardstick, which runs beside the branches.
        scorer: the judge of outputs.
    """

    job: SensitivityJob
    chunks: Sequence[Dataset]
    step: int
    full: FullPass
    scorer: Scorer

    def totals(
        self,
        group: Sequence[Entry],
        lowered: Mapping[Precision, Lowered],
        todo: Sequence[int],
        compared: AbstractSet[int],
        sure: Callable[[], bool],
    ) -> Iterator[tuple[int, dict[Entry, Total]]]:
        """The totals of a group of entries on each chunk.

        Args:
            group: entries that fit into one engine.
            lowered: precision -> the model with everything in it.
            todo: the indices of the chunks.
            compared: the indices of those that the yardstick runs too.
            sure: whether what was scored is enough.
        """
        if not todo or sure():
            return
        with self._branches(group, lowered) as branches, ThreadPoolExecutor(self.job.backend.threads) as pool:
            chunks = _ahead(
                todo,
                lambda n: self._start(pool, branches.engine, n, n in compared),
                sure if self.job.enough else None,
            )
            for number, parts in chunks:
                yield number, self._scored(branches, parts)

    @contextmanager
    def _branches(self, group: Sequence[Entry], lowered: Mapping[Precision, Lowered]) -> Iterator[_Branches]:
        """An engine with a branch for each entry."""
        exact = self.job.lowerer.base(lowered[group[0][1]].ir.opset_imports[""]).graph
        unit = self.job.lowerer.partition.unit
        made = branched(exact, [splice(lowered[precision], exact, unit(name)) for name, precision in group])
        built = self.job.backend.build(made.model, exact=True, threads=1)
        with LimitedEngine(built, self.job.cut) as engine:
            yield _Branches(engine, dict(zip(group, made.outputs, strict=True)))

    def _start(self, pool: ThreadPoolExecutor, engine: Engine, number: int, compared: bool) -> Callable[[], Parts]:
        """Begin to compute a chunk; the result waits until that is done."""
        chunk = self.chunks[number]
        bounds = np.linspace(0, chunk.count, min(self.job.backend.threads, chunk.count) + 1).astype(int)
        futures = [pool.submit(self._run, engine, chunk.subset(range(low, high))) for low, high in pairwise(bounds)]
        yardstick = pool.submit(self.full.run, chunk) if compared else None

        def finish() -> Parts:
            parts = [part for future in futures for part in future.result()]
            if yardstick is not None:
                yardstick.result()
            return parts

        return finish

    def _run(self, engine: Engine, data: Dataset) -> Parts:
        stream = run_dataset(engine, data, self.job.lowerer.model.interface, self.step)
        return list(stream)

    def _scored(self, branches: _Branches, parts: Parts) -> dict[Entry, Total]:
        """The totals of all entries on one chunk; the one in the middle tells the yardstick what scoring takes."""
        finals = self.job.output_names
        found = {entry: Total() for entry in branches.outputs}
        for alike in of_one_shape(parts, finals):
            chunk = ScoredChunk(alike, finals, self.job.metric)
            for index, (entry, made) in enumerate(branches.outputs.items()):
                start = time.thread_time()
                outputs = chunk.outputs({final: made.get(final, final) for final in finals})
                found[entry] = found[entry].plus(self.scorer.score(chunk, outputs))
                if index == len(branches.outputs) // 2:
                    self.full.scored(time.thread_time() - start, chunk.count)
        return found


def _ahead(
    numbers: Sequence[int], start: Callable[[int], Callable[[], Parts]], enough: Callable[[], bool] | None
) -> Iterator[tuple[int, Parts]]:
    """Each chunk with its outputs; the next one is being computed while the caller looks at one.

    Args:
        numbers: the indices of the chunks.
        start: begins to compute a chunk, and gives a function that waits for its outputs.
        enough: whether the caller has seen enough, asked before a chunk is begun; None if all are wanted. Then chunks
            cost so much that one which nobody needs is worse than waiting for the caller.
    """
    finish = start(numbers[0])
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        parts = finish()
        if following is not None and enough is None:
            finish = start(following)
        yield number, parts
        if following is not None and enough is not None:
            if enough():
                return
            finish = start(following)
