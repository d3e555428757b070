"""The time of a runtime's kernels shared out to the units that they compute and to the boundaries between units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoprec.backends.protocol import TimeProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What a runtime runs as one: a layer of an engine, a node of an optimised graph.

    Attributes:
        name: the runtime's.
        units: unit -> its share of the work, 1 in all; none for what computes no unit.
        reads: names of the tensors that it reads, without constants.
        writes: names of the tensors that it writes.
        converts: whether it only moves data or changes its type or layout.
        otherwise: pairs of units that it stands between, for when none of its tensors leads to a unit.
    """

    name: str
    units: Mapping[str, float]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    converts: bool = False
    otherwise: tuple[tuple[str, str], ...] = ()


def share_out(timed: Iterable[tuple[Kernel, float]], kernels: Sequence[Kernel]) -> TimeProfile:
    """Share the time of each kernel out.

    A conversion belongs to the boundary between the units that its tensors come from and go to, equally to each pair
    of them. One between kernels of the same unit is that unit's own, and so is one of constants alone.

    Args:
        timed: (kernel, milliseconds).
        kernels: all of the engine, in the order in which they run.
    """
    around = _Surroundings(kernels)
    units: dict[str, float] = {}
    boundaries: dict[tuple[str, str], float] = {}
    rest: list[tuple[str, float]] = []
    for kernel, milliseconds in timed:
        for unit, share in kernel.units.items():
            units[unit] = units.get(unit, 0.0) + share * milliseconds
        if kernel.units:
            continue
        pairs = around.pairs(kernel) if kernel.converts else []
        for before, after in pairs:
            if before == after:
                units[after] = units.get(after, 0.0) + milliseconds / len(pairs)
            else:
                boundaries[before, after] = boundaries.get((before, after), 0.0) + milliseconds / len(pairs)
        if not pairs:
            rest.append((kernel.name, milliseconds))
    return TimeProfile(units, boundaries, tuple(sorted(rest, key=lambda row: -row[1])))


class _Surroundings:
    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._makers: dict[str, list[Kernel]] = {}
        self._readers: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            for name in kernel.writes:
                self._makers.setdefault(name, []).append(kernel)
            for name in kernel.reads:
                self._readers.setdefault(name, []).append(kernel)

    def pairs(self, kernel: Kernel) -> list[tuple[str, str]]:
        """(unit before, unit after), "" where the network begins or ends; none where there is no unit."""
        after = self._beyond(kernel, forward=True)
        if not kernel.reads and any(after):  # constants belong to what reads them
            return [(unit, unit) for unit in after if unit]
        before = self._beyond(kernel, forward=False)
        pairs = [(b, a) for b in before or [""] for a in after or [""]]
        return [pair for pair in pairs if any(pair)] or list(kernel.otherwise)

    def _beyond(self, kernel: Kernel, *, forward: bool) -> list[str]:
        """The units met first, and "" where the network ends, looking through what computes no unit."""
        found: dict[str, None] = {}
        seen, stack = {id(kernel)}, [kernel]
        while stack:
            current = stack.pop()
            for name in current.writes if forward else current.reads:
                others = (self._readers if forward else self._makers).get(name, [])
                if not others:
                    found[""] = None
                for other in others:
                    if other.units:
                        found[max(other.units, key=other.units.__getitem__)] = None
                    elif id(other) not in seen:
                        seen.add(id(other))
                        stack.append(other)
        return sorted(found)
