"""Every millisecond of a profile goes to a unit, to a boundary between units, or is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.protocol import TimeProfile
from autoprec.backends.tensorrt.attribution import attribute
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, bench
from ...helpers.tensorrt.rtx_log import layers_text

RECORDED = Path(__file__).parent / "recorded"
READABLE = sorted(p for p in RECORDED.glob("*.*") if "names-only" not in p.name and p.suffix != ".md")
TARGET = "conv2/folded.weight/int8/dequantize + conv2 + add + relu2"


def recorded(name: str) -> tuple[EngineLayer, ...]:
    return parse_layers((RECORDED / name).read_text(encoding="utf-8"))


def layer(name: str, kind: str, reads: str, writes: str, *nodes: str) -> EngineLayer:
    def tensors(names: str) -> tuple[LayerTensor, ...]:
        return tuple(LayerTensor(each, (1,), "fp16") for each in names.split())

    return EngineLayer(name=name, kind=kind, nodes=nodes, inputs=tensors(reads), outputs=tensors(writes))


def home_of(one: Bench) -> dict[str, str]:
    return {node: unit.name for unit in one.partition.units for node in unit.nodes}


def macs_of(one: Bench) -> dict[str, int]:
    return {unit.name: unit.macs for unit in one.partition.units}


@pytest.mark.parametrize("form", ["documented-8.6", "documented-11.x", "rtx-1.7.1"])
def test_convolutions_and_the_way_in_have_their_time(form: str) -> None:
    layers = recorded(f"{form}-resnet_block-int8.{'txt' if form.startswith('rtx') else 'json'}")
    one = bench("resnet_block")
    rows = {made.name: float(10**place) for place, made in enumerate(found for found in layers if found.inputs)}
    result = attribute(rows, layers, home_of(one), macs_of(one))

    assert result.boundary_ms[("", "stem")] == 1.0
    if form == "rtx-1.7.1":  # each product, and the kernel that scales its result
        assert result.unit_ms == {"stem": 110.0, "conv1": 11000.0, "conv2": 1100000.0}
    else:
        assert result.unit_ms == {"stem": 10.0, "conv1": 100.0, "conv2": 1000.0}
    if form == "documented-8.6":
        assert result.boundary_ms[("conv2", "")] == 10000.0
    assert result.rest == ()
    assert result.share == 1.0


def test_what_belongs_to_nothing_is_listed_longest_first() -> None:
    layers = recorded("rtx-1.7.1-resnet_block-int8.txt")
    rows = {"__mye288_0_myl0_0": 1.0, "stem_myl0_2": 7.0, "unheard of": 2.0}
    result = attribute(rows, layers, {"stem": "stem"})

    assert result == TimeProfile({"stem": 7.0}, {}, (("unheard of", 2.0), ("__mye288_0_myl0_0", 1.0)))
    assert (result.total_ms, result.share) == (10.0, pytest.approx(0.7))
    assert attribute({}, layers, {}).share == 1.0


def test_a_product_is_shared_by_work_and_other_layers_equally() -> None:
    layers = [
        layer("both", "gemm", "x", "y", "a", "b", "bias"),
        layer("after", "kgen", "y", "z", "a", "bias"),
        layer("idle", "gemm", "z", "out", "bias", "relu"),
    ]
    home = {"a": "A", "b": "B", "bias": "C", "relu": "D"}
    result = attribute({"both": 8.0, "after": 2.0, "idle": 4.0}, layers, home, {"A": 30, "B": 10})

    assert result.unit_ms == {"A": 6.0 + 1.0, "B": 2.0, "C": 1.0 + 2.0, "D": 2.0}


def test_without_work_a_product_is_shared_equally() -> None:
    result = attribute({"both": 8.0}, [layer("both", "gemm", "x", "y", "a", "b")], {"a": "A", "b": "B"})

    assert result.unit_ms == {"A": 4.0, "B": 4.0}


def test_conversions_lie_between_the_units_that_their_tensors_lead_to() -> None:
    """Through other conversions, to every reader."""
    layers = [
        layer("a", "CaskConvolution", "x", "a.out", "a"),
        layer("r1", "Reformat", "a.out", "t1"),
        layer("r2", "Reformat", "t1", "t2"),
        layer("b", "CaskConvolution", "t2", "b.out", "b"),
        layer("c", "CaskConvolution", "t1", "c.out", "c"),
        layer("join", "kgen", "b.out c.out", "j", "b_out/quantize"),
        layer("d", "CaskConvolution", "j", "d.out", "d"),
        layer("last", "Reformat", "d.out", "y"),
    ]
    home = {"a": "A", "b": "B", "c": "C", "d": "D"}
    result = attribute({"r1": 4.0, "r2": 1.0, "join": 6.0, "last": 3.0}, layers, home)

    assert result.boundary_ms == {
        ("A", "B"): 2.0 + 1.0,
        ("A", "C"): 2.0,
        ("B", "D"): 3.0,
        ("C", "D"): 3.0,
        ("D", ""): 3.0,
    }


def test_a_copy_that_leads_to_no_unit_is_listed() -> None:
    result = attribute({"copy": 1.0}, [layer("copy", "copy", "x", "y")], {"a": "A"})

    assert (result.boundary_ms, result.rest) == ({}, (("copy", 1.0),))


def test_a_circle_of_conversions_ends() -> None:
    """Loop bodies write what they read."""
    layers = [layer("one", "Reformat", "x", "y"), layer("two", "Reformat", "y", "x"), layer("c", "gemm", "y", "z", "c")]

    assert attribute({"one": 1.0}, layers, {"c": "C"}).boundary_ms == {("", "C"): 1.0}


def test_arithmetic_of_no_unit_is_no_boundary() -> None:
    layers = [layer("a", "gemm", "x", "y", "a"), layer("strange", "PluginV2", "y", "z", "plugin")]

    assert attribute({"strange": 5.0}, layers, {"a": "A"}).rest == (("strange", 5.0),)


def test_a_reformat_without_tensors_goes_by_its_name() -> None:
    convolution = recorded("documented-8.6-resnet_block-int8.json")[3]
    home = {"conv2": "conv2", "stem": "stem"}
    rows = {
        f"Reformatting CopyNode for Input Tensor 0 to {TARGET}": 1.0,
        f"Reformatting CopyNode for Output Tensor 0 to {TARGET}": 2.0,
        "Reformatting CopyNode for Input Tensor 0 to nothing": 4.0,
    }
    result = attribute(rows, [convolution], home)

    assert convolution.name == TARGET
    assert result.boundary_ms == {("", "conv2"): 1.0, ("conv2", ""): 2.0}
    assert [ms for _, ms in result.rest] == [4.0]


def test_rows_without_a_layer_go_by_the_nodes_in_their_name() -> None:
    assert attribute({"conv1 + relu1": 3.0}, [], {"conv1": "A", "relu1": "A"}).unit_ms == {"A": 3.0}


def test_names_may_repeat() -> None:
    """Rows of one name belong to the layers of that name in turn; one sum is shared."""
    layers = [layer("same", "gemm", "x", "y", "a"), layer("same", "gemm", "y", "z", "b")]
    home = {"a": "A", "b": "B"}

    assert attribute([("same", 1.0), ("same", 5.0)], layers, home).unit_ms == {"A": 1.0, "B": 5.0}
    assert attribute([("same", 1.0), ("same", 5.0)] * 3, layers, home).unit_ms == {"A": 3.0, "B": 15.0}
    assert attribute({"same": 6.0}, layers, home).unit_ms == {"A": 3.0, "B": 3.0}


@given(st.data())
def test_nothing_is_lost(data: st.DataObject) -> None:
    """Attributed and rest are the sum, whatever the profile, the units and their work."""
    layers = parse_layers(data.draw(st.sampled_from(READABLE)).read_text(encoding="utf-8"))
    nodes = sorted({node for made in layers for node in made.nodes})
    home = {node: data.draw(st.sampled_from("ABCD")) for node in nodes if data.draw(st.booleans())}
    macs = data.draw(st.dictionaries(st.sampled_from("ABCD"), st.integers(0, 10**12)))
    name = st.sampled_from([made.name for made in layers] + ["unheard of"])
    rows = data.draw(st.lists(st.tuples(name, st.floats(0, 1e3, allow_subnormal=False))))
    result = attribute(rows, layers, home, macs)

    assert result.total_ms == pytest.approx(sum(ms for _, ms in rows), rel=1e-9, abs=1e-9)
    assert set(result.unit_ms) <= set(home.values())
    assert {unit for pair in result.boundary_ms for unit in pair} <= {*home.values(), ""}
    assert -1e-9 <= result.share <= 1 + 1e-9


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
@pytest.mark.parametrize("name", ["resnet_downsample", "depthwise_block", "concat_block", "pool_block", "silu_block"])
def test_all_kernels_of_real_cnns_are_attributed(name: str, precision: str) -> None:
    """All that reads or writes a tensor; what remains are steps of the host that prepare shapes."""
    one = bench(name)
    layers = parse_layers(layers_text(to_bytes(one.lower(one.uniform(Precision(precision))).ir)))
    result = attribute([(made.name, 1.0) for made in layers], layers, home_of(one), macs_of(one))

    assert {row for row, _ in result.rest} == {made.name for made in layers if not made.inputs + made.outputs}
    assert set(result.unit_ms) >= {unit for unit, macs in macs_of(one).items() if macs}
