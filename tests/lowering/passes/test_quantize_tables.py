"""Tables of embeddings in 4 bits are looked up row by row, and give what is simulated."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.quantize_tables import QuantizeTablesPass
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision
from autoprec.proof.inspect import verified
from autoprec.proof.verification import UnitStatus

from ...helpers.lowering_bench import Bench, loaded, run
from ...helpers.networks import lookup, mlp

FP32 = Precision.FP32


@pytest.mark.parametrize("precision", [Precision.INT4_32, Precision.INT4_32_ZP])
def test_only_rows_that_are_looked_up_are_dequantised_and_as_simulated(precision: Precision) -> None:
    one = Bench(lookup(), ORT_CPU, FP32)
    table = next(unit for unit in one.partition.units if unit.kind == "embedding")
    plan = {**one.uniform(FP32), table.name: precision}
    lowered, twin = one.lower(plan).ir, one.lower(plan, simulate=True).ir
    check_model(twin)

    checked = {unit.unit: unit for unit in verified(one.lowerer, plan, OrtBackend(1), to_bytes(lowered)).units}

    assert lowered.graph[0].op_type == "GatherBlockQuantized"
    assert (checked[table.name].ran, checked[table.name].status) == (precision, UnitStatus.HONOURED)
    for name, array in run(lowered, one.feed, exact=False).items():
        np.testing.assert_allclose(array, run(twin, one.feed)[name], rtol=1e-4, atol=1e-4)
    assert 15 < one.sqnr(twin) < 35
    assert any(v.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for v in lowered.graph.initializers.values())


def test_what_is_no_table_is_refused() -> None:
    model = loaded(mlp()).ir
    point = WeightPoint(node="fc1", index=0, precision=Precision.INT4_32, axis=1)
    with pytest.raises(ir.passes.PreconditionError, match="constant table"):
        QuantizeTablesPass(GraphEditor(model), [point], FP32)(model)
