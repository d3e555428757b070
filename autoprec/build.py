"""From a plan file to what is shipped: the lowered model, and an engine with the proof of what it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprec.backends.make import CPU_BACKEND, ENGINE_BUILDERS, make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, scheme_named
from autoprec.errors import UsageError
from autoprec.files.json import write_bytes, write_json
from autoprec.graph.interface import Interface
from autoprec.graph.model import Model, check_model, load_model, save_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.possible import usable_precisions
from autoprec.plan import Plan, check_plan_fits, load_plan
from autoprec.precision import Array, Precision
from autoprec.proof.inspect import verified
from autoprec.proof.unit_times import UnitTimes, time_units
from autoprec.proof.verification import Verification
from autoprec.ranges.table import ranges_from_plan
from autoprec.units.find import find_units

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import EngineFile, ShapeProfile

_ANY = 2**31 - 1  # the largest size of an open dimension
_SHAPE = re.compile(r"\d+(x\d+)*")
_SHAPE_AT_END = re.compile(r"(.*:)?\d+(x\d+)+")  # TensorFlow's names end in :0, which is no shape


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWish:
    """The engine to build.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx"; for a profile alone also "ort-cpu", which builds no engine.
        targets: compute capabilities, none for this machine's GPU.
        shapes: "INPUT:1x3x224x224", or with least, best and largest shape.
        batch: for inputs without a shape.
        time_limit_s: of the build.
        timing_cache: whether kernel timings of earlier builds are used.
        profile: whether its time is told by unit.
    """

    backend: str
    targets: tuple[str, ...] = ()
    shapes: Sequence[str] = ()
    batch: int = 1
    time_limit_s: float = 900.0
    timing_cache: bool = True
    profile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What was written.

    Attributes:
        model: the lowered model.
        counts: precision -> units.
        model_bytes: of the lowered model.
        original_bytes: of the model that was lowered.
        engine_path: the engine; its JSON lies beside it.
        engine: how it was made.
        verification: what it runs, unit by unit.
        times: where its time goes, unit by unit.
    """

    model: Path
    counts: Mapping[str, int]
    model_bytes: int
    original_bytes: int
    engine_path: Path | None = None
    engine: EngineFile | None = None
    verification: Verification | None = None
    times: UnitTimes | None = None

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        record: dict[str, Any] = {
            "written": str(self.model),
            "units": dict(self.counts),
            "bytes": self.model_bytes,
            "model_bytes": self.original_bytes,
        }
        if self.engine is not None:
            record["engine"] = engine_record(self.engine) | {"written": str(self.engine_path)}
        return record | self._proof()

    def _proof(self) -> dict[str, Any]:
        record = {}
        if self.verification is not None:
            record["verification"] = self.verification.to_record()
            if self.times is not None:
                record["profile"] = self.times.to_record(self.verification)
        return record

    def write_record(self, plan: Path) -> None:
        """Write beside the engine how it was made from `plan`."""
        if self.engine is None or self.engine_path is None:
            return
        record = {"schema": 1, "kind": "autoprec engine"} | engine_record(self.engine) | {"plan": str(plan)}
        write_json(self.engine_path.with_suffix(".json"), record | self._proof())


def deliver(plan: Path, model: Path, out: Path | None = None, wish: EngineWish | None = None) -> Delivered:
    """Lower a model by a plan, and build an engine where one is wished for.

    Args:
        plan: a plan file.
        model: that it was made for.
        out: the lowered model, by default model.onnx beside the plan; the engine lies beside it.
        wish: the engine.

    Raises:
        PlanError: the plan is broken, or of another model.
        UsageError: `out` is the model itself, or the wish names no backend or shape, or a profile that cannot be.
        BackendError: the runtime refused.
    """
    chosen, loaded = load_plan(plan), load_model(model)
    check_plan_fits(chosen, loaded.graph_fingerprint, loaded.weights_fingerprint, model)
    target = out if out is not None else plan.parent / "model.onnx"
    if target.exists() and target.resolve() == model.resolve():
        raise UsageError(f"{target} is the model itself; choose another file by --out")
    runtimes = None if wish is None else _runtimes(wish, target.parent)
    scheme = runtimes.backend.scheme if runtimes else scheme_named(chosen.scheme)
    lowerer, precisions, lowered = _lower(chosen, loaded, scheme)
    check_model(lowered.ir)
    save_model(lowered.ir, target)
    counts = {p.value: sum(q is p for q in precisions.values()) for p in sorted(set(precisions.values()))}
    found = Delivered(
        model=target, counts=counts, model_bytes=target.stat().st_size, original_bytes=model.stat().st_size
    )
    if wish is None or runtimes is None:
        return found
    data = to_bytes(lowered.ir)
    if runtimes.builder is not None:
        file = runtimes.builder.build_file(data)
        found = replace(found, engine_path=target.with_suffix(".engine"), engine=file)
        write_bytes(target.with_suffix(".engine"), file.path.read_bytes())
    found = replace(found, verification=verified(lowerer, precisions, runtimes.backend, data))
    found.write_record(plan)
    if wish.profile:  # which may fail: the engine and its proof are there already
        times = time_units(lowerer.partition, runtimes.backend, data, _feed(loaded.interface, wish))
        found = replace(found, times=times)
        found.write_record(plan)
    return found


