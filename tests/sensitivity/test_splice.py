"""A lowered unit with what it reaches, and many of them as branches of one model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import TENSORRT
from autoprec.lowering.possible import uniform
from autoprec.precision import Precision
from autoprec.sensitivity.splice import branched, reached_part, splice

from ..helpers.lowering_bench import Bench, bench, run
from ..helpers.networks import BUILDERS, WIDTH
from ..helpers.onnx_builder import Builder
from ..helpers.random_networks import random_network

FP16 = Precision.FP16


def with_dead_branch() -> onnx.ModelProto:
    """A product whose result is read, and one whose result nobody reads."""
    b = Builder()
    hidden = b.node("Relu", "relu", [b.linear("first", b.input("x", ["N", WIDTH]), WIDTH, WIDTH)])
    b.linear("head", hidden, WIDTH, WIDTH)
    b.linear("dead", hidden, WIDTH, WIDTH)
    b.output("head.add_out", ["N", WIDTH])
    return b.model()


def test_only_what_a_value_reaches_is_computed_again() -> None:
    one = bench("resnet_block")
    reached = reached_part(one.model.graph, one.partition.unit("conv1"))

    assert reached == (["relu1_out", "stem.relu_out"], ["relu2_out"])


def test_branches_compute_what_the_model_with_one_unit_lowered_does() -> None:
    one = bench("mlp")
    lowered = one.lower(one.uniform(FP16), simulate=True)
    exact = one.lowerer.base(lowered.ir.opset_imports[""]).graph
    units = one.partition.units
    made = branched(exact, [splice(lowered, exact, unit) for unit in units])
    with OrtBackend(1).build(made.model, exact=True) as engine:
        found = engine.run(one.feed)

    np.testing.assert_array_equal(found["fc2_out"], one.reference["fc2_out"])
    for unit, outputs in zip(units, made.outputs, strict=True):
        alone = run(one.lower({unit.name: FP16}, simulate=True).ir, one.feed)["fc2_out"]
        np.testing.assert_array_equal(found[outputs["fc2_out"]], alone)


def test_a_unit_that_no_output_needs_has_no_branch() -> None:
    one = Bench(with_dead_branch())
    lowered = one.lower(one.uniform(FP16), simulate=True)
    exact = one.lowerer.base(lowered.ir.opset_imports[""]).graph
    part = splice(lowered, exact, one.partition.unit("dead"))

    assert (list(part.nodes), dict(part.outputs)) == ([], {})
    assert branched(exact, [part]).outputs == ({},)


def test_branches_share_no_symbol_for_a_size_that_depends_on_numbers() -> None:
    """ONNX Runtime takes two values of one symbol to have one size."""
    b = Builder()
    hidden = b.node("Relu", "relu", [b.linear("first", b.input("x", ["N", WIDTH]), WIDTH, WIDTH)])
    b.node("Neg", "neg", [b.node("Unique", "unique", [hidden])])
    b.output("neg_out", ["K"])
    one = Bench(b.model())
    lowered = one.lower(one.uniform(FP16), simulate=True)
    exact = one.lowerer.base(lowered.ir.opset_imports[""]).graph
    made = branched(exact, [splice(lowered, exact, one.partition.unit("first"))])
    infos = {info.name: info.type.tensor_type for info in onnx.load_from_string(made.model).graph.value_info}

    sizes = [d for name, kind in infos.items() if name.startswith("branch0/") for d in kind.shape.dim]
    assert not any(size.dim_param for size in sizes)


def test_branches_share_the_weights_that_no_unit_has_changed() -> None:
    """FC2 in FP32 behind fc1 in FP16 reads the trunk's own weights."""
    one = Bench(BUILDERS["mlp"]())
    lowered = one.lower(one.uniform(FP16), simulate=True)
    exact = one.lowerer.base(lowered.ir.opset_imports[""]).graph
    model = onnx.load_from_string(branched(exact, [splice(lowered, exact, one.partition.unit("fc1"))]).model)
    changed = {tensor.name for tensor in model.graph.initializer} - set(exact.initializers)

    assert {name.partition("/")[2] for name in changed} == {"fc1.w/as_fp16", "fc1.b/as_fp16"}


@pytest.mark.parametrize("seed", range(6))
def test_branches_of_random_networks_are_the_models_with_one_unit_lowered(seed: int) -> None:
    """Units of several outputs, with readers inside and outside, and branches that nobody reads are among them."""
    one = Bench(random_network(seed), TENSORRT, FP16)
    for precision in (FP16, Precision.INT8):
        units = [unit for unit in one.partition.units if one.possible[unit.name][precision] is None]
        lowered = one.lower(uniform(one.partition, precision, one.possible, Precision.FP32), simulate=True)
        exact = one.lowerer.base(lowered.ir.opset_imports[""]).graph
        made = branched(exact, [splice(lowered, exact, unit) for unit in units])
        with OrtBackend(1).build(made.model, exact=True) as engine:
            found = engine.run(one.feed)
        for unit, outputs in zip(units, made.outputs, strict=True):
            alone = run(one.lower({unit.name: precision}, simulate=True).ir, one.feed)
            for name, expected in alone.items():
                error = np.square(found[outputs.get(name, name)] - expected).sum()
                lost = np.square(one.reference[name] - expected).sum()
                assert error <= 1e-3 * lost + 1e-10, f"{name} of {unit.name} in {precision}: {error} of {lost}"
