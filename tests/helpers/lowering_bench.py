"""Lowering the tiny models: ranges of random data, random plans, and ONNX Runtime to run what comes out."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import TENSORRT, Scheme
from autoprec.calibrate.job import CalibrationJob, Progress
from autoprec.calibrate.observe import needed_tensors
from autoprec.data.dataset import Dataset
from autoprec.graph.model import Model, load_model, to_bytes
from autoprec.graph.topology import Topology, const_array
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.placement import Placement
from autoprec.lowering.possible import uniform, why_not
from autoprec.lowering.repaired import repaired
from autoprec.plan import Repair
from autoprec.precision import FLOATS, Precision
from autoprec.ranges.calibrators import calibrate
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.units.find import find_units

from .networks import BUILDERS, random_feed, write
from .onnx_builder import CHANNELS, SIDE, Builder

Array = npt.NDArray[Any]
Plan = Mapping[str, Precision]

SAMPLES = 16


class Bench:
    """One model under one scheme: its units, what they can run in, and ranges over `SAMPLES` random samples."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        scheme: Scheme = TENSORRT,
        carrier: Precision = Precision.FP16,
        *,
        unify_concat: bool = False,
        repairs: Sequence[Repair] = (),
    ) -> None:
        self.proto, self.scheme, self.carrier = proto, scheme, carrier
        self.model = repaired(loaded(proto), repairs)
        self.topology = Topology(self.model.graph)
        self.partition = find_units(self.model.graph)
        self.possible = {
            unit.name: {p: why_not(self.topology, unit, p, scheme) for p in Precision} for unit in self.partition.units
        }
        self.lowerer = Lowerer(self.model, self.partition, scheme, carrier, unify_concat=unify_concat)
        self.feed = random_feed(proto, SAMPLES)
        self.reference = run(self.model.ir, self.feed)
        self.ranges = self._ranges()

    def uniform(self, precision: Precision, **changed: Precision) -> dict[str, Precision]:
        """One precision everywhere it can be, with some units changed."""
        return {**uniform(self.partition, precision, self.possible, self.carrier), **changed}

    def random_plan(self, seed: int) -> dict[str, Precision]:
        """Any possible precision for each unit, but those that few GPUs have."""
        draw = random.Random(seed)
        common = [p for p in Precision if not p.scaled_block]
        return {
            unit.name: draw.choice([p for p in common if self.possible[unit.name][p] is None])
            for unit in self.partition.units
        }

    def place(self, plan: Plan) -> Placement:
        return self.lowerer.placement(plan)[1]

    def lower(self, plan: Plan, *, simulate: bool = False) -> Lowered:
        return self.lowerer.lower(plan, self.ranges, simulate=simulate)

    def sqnr(self, model: ir.Model, *, exact: bool = True) -> float:
        """Signal to noise of the outputs against the FP32 model, in dB."""
        return sqnr_db(self.reference, run(model, self.feed, exact=exact))

    def calibration(
        self,
        backend: Backend,
        dataset: Dataset | None = None,
        *,
        progress: Progress = lambda what, share: None,
        **recipe: Any,
    ) -> CalibrationJob:
        """The calibration of the model on its feed, or on other data, by a recipe with these options."""
        return CalibrationJob(
            lowerer=self.lowerer,
            possible=self.possible,
            backend=backend,
            dataset=dataset or Dataset.from_arrays(self.feed),
            recipe=CalibrationRecipe(name="r", **recipe),
            progress=progress,
        )

    def _ranges(self) -> RangeTable:
        names = needed_tensors(self.lowerer, self.possible)
        model = self.model.ir.clone()
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        linear = [str(n.inputs[0].name) for n in model.graph if n.op_type in ("Conv", "Gemm", "MatMul") and n.inputs[0]]
        for name in dict.fromkeys([*names, *linear]):
            if name in values and not values[name].is_graph_output():
                model.graph.outputs.append(values[name])
        seen = {**self.feed, **run(model, self.feed)}
        histograms = {}
        for name in names:
            histograms[name] = Histogram()
            histograms[name].update(seen[name])
        means = {name: _channel_means(seen[name]) for name in linear}
        clipped = {n: calibrate(h, "minmax", symmetric=self.scheme.symmetric) for n, h in histograms.items()}
        extent = {n: calibrate(h, "minmax", symmetric=False) for n, h in histograms.items()}
        return RangeTable(
            method="minmax", clipped=clipped, extent=extent, means=means, samples=SAMPLES, fingerprint="", evidence={}
        )


@cache
def bench(name: str, scheme: Scheme = TENSORRT, carrier: Precision = Precision.FP16) -> Bench:
    """The bench of a builder's model, made once."""
    return Bench(BUILDERS[name](), scheme, carrier)


def loaded(proto: onnx.ModelProto) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return load_model(write(proto, Path(folder)))


def run(model: ir.Model, feed: Mapping[str, Array], *, exact: bool = True) -> dict[str, Array]:
    """Outputs on ONNX Runtime's CPU; `exact` keeps it from replacing pairs by integer kernels."""
    with OrtBackend(threads=1).build(to_bytes(model), exact=exact) as engine:
        return engine.run(feed)


def sqnr_db(reference: Mapping[str, Array], outputs: Mapping[str, Array]) -> float:
    """Over all outputs together; capped at 200 dB, which is equality."""
    signal = sum(float(np.square(reference[name].astype(np.float64)).sum()) for name in reference)
    noise = sum(
        float(np.square(reference[name].astype(np.float64) - outputs[name].astype(np.float64)).sum())
        for name in reference
    )
    return 200.0 if noise < 1e-20 * signal else float(10 * np.log10(signal / noise))


def ops(model: ir.Model, *kinds: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in kinds]


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def array_of(value: ir.Value | None) -> Array:
    array = const_array(value)
    assert array is not None, value
    return array


def edges(placement: Placement) -> dict[str, set[tuple[str, int]]]:
    """Tensor -> the (node, input) edges that its pairs serve."""
    found: dict[str, set[tuple[str, int]]] = {}
    for point in placement.activations:
        found.setdefault(point.tensor, set()).update(point.consumers)
    return found


def finish(b: Builder, last: str, shape: list[int | str] | None = None) -> onnx.ModelProto:
    """The model whose only output is `last`."""
    b.output(last, shape or ["N", CHANNELS, SIDE, SIDE])
    return b.model()


def int8_edges(proto: onnx.ModelProto, **changed: Precision) -> dict[str, set[tuple[str, int]]]:
    """Edges of uniform INT8 for TensorRT, with some units changed."""
    one = Bench(proto)
    return edges(one.place(one.uniform(Precision.INT8, **changed)))


def lowered_everywhere(carrier: Precision = Precision.FP16) -> Iterator[tuple[str, Lowered]]:
    """Every tiny model, lowered for TensorRT under uniform INT8, uniform FP8 and two random plans."""
    for name in BUILDERS:
        one = bench(name, TENSORRT, carrier)
        plans = [one.uniform(Precision.INT8), one.uniform(Precision.FP8), one.random_plan(1), one.random_plan(2)]
        for plan in plans:
            if set(plan.values()) - set(FLOATS):
                yield name, one.lower(plan)


def _channel_means(array: Array) -> Array:
    axis = 1 if array.ndim == 4 else array.ndim - 1
    result: Array = array.mean(axis=tuple(i for i in range(array.ndim) if i != axis), dtype=np.float64)
    return result