def engine_record(file: EngineFile) -> dict[str, Any]:
    """How an engine was made, as JSON: its layers too."""
    record = asdict(file)
    del record["path"]
    return record


def parse_shapes(words: Sequence[str]) -> dict[str, ShapeProfile]:
    """Input -> shapes of "INPUT:1x3x224x224" or "INPUT:LEAST:BEST:LARGEST".

    Raises:
        UsageError: a text is no such shape.
    """
    from autoprec.backends.tensorrt.records import ShapeProfile

    found = {}
    for text in words:
        name, shapes = _name_and_shapes(text)
        if not name or not shapes or _SHAPE_AT_END.fullmatch(name):
            raise UsageError(
                f"--shapes must be INPUT:1x3x224x224, or INPUT:LEAST:BEST:LARGEST in that form, got {text!r}"
            )
        found[name] = ShapeProfile(*(shapes if len(shapes) == 3 else shapes * 3))
    return found


def _name_and_shapes(text: str) -> tuple[str, list[tuple[int, ...]]]:
    """What stands before the last three shapes, if they have one rank, else before the last; and these."""
    fields = text.split(":")
    for count in (3, 1):
        last = fields[-count:]
        if len(fields) > count and all(map(_SHAPE.fullmatch, last)) and len({s.count("x") for s in last}) == 1:
            return ":".join(fields[:-count]), [tuple(map(int, shape.split("x"))) for shape in last]
    return text, []


@dataclass(frozen=True, slots=True)
class _Runtimes:
    """What inspects and profiles, and what builds engines: the same, or nothing."""

    backend: Backend
    builder: TensorRtBackend | None


def _runtimes(wish: EngineWish, folder: Path) -> _Runtimes:
    if wish.backend in ENGINE_BUILDERS:
        builder = _builder(wish, folder)
        return _Runtimes(builder, builder)
    if wish.backend != CPU_BACKEND or not wish.profile:
        also = f", and a profile alone is made by {CPU_BACKEND}" if wish.profile else ""
        raise UsageError(f"engines are built by {' or '.join(ENGINE_BUILDERS)}{also}, got --backend {wish.backend}")
    return _Runtimes(make_backend(wish.backend, targets=wish.targets), None)


def _builder(wish: EngineWish, folder: Path) -> TensorRtBackend:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import BuildOptions

    shapes = parse_shapes(wish.shapes)
    options = BuildOptions(
        shapes=shapes, targets=wish.targets, time_limit_s=wish.time_limit_s, timing_cache=wish.timing_cache
    )
    builder = TensorRtBackend(wish.backend, options, folder=folder / "engines", batch=wish.batch)
    if wish.profile and builder.clock.kind == "modelled":  # a GPU without figures is refused here
        for name, shape in shapes.items():
            if shape.least != shape.largest:
                raise UsageError(
                    f"--profile must have one shape for each input where latency is {builder.clock.text}, but "
                    f"--shapes gives {name!r} several; give it one, or leave --profile out"
                )
    return builder


def _feed(interface: Interface, wish: EngineWish) -> dict[str, Array]:
    """Random inputs of the wished shapes, the best where there are several."""
    from autoprec.backends.tensorrt.feeds import InputSlot, sample_feed
    from autoprec.backends.tensorrt.records import ShapeProfile

    slots = []
    for spec in interface.inputs:
        sizes = [size if isinstance(size, int) else None for size in spec.shape]
        profile = ShapeProfile(
            tuple(size or 1 for size in sizes),
            tuple(size or (1 if axis else wish.batch) for axis, size in enumerate(sizes)),
            tuple(size or _ANY for size in sizes),
        )
        slots.append(InputSlot(spec.name, spec.dtype, profile))
    return sample_feed(slots, shapes={name: shape.best for name, shape in parse_shapes(wish.shapes).items()})


def _lower(plan: Plan, model: Model, scheme: Scheme) -> tuple[Lowerer, dict[str, Precision], Lowered]:
    partition = find_units(model.graph)
    precisions = usable_precisions(plan, partition, Topology(model.graph), scheme)
    lowerer = Lowerer(model, partition, scheme, plan.carrier)
    return lowerer, precisions, lowerer.lower(precisions, ranges_from_plan(plan.ranges))
