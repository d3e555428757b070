"""TensorRT's layers as kernels of units: what its inspector and its profiler say, brought together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autoprec.backends.protocol import TimeProfile
from autoprec.backends.sharing import Kernel, share_out
from autoprec.backends.tensorrt.nodes import fill_nodes, is_conversion, is_linear, is_moving, is_opaque
from autoprec.backends.tensorrt.records import EngineLayer

Rows = Mapping[str, float] | Sequence[tuple[str, float]]
"""Engine layer -> milliseconds, as IProfiler reports them; as pairs, names may repeat."""


def attribute(
    rows: Rows, layers: Sequence[EngineLayer], home: Mapping[str, str], macs: Mapping[str, int] | None = None
) -> TimeProfile:
    """Share the time of each layer out.

    A convolution or matrix product, or an opaque block, that computes nodes of several units is shared out by their
    multiply-accumulates, as what is fused into a product costs next to nothing of its own; other layers, and where
    no unit has any, equally. For layers that only move or convert data see `share_out`. A row of which the inspector
    lists no layer is taken by the node names in its own.

    Args:
        rows: the profile.
        layers: the layers of the profiled engine.
        home: ONNX node -> its unit, in topological order.
        macs: unit -> multiply-accumulates.
    """
    filled = fill_nodes(layers, home)
    matched = _matched(rows, filled, home)
    shares = {layer.name: _shares(layer, home, macs or {}) for layer in filled}
    kernels = {id(layer): _kernel(layer, home, macs or {}, shares) for layer in (*filled, *(one for one, _ in matched))}
    return share_out([(kernels[id(layer)], ms) for layer, ms in matched], [kernels[id(layer)] for layer in filled])


def _matched(rows: Rows, layers: Sequence[EngineLayer], known: Iterable[str]) -> list[tuple[EngineLayer, float]]:
    """Each row's layer. Of n layers with one name, the rows of that name belong to one after the other."""
    named: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        named.setdefault(layer.name, []).append(layer)
    times: dict[str, list[float]] = {}
    for name, milliseconds in rows.items() if isinstance(rows, Mapping) else rows:
        times.setdefault(name, []).append(milliseconds)
    strangers = [
        EngineLayer(name=name, kind="", nodes=(), inputs=(), outputs=()) for name in times if name not in named
    ]
    named |= {layer.name: [layer] for layer in fill_nodes(strangers, known)}
    found = []
    for name, each in times.items():
        same = named[name]
        if len(each) % len(same):  # summed up already
            found += [(layer, sum(each) / len(same)) for layer in same]
        else:
            found += [(same[index % len(same)], ms) for index, ms in enumerate(each)]
    return found


def _kernel(
    layer: EngineLayer, home: Mapping[str, str], macs: Mapping[str, int], shares: Mapping[str, Mapping[str, float]]
) -> Kernel:
    return Kernel(
        name=layer.name,
        units=_shares(layer, home, macs),
        reads=tuple(tensor.name for tensor in layer.inputs),
        writes=tuple(tensor.name for tensor in layer.outputs),
        converts=is_conversion(layer),
        otherwise=_by_name(layer, shares),
    )


def _shares(layer: EngineLayer, home: Mapping[str, str], macs: Mapping[str, int]) -> dict[str, float]:
    """Unit -> its share of the layer; none for layers that compute no unit."""
    if is_moving(layer):
        return {}
    names = dict.fromkeys(home[node] for node in layer.nodes if node in home)
    weights = {name: macs.get(name, 0) for name in names}
    products = is_linear(layer) or is_opaque(layer)
    if not products or not any(weights.values()):
        return dict.fromkeys(names, 1.0 / len(names)) if names else {}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight}


def _by_name(layer: EngineLayer, shares: Mapping[str, Mapping[str, float]]) -> tuple[tuple[str, str], ...]:
    """Where no tensor leads to a unit, the name does: "Reformatting CopyNode for Input Tensor 0 to conv1"."""
    text, _, target = layer.name.partition(" to ")
    others = shares.get(target)
    if not others or not layer.name.startswith("Reformatting CopyNode"):
        return ()
    unit = max(others, key=others.__getitem__)
    return ((unit, ""),) if "Output Tensor" in text else (("", unit),)
