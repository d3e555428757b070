"""autoprec build: plan + model -> lowered model, and an engine of it where a runtime is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from autoprec.cli.options import target_list
from autoprec.cli.screen import print_json
from autoprec.cli.text.unit_times import print_times
from autoprec.errors import EXIT_NOT_HONOURED, EXIT_OK, UsageError
from autoprec.files.printable import printable

if TYPE_CHECKING:
    from autoprec.proof.delivered import Delivered
    from autoprec.proof.verification import Verification


@click.command("build")
@click.argument("plan")
@click.argument("model")
@click.option("-o", "--out", metavar="FILE", help="The lowered model.  [default: model.onnx beside the plan]")
@click.option("--backend", metavar="NAME", help="Build an engine too: tensorrt or tensorrt-rtx.")
@click.option("--target", "targets", default="", metavar="SM[,SM]", help="GPUs to build for ahead of time (RTX).")
@click.option(
    "--shapes",
    multiple=True,
    metavar="INPUT:SHAPE[:BEST:LARGEST]",
    help="Shapes of an input of variable size, as x:1x3x224x224, or least, best and largest; may be repeated.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="For inputs without --shapes.")
@click.option("--time-limit", type=float, default=900.0, show_default=True, metavar="SECONDS", help="Of a build.")
@click.option("--no-timing-cache", is_flag=True, help="Do not use kernel timings of earlier builds.")
@click.option(
    "--profile", is_flag=True, help="Say where the time goes, by unit and boundary; with --backend ort-cpu too."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(plan: str, model: str, out: str | None, as_json: bool, **engine: Any) -> None:
    """Lower MODEL by PLAN, which must have been made for it."""
    from autoprec.backends.make import CPU_BACKEND
    from autoprec.build import EngineWish, deliver

    name = engine.pop("backend")
    wish = None
    if name is None:
        _refuse_given(click.get_current_context(), tuple(engine))
    else:
        if name == CPU_BACKEND and (given := _given(click.get_current_context(), ("time_limit", "no_timing_cache"))):
            rest = "leave it out" if len(given) == 1 else "leave them out"
            raise UsageError(f"{' and '.join(given)} must go with a backend that builds engines, not {name}; {rest}")
        wish = EngineWish(
            backend=name,
            targets=target_list(engine["targets"]),
            shapes=engine["shapes"],
            batch=engine["batch"],
            time_limit_s=engine["time_limit"],
            timing_cache=not engine["no_timing_cache"],
            profile=engine["profile"],
        )
    delivered = deliver(Path(plan), Path(model), None if out is None else Path(out), wish)
    if as_json:
        print_json(delivered.to_record())
    else:
        _say(delivered)
    complaint = delivered.verification.complaint() if delivered.verification else None
    if complaint:
        click.echo(printable(complaint), err=True)
    click.get_current_context().exit(EXIT_NOT_HONOURED if complaint else EXIT_OK)


def _refuse_given(context: click.Context, names: tuple[str, ...]) -> None:
    """Without a runtime no engine is built, so options of one would be passed over in silence."""
    if given := _given(context, names):
        alone = "; --backend ort-cpu is enough for a profile" if "--profile" in given else ""
        raise UsageError(
            f"{' and '.join(given)} must go with the engine's runtime: add --backend tensorrt-rtx or "
            f"--backend tensorrt, or leave {'it' if len(given) == 1 else 'them'} out to have the model alone{alone}"
        )


def _given(context: click.Context, names: tuple[str, ...]) -> list[str]:
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    ]


def _say(delivered: Delivered) -> None:
    text = ", ".join(f"{count} {name}" for name, count in delivered.counts.items())
    share = delivered.model_bytes / delivered.original_bytes
    click.echo(f"written: {delivered.model}: {text}; {delivered.model_bytes:,} bytes, {share:.2f} of the model's")
    if (file := delivered.engine) is not None:
        how = "kept from an earlier build" if file.reused else f"built in {file.build_s:.1f} s"
        cache = ", with kernel timings of earlier builds" if file.warm_timing_cache else ""
        click.echo(f"written: {delivered.engine_path}: {file.engine_bytes:,} bytes, {how}{cache}")
        click.echo(f"for {file.hardware}, by {file.runtime} {file.version}")
    if delivered.verification is not None:
        _say_verified(delivered.verification)
        if delivered.times is not None:
            print_times(delivered.times, delivered.verification)


def _say_verified(verification: Verification) -> None:
    from autoprec.proof.verification import UnitStatus

    counts = ", ".join(f"{count} {UnitStatus(status).text}" for status, count in verification.counts.items() if count)
    click.echo(f"units in the engine: {counts}")
    if any(unit.ran is not None for unit in verification.units):  # ONNX Runtime does not name precisions
        for name, share in verification.mac_share.items():
            click.echo(printable(f"  {share:.0%} of the arithmetic in {name}"))
    for unit in verification.units:
        if unit.status == UnitStatus.NOT_HONOURED and not unit.refused:
            click.echo(printable(f"  {unit.describe()}"))
