"""Build by a plan file: the lowered model and, if wanted, an engine with the proof of what it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autoprec.backends.make import CPU_BACKEND, ENGINE_BUILDERS, make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme, same_family, scheme_named
from autoprec.errors import UsageError
from autoprec.files.forms import RUN_RECORDS, recognised
from autoprec.files.inventory import Inventory
from autoprec.files.json import write_bytes
from autoprec.graph.interface import Interface
from autoprec.graph.model import Model, check_model, load_model, save_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.graph.written import file_bytes
from autoprec.lowering.builders_choice import lower_plan
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.node_metadata import note_plan
from autoprec.lowering.possible import usable_precisions
from autoprec.lowering.repaired import repaired
from autoprec.plan import Plan, check_plan_fits, load_plan
from autoprec.precision import Array, Precision
from autoprec.proof.delivered import Delivered
from autoprec.proof.inspect import verified
from autoprec.proof.unit_times import time_units
from autoprec.ranges.table import ranges_from_plan
from autoprec.units.foreign import units_of
from autoprec.units.shapes import sized_for

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import ShapeProfile

_ANY = 2**31 - 1  # the largest length of a dimension that is not fixed
_SHAPE = re.compile(r"\d+(x\d+)*")
_SHAPE_AT_END = re.compile(r"(.*:)?\d+(x\d+)+")  # names from TensorFlow end in :0, which is not a shape


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWish:
    """The engine that the user wants.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx"; also "ort-cpu" if only a profile is wanted, as it builds no engine.
        targets: the compute capabilities to build for; if empty, that of this machine's GPU.
        shapes: the shapes of inputs as "INPUT:1x3x224x224", or as "INPUT:LEAST:BEST:LARGEST".
        batch: the number of samples for inputs without a shape.
        time_limit_s: the most seconds that the build may take.
        timing_cache: whether kernel timings of earlier builds are used.
        profile: whether the time of the engine is measured by unit.
    """

    backend: str
    targets: tuple[str, ...] = ()
    shapes: Sequence[str] = ()
    batch: int = 1
    time_limit_s: float = 900.0
    timing_cache: bool = True
    profile: bool = False


def deliver(plan: Path, model: Path, out: Path | None = None, wish: EngineWish | None = None) -> Delivered:
    """Lower a model by a plan, and build an engine if one is wanted.

    Args:
        plan: the path of a plan file.
        model: the path of the model that the plan was made for.
        out: the path of the lowered model, by default model.onnx beside the plan; the engine is written beside it.
        wish: the engine that is wanted, or None for none.

    Raises:
        PlanError: the plan is broken, or it was made for another model.
        UsageError: `out` is the model or the plan itself, a backend or a shape is unknown, or the profile is not
            possible.
        RunDirectoryError: a file would be written over that autoprec did not write there.
        BackendError: the runtime refused the model.
    """
    chosen, target = load_plan(plan), out if out is not None else plan.parent / "model.onnx"
    inventory, names = Inventory(target.parent, partial(recognised, target.parent)), _written(target, wish)
    inventory.refuse_foreign(names, (model, plan))
    runtimes = None if wish is None else _runtimes(wish, target.parent, chosen.shapes)
    scheme = runtimes.backend.scheme if runtimes else scheme_named(chosen.scheme)
    if same_family(scheme.name, chosen.scheme):
        scheme = scheme_named(chosen.scheme, scheme)  # the plan as it was judged, whatever this CPU would choose
    loaded = load_model(model, scheme.newest_opset)
    shapes = {} if wish is None else _shapes(loaded.interface, wish, chosen.shapes)
    check_plan_fits(chosen, loaded.graph_fingerprint, loaded.weights_fingerprint, model)
    lowerer, precisions, lowered = _lower(chosen, loaded, scheme)
    check_model(lowered.ir)
    data = b"" if wish is None else to_bytes(lowered.ir)  # an engine of these bytes may be there since the search
    note_plan(lowered, lowerer.partition, precisions)
    with inventory.replacing(*names, inputs=(model, plan)):
        save_model(lowered.ir, target)
        counts = {p.value: sum(q is p for q in precisions.values()) for p in sorted(set(precisions.values()))}
        found = Delivered(model=target, counts=counts, model_bytes=file_bytes(target), original_bytes=file_bytes(model))
        if wish is None or runtimes is None:
            return found
        if runtimes.builder is not None:
            file = runtimes.builder.build_file(data)
            found = replace(found, engine_path=target.with_suffix(".engine"), engine=file)
            write_bytes(target.with_suffix(".engine"), file.path.read_bytes())
        found = replace(
            found, verification=verified(lowerer, precisions, runtimes.backend, data, freely=chosen.left_to_builder)
        )
        found.write_record(plan)
        if wish.profile:  # this may fail, so the engine and its proof are written before
            times = time_units(lowerer.partition, runtimes.backend, data, _feed(loaded.interface, shapes))
            found = replace(found, times=times)
            found.write_record(plan)
        return found


def _written(target: Path, wish: EngineWish | None) -> list[str]:
    """The names of all files that are written beside the lowered model, and its own.

    Raises:
        UsageError: two of them would be one file, or one has the name of a record of a run.
    """
    files = [target, Path(f"{target}.data")]
    if wish is not None and wish.backend in ENGINE_BUILDERS:
        files += [target.with_suffix(".engine"), target.with_suffix(".json")]
    if len(set(files)) < len(files):
        raise UsageError(f"--out must end in .onnx where an engine is built beside it, got {target}")
    if taken := [file for file in files if file.name in RUN_RECORDS]:
        raise UsageError(
            f"--out must leave the records of a run alone, but {taken[0]} would be written; choose another"
        )
    return [file.name for file in files]


def parse_shapes(texts: Sequence[str]) -> dict[str, ShapeProfile]:
    """Return the shapes by input that are written as "INPUT:1x3x224x224" or "INPUT:LEAST:BEST:LARGEST".

    Raises:
        UsageError: a text does not have this form.
    """
    from autoprec.backends.tensorrt.records import ShapeProfile

    found = {}
    for text in texts:
        name, shapes = _name_and_shapes(text)
        if not name or not shapes or _SHAPE_AT_END.fullmatch(name):
            raise UsageError(
                f"--shapes must be INPUT:1x3x224x224, or INPUT:LEAST:BEST:LARGEST in that form, got {text!r}"
            )
        found[name] = ShapeProfile(*(shapes if len(shapes) == 3 else shapes * 3))
    return found


def _name_and_shapes(text: str) -> tuple[str, list[tuple[int, ...]]]:
    """Return the name of an input and its shapes: the last three fields if they are shapes of one rank, else the last.

    The name itself may contain colons.
    """
    fields = text.split(":")
    for count in (3, 1):
        last = fields[-count:]
        if len(fields) > count and all(map(_SHAPE.fullmatch, last)) and len({s.count("x") for s in last}) == 1:
            return ":".join(fields[:-count]), [tuple(map(int, shape.split("x"))) for shape in last]
    return text, []


@dataclass(frozen=True, slots=True)
class _Runtimes:
    """The backend that inspects and profiles, and the one that builds engines: the same object, or None."""

    backend: Backend
    builder: TensorRtBackend | None


def _runtimes(wish: EngineWish, folder: Path, sizes: Mapping[str, tuple[int, ...]]) -> _Runtimes:
    if wish.backend in ENGINE_BUILDERS:
        builder = _builder(wish, folder, sizes)
        return _Runtimes(builder, builder)
    if wish.backend != CPU_BACKEND or not wish.profile:
        also = f", and a profile alone is made by {CPU_BACKEND}" if wish.profile else ""
        raise UsageError(f"engines are built by {' or '.join(ENGINE_BUILDERS)}{also}, got --backend {wish.backend}")
    return _Runtimes(make_backend(wish.backend, targets=wish.targets), None)


def _builder(wish: EngineWish, folder: Path, sizes: Mapping[str, tuple[int, ...]]) -> TensorRtBackend:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import BuildOptions

    shapes = parse_shapes(wish.shapes)
    options = BuildOptions(
        shapes=shapes, targets=wish.targets, time_limit_s=wish.time_limit_s, timing_cache=wish.timing_cache
    )
    builder = TensorRtBackend(wish.backend, options, folder=folder / "engines", batch=wish.batch, sizes=sizes)
    # Asking for the clock also refuses a GPU of which the roofline model has no figures.
    if wish.profile and builder.clock.kind == "modelled":
        for name, shape in shapes.items():
            if shape.least != shape.largest:
                raise UsageError(
                    f"--profile must have one shape for each input where latency is {builder.clock.text}, but "
                    f"--shapes gives {name!r} several; give it one, or leave --profile out"
                )
    return builder


def _shapes(interface: Interface, wish: EngineWish, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, ShapeProfile]:
    """Return the shapes of the inputs that the model leaves open; what nobody says is refused before any work."""
    from autoprec.backends.tensorrt.open_shapes import shape_profiles

    given = parse_shapes(wish.shapes)
    if wish.backend == CPU_BACKEND and not wish.profile:
        return given
    inputs = {spec.name: tuple(d if isinstance(d, int) else None for d in spec.shape) for spec in interface.inputs}
    return shape_profiles(inputs, given, sizes, wish.batch)


def _feed(interface: Interface, shapes: Mapping[str, ShapeProfile]) -> dict[str, Array]:
    """Return random inputs of the shapes that the user wants; of several shapes for an input, the best one."""
    from autoprec.backends.tensorrt.feeds import InputSlot, sample_feed
    from autoprec.backends.tensorrt.records import ShapeProfile

    slots = []
    for spec in interface.inputs:
        sizes = [size if isinstance(size, int) else None for size in spec.shape]
        profile = ShapeProfile(
            tuple(size or 1 for size in sizes),
            tuple(size or 1 for size in sizes),
            tuple(size or _ANY for size in sizes),
        )
        slots.append(InputSlot(spec.name, spec.dtype, profile))
    return sample_feed(slots, shapes={name: shape.best for name, shape in shapes.items()})


def _lower(plan: Plan, model: Model, scheme: Scheme) -> tuple[Lowerer, dict[str, Precision], Lowered]:
    lowerer, precisions = lowerer_of(plan, model, scheme)
    return lowerer, precisions, lower_plan(lowerer, plan, precisions, ranges_from_plan(plan.ranges))


def lowerer_of(plan: Plan, model: Model, scheme: Scheme) -> tuple[Lowerer, dict[str, Precision]]:
    """Return what writes a plan into the model that it was made for, and the precision of each unit there.

    Raises:
        PlanError: a repair of the plan does not fit the model.
    """
    model = repaired(model, plan.repairs)
    partition = sized_for(units_of(model, plan.units), model, plan.shapes, make_backend(CPU_BACKEND))
    precisions = usable_precisions(plan, partition, Topology(model.graph), scheme)
    return Lowerer(model, partition, scheme, plan.carrier), precisions
