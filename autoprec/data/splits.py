"""Splits the data into disjoint parts: to calibrate with, to select the plan with, and to report with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.errors import DataError
from autoprec.precision import Array

CALIBRATE_SHARE = 0.2
"""The share of a single data set that is used for calibration."""
CALIBRATE_LIMIT = 512
"""The most samples of a single data set that are used for calibration."""

FEWEST = 32
"""The fewest samples that plans are judged on, however little time there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The three parts of the data, and how they were made.

    Attributes:
        calibrate: the samples that ranges are found on.
        select: the samples that plans are compared on.
        report: the samples that the chosen plan is judged on; nothing is chosen with them.
        origin: the name of the data set that `select` and `report` were split from.
        count: the number of its samples.
        single: whether `calibrate` was split from it too, since the user gave one data set only.
        seed: the seed of the split.
        overlap: the number of samples of `calibrate` that also occur in `select` or `report`.
        shares: the numbers of samples of `select` and `report` when the data was first split.
        every: one of so many of these samples is used, for lack of time; 1 where all are used.
        equally_hard: whether `select` and `report` were dealt anew so that FP32 is equally good on both.
    """

    calibrate: Dataset
    select: Dataset
    report: Dataset
    origin: str
    count: int
    single: bool
    seed: int
    overlap: int
    shares: tuple[int, int]
    every: int = 1
    equally_hard: bool = False

    @property
    def text(self) -> str:
        """How the data was split, with counts, for people."""
        hard = ", equally hard for FP32" if self.equally_hard else ""
        halves = f"{self.shares[0]} selection and {self.shares[1]} held-out samples{hard}; no sample is in"
        if self.single:
            text = (
                f"{self.origin} ({self.count} samples) split by seed {self.seed} into {self.calibrate.count} "
                f"calibration, {halves} two parts"
            )
        else:
            text = (
                f"{self.calibrate.count} calibration samples, all of {self.calibrate.origin}; {self.origin} split by "
                f"seed {self.seed} into {halves} both parts"
            )
        if self.overlap:
            text += (
                f"; warning: {self.overlap} of the {self.calibrate.count} calibration samples also occur in "
                f"{self.origin}, so the reported accuracy may be too good"
            )
        if self.every > 1:
            select, report = (len(range(0, count, self.every)) for count in self.shares)
            kept = f"{select} selection, {report} held-out samples"
            text += f"; for lack of time, only every {self.every}th of them is used: {kept}"
        return text


def make_splits(calib: Dataset | None, evaluate: Dataset | None, seed: int) -> Splits:
    """Split the user's data into parts to calibrate, select and report with; the latter two have no common sample.

    With two sets, `calib` is used whole and `evaluate` is split in halves. A single set is split in three:
    20 % but at most 512 samples to calibrate, the rest in halves. Equal samples always land in the same
    part, so halves can differ in size where the data repeats itself. Reads all data once, to compare
    samples.

    Raises:
        DataError: no data was given, or it has too few different samples.
    """
    if calib is not None and evaluate is not None:
        return _split_two(calib, evaluate, seed)
    data = calib if calib is not None else evaluate
    if data is None:
        raise DataError("there is no data to calibrate with or to judge plans by; give --calib, --eval or both")
    return _split_one(data, seed)


def _split_two(calib: Dataset, evaluate: Dataset, seed: int) -> Splits:
    groups = _shuffled_groups(evaluate, seed)
    if len(groups) < 2:
        raise DataError(
            f"{evaluate.origin} must have at least 2 different samples, one to select with and one to report "
            f"with, but it has {len(groups)}; give more evaluation data"
        )
    select, report = map(_indices, _deal(groups, _half(evaluate.count)))
    known = set(evaluate.digests())
    overlap = sum(digest in known for digest in calib.digests())
    return Splits(
        calibrate=calib,
        select=evaluate.subset(select),
        report=evaluate.subset(report),
        origin=evaluate.origin,
        count=evaluate.count,
        single=False,
        seed=seed,
        overlap=overlap,
        shares=(len(select), len(report)),
    )


def _split_one(data: Dataset, seed: int) -> Splits:
    groups = _shuffled_groups(data, seed)
    if len(groups) < 3:
        raise DataError(
            f"{data.origin} must have at least 3 different samples, one each to calibrate, to select and to "
            f"report with, but it has {len(groups)}; give more data, or a second set"
        )
    wanted = min(max(1, int(CALIBRATE_SHARE * data.count)), CALIBRATE_LIMIT)
    first, rest = _deal(groups, wanted, leave=2)
    calibrate = _indices(first)
    select, report = map(_indices, _deal(rest, _half(data.count - len(calibrate))))
    return Splits(
        calibrate=data.subset(calibrate),
        select=data.subset(select),
        report=data.subset(report),
        origin=data.origin,
        count=data.count,
        single=True,
        seed=seed,
        overlap=0,
        shares=(len(select), len(report)),
    )


def shortened(splits: Splits, most: float) -> Splits:
    """The same parts, with at most so many samples of select and report each, taken at even distances.

    The number is halved until it fits or few are left, so that runs on machines of about the same speed take the same
    samples. Parts that fit are returned as they are.
    """
    smaller, larger = sorted((splits.select.count, splits.report.count))
    step = 1
    while larger / step > most and smaller // (2 * step) >= FEWEST:
        step *= 2
    if step == 1:
        return splits
    select, report = (part.subset(range(0, part.count, step)) for part in (splits.select, splits.report))
    return replace(splits, select=select, report=report, every=step)


def balanced(splits: Splits, keys: Array, seed: int) -> Splits:
    """The same samples, with select and report dealt anew so that both are equally hard.

    The samples are sorted by FP32's score and margin, and of each pair of neighbours one goes to each half at random.
    With a few hundred samples a plain shuffle can leave FP32 itself five points better on one half than on the other;
    then a plan that loses nothing on one half loses two points on the other. No plan takes part in this.

    Args:
        splits: the parts as they were split.
        keys: float[select + report, k], what to sort by, the most important figure first.
        seed: the seed of the random choice.
    """
    union = splits.select.merged(splits.report)
    groups: dict[str, list[int]] = {}
    for index, digest in enumerate(union.digests()):
        groups.setdefault(digest, []).append(index)
    order = sorted(groups.values(), key=lambda members: (tuple(keys[members[0]]), members[0]))
    generator = np.random.default_rng(seed)
    halves: tuple[list[int], list[int]] = ([], [])
    for place in range(0, len(order), 2):
        pair = order[place : place + 2]
        swap = bool(generator.integers(2)) and len(pair) == 2
        for half, members in zip(halves, reversed(pair) if swap else pair, strict=False):
            half += members
    select, report = (union.subset(sorted(half)) for half in halves)
    return replace(splits, select=select, report=report, equally_hard=True)


def halves(splits: Splits, dealt: Splits) -> str:
    """How `dealt` divided the samples of select and report in `splits`: one letter per sample.

    The letters are s for select, r for report and - for a sample that is left out. With them another process makes the
    same halves, even if its FP32 outputs differ in the last bit.
    """
    left = {"s": Counter(dealt.select.digests()), "r": Counter(dealt.report.digests())}
    letters = []
    for digest in splits.select.merged(splits.report).digests():
        letter = next((letter for letter, counts in left.items() if counts[digest]), "-")
        left.get(letter, Counter())[digest] -= 1
        letters.append(letter)
    return "".join(letters)


def dealt_as(splits: Splits, letters: str) -> Splits:
    """The same samples, dealt as the letters of `halves` say.

    Raises:
        DataError: there are not as many samples.
    """
    union = splits.select.merged(splits.report)
    if len(letters) != union.count or not {"s", "r"} <= set(letters):
        raise DataError(
            f"{union.origin} must have the {len(letters)} samples to select and to report with that the run had, but "
            f"it has {union.count}; give the run's data"
        )
    select, report = ([n for n, letter in enumerate(letters) if letter == half] for half in "sr")
    return replace(splits, select=union.subset(select), report=union.subset(report))


def _half(count: int) -> int:
    return (count + 1) // 2


def _shuffled_groups(data: Dataset, seed: int) -> list[list[int]]:
    """The indices of equal samples together, the groups in random order."""
    groups: dict[str, list[int]] = {}
    for index, digest in enumerate(data.digests()):
        groups.setdefault(digest, []).append(index)
    members = list(groups.values())
    return [members[number] for number in np.random.default_rng(seed).permutation(len(members))]


def _deal(groups: Sequence[list[int]], wanted: int, leave: int = 1) -> tuple[list[list[int]], list[list[int]]]:
    """Groups that have about `wanted` samples together, and the rest, which is at least `leave` groups."""
    first: list[list[int]] = []
    rest: list[list[int]] = []
    room = wanted
    for group in groups:
        fits = len(group) <= room and len(first) < len(groups) - leave
        if fits:
            room -= len(group)
        (first if fits else rest).append(group)
    if not first:  # every group is larger than wanted: the smallest comes closest
        rest.sort(key=len)
        first.append(rest.pop(0))
    return first, rest


def _indices(groups: Sequence[list[int]]) -> list[int]:
    """The indices in order, so that a source which reads one file after another need not jump."""
    return sorted(index for group in groups for index in group)
