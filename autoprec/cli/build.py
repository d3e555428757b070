"""autoprec build: plan + model -> lowered model."""

from __future__ import annotations

from pathlib import Path

import click

from autoprec.cli.screen import print_json


@click.command("build")
@click.argument("plan")
@click.argument("model")
@click.option("--out", metavar="FILE", help="The lowered model.  [default: model.onnx beside the plan]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(plan: str, model: str, out: str | None, as_json: bool) -> None:
    """Lower MODEL by PLAN, which must have been made for it."""
    from autoprec.errors import UsageError
    from autoprec.graph import Topology
    from autoprec.lower import Lowerer
    from autoprec.model import check_model, load_model, save_model
    from autoprec.plan import check_plan_fits, load_plan, usable_precisions
    from autoprec.ranges.table import ranges_from_plan
    from autoprec.schemes import scheme_named
    from autoprec.units.find import find_units

    chosen = load_plan(plan)
    loaded = load_model(model)
    check_plan_fits(chosen, loaded.graph_fingerprint, loaded.weights_fingerprint, model)
    target = Path(out) if out is not None else Path(plan).parent / "model.onnx"
    if target.exists() and target.resolve() == Path(model).resolve():
        raise UsageError(f"{target} is the model itself; choose another file by --out")
    partition = find_units(loaded.graph)
    scheme = scheme_named(chosen.scheme)
    precisions = usable_precisions(chosen, partition, Topology(loaded.graph), scheme)
    lowered = Lowerer(loaded, partition, scheme, chosen.carrier).lower(precisions, ranges_from_plan(chosen.ranges))
    check_model(lowered.ir)
    save_model(lowered.ir, target)
    counts = {p.value: sum(q is p for q in precisions.values()) for p in sorted(set(precisions.values()))}
    size, before = target.stat().st_size, Path(model).stat().st_size
    record = {"written": str(target), "units": counts, "bytes": size, "model_bytes": before}
    if as_json:
        print_json(record)
        return
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    click.echo(f"written: {target}: {words}; {size:,} bytes, {size / before:.2f} of the model's")
