"""Per-layer times of an engine shared out to the units that it computes and to the boundaries between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoprec.backends.tensorrt.nodes import fill_nodes, is_conversion, is_linear, is_moving, is_opaque
from autoprec.backends.tensorrt.records import EngineLayer

Rows = Mapping[str, float] | Sequence[tuple[str, float]]
"""Engine layer -> milliseconds, as IProfiler reports them; as pairs, names may repeat."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the time of one profile went.

    Attributes:
        unit_ms: unit -> milliseconds of the layers that compute it.
        boundary_ms: (unit before, unit after) -> milliseconds of reformats, casts, copies and Q/DQ between them; ""
            stands for what enters or leaves the network.
        rest: (layer, milliseconds) of what belongs to no unit and no boundary, the longest first.
    """

    unit_ms: Mapping[str, float]
    boundary_ms: Mapping[tuple[str, str], float]
    rest: tuple[tuple[str, float], ...]

    @property
    def total_ms(self) -> float:
        """The sum over the profile."""
        return sum(self.unit_ms.values()) + sum(self.boundary_ms.values()) + sum(ms for _, ms in self.rest)

    @property
    def share(self) -> float:
        """The part of the sum that belongs to a unit or a boundary; 1 for an empty profile."""
        total = self.total_ms
        return 1.0 - sum(ms for _, ms in self.rest) / total if total else 1.0


def attribute(
    rows: Rows, layers: Sequence[EngineLayer], home: Mapping[str, str], macs: Mapping[str, int] | None = None
) -> Attribution:
    """Share the time of each layer out.

    A convolution or matrix product, or an opaque block, that computes nodes of several units is shared out by their
    multiply-accumulates, as what is fused into a product costs next to nothing of its own; other layers, and where
    no unit has any, equally. A layer that only moves or converts data belongs to the boundary between the units that
    its tensors come from and go to, equally to each pair of them. A row of which the inspector lists no layer is
    taken by the node names in its own.

    Args:
        rows: the profile.
        layers: of the profiled engine.
        home: ONNX node -> its unit, in topological order.
        macs: unit -> multiply-accumulates.
    """
    filled = fill_nodes(layers, home)
    sharing = _Sharing(filled, home, macs or {})
    units: dict[str, float] = {}
    boundaries: dict[tuple[str, str], float] = {}
    rest: list[tuple[str, float]] = []
    for layer, milliseconds in _matched(rows, filled, home):
        if shares := sharing.units(layer):
            for unit, share in shares.items():
                units[unit] = units.get(unit, 0.0) + share * milliseconds
        elif pairs := sharing.boundaries(layer):
            for pair in pairs:
                boundaries[pair] = boundaries.get(pair, 0.0) + milliseconds / len(pairs)
        else:
            rest.append((layer.name, milliseconds))
    return Attribution(units, boundaries, tuple(sorted(rest, key=lambda row: -row[1])))


def _matched(rows: Rows, layers: Sequence[EngineLayer], known: Iterable[str]) -> list[tuple[EngineLayer, float]]:
    """Each row's layer. Of n layers with one name, the rows of that name belong to one after the other."""
    named: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        named.setdefault(layer.name, []).append(layer)
    times: dict[str, list[float]] = {}
    for name, milliseconds in rows.items() if isinstance(rows, Mapping) else rows:
        times.setdefault(name, []).append(milliseconds)
    strangers = [EngineLayer(name, "", (), (), ()) for name in times if name not in named]
    named |= {layer.name: [layer] for layer in fill_nodes(strangers, known)}
    found = []
    for name, each in times.items():
        same = named[name]
        if len(each) % len(same):  # summed up already
            found += [(layer, sum(each) / len(same)) for layer in same]
        else:
            found += [(same[place % len(same)], ms) for place, ms in enumerate(each)]
    return found


class _Sharing:
    def __init__(self, layers: Sequence[EngineLayer], home: Mapping[str, str], macs: Mapping[str, int]) -> None:
        self._home, self._macs = home, macs
        self._makers: dict[str, list[EngineLayer]] = {}
        self._readers: dict[str, list[EngineLayer]] = {}
        self._by_name = {layer.name: layer for layer in layers}
        for layer in layers:
            for tensor in layer.outputs:
                self._makers.setdefault(tensor.name, []).append(layer)
            for tensor in layer.inputs:
                self._readers.setdefault(tensor.name, []).append(layer)

    def units(self, layer: EngineLayer) -> dict[str, float]:
        """Unit -> its share of the layer; none for layers that compute no unit."""
        if is_moving(layer):
            return {}
        names = dict.fromkeys(self._home[node] for node in layer.nodes if node in self._home)
        weights = {name: self._macs.get(name, 0) for name in names}
        products = is_linear(layer) or is_opaque(layer)
        if not products or not any(weights.values()):
            return dict.fromkeys(names, 1.0 / len(names)) if names else {}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items() if weight}

    def boundaries(self, layer: EngineLayer) -> list[tuple[str, str]]:
        """The pairs of units that the layer stands between; none where it is no conversion or touches no unit."""
        if not is_conversion(layer):
            return []
        before, after = self._beyond(layer, forward=False), self._beyond(layer, forward=True)
        pairs = [(b, a) for b in before or [""] for a in after or [""]]
        return [pair for pair in pairs if any(pair)] or self._by_words(layer)

    def _beyond(self, layer: EngineLayer, *, forward: bool) -> list[str]:
        """The units met first, and "" where the network ends, looking through other conversions."""
        found: dict[str, None] = {}
        seen, stack = {id(layer)}, [layer]
        while stack:
            current = stack.pop()
            for tensor in current.outputs if forward else current.inputs:
                others = (self._readers if forward else self._makers).get(tensor.name, [])
                if not others:
                    found[""] = None
                for other in others:
                    if (unit := self._principal(other)) is not None:
                        found[unit] = None
                    elif id(other) not in seen:
                        seen.add(id(other))
                        stack.append(other)
        return sorted(found)

    def _principal(self, layer: EngineLayer) -> str | None:
        shares = self.units(layer)
        return max(shares, key=shares.__getitem__) if shares else None

    def _by_words(self, layer: EngineLayer) -> list[tuple[str, str]]:
        """Where no tensor leads to a unit, the name does: "Reformatting CopyNode for Input Tensor 0 to conv1"."""
        words, _, target = layer.name.partition(" to ")
        other = self._by_name.get(target)
        unit = self._principal(other) if other is not None else None
        if unit is None or not layer.name.startswith("Reformatting CopyNode"):
            return []
        return [(unit, "")] if "Output Tensor" in words else [("", unit)]
