"""The command line: one file for each verb, imported when it is called.

In go the words of a command line; out come text or JSON on standard output and an exit code. Read `tune.py` first, the
verb that does everything; `options.py` holds the options that verbs share, `text/` the sentences they print.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

import click

from autoprec.cli.completion import with_completion
from autoprec.cli.verbosity import is_verbose, with_verbosity
from autoprec.errors import EXIT_INTERRUPTED, EXIT_USAGE, AutoprecError
from autoprec.files.printable import printable

VERBS = {
    "tune": "Find the fastest precision plan within an accuracy bound.",
    "worker": "Measure plans for a search that another process leads.",
    "units": "List the units of a model and why other nodes are not tunable.",
    "profile": "Measure how much each unit loses in each precision.",
    "front": "List the best trade-offs of a run, and build any of them.",
    "report": "Write what a run found as one page: HTML, Markdown or JSON.",
    "build": "Lower a model by a plan.",
    "baseline": "Make a baseline of a run, to commit and to gate by.",
    "gate": "Judge a model against a committed baseline; one line for CI.",
    "bench": "Time TensorRT engines as trtexec does, several of them interleaved.",
    "diagnose": "Show where the error of a plan, and of the runtime, comes from.",
    "doctor": "Say what is installed, what it can do, and what is missing.",
}


class LazyGroup(click.Group):
    """A group whose help needs no verb's module, so that it starts at once."""

    began = 0.0

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run a command line; that of the process itself where none is given."""
        self.began = time.monotonic()
        if args is not None or sys.platform != "linux":  # elsewhere a child cannot be watched as well
            return super().main(args, *more, **options)
        from autoprec.cli.elapsed import process_age_s
        from autoprec.cli.supervise import named_functions, supervised

        self.began -= process_age_s()  # the child that may be started now is younger
        with supervised(named_functions(sys.argv[1:])):
            return super().main(args, *more, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of a user's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command."""
        if cmd_name not in VERBS:
            close = difflib.get_close_matches(cmd_name, VERBS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(VERBS)}"
            raise click.UsageError(f"there is no command {cmd_name!r}{hint}", ctx)
        return with_completion(with_verbosity(import_module(f"autoprec.cli.{cmd_name}").command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with their sentences."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an expected error is one line and an exit code, not a traceback."""
        try:
            return super().invoke(ctx)
        except AutoprecError as error:
            if is_verbose():
                traceback.print_exception(error)
            click.echo(f"autoprec: {printable(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:
            with contextlib.suppress(OSError):  # Python flushes what is left once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(
                "autoprec: nobody reads the output any more, so that the rest was not printed; what was measured and "
                "written is kept, and the same command goes on",
                err=True,
            )
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:  # a full disk under a library's own files
            where = f" ({error.filename})" if error.filename else ""
            click.echo(f"autoprec: {error.strerror or error}{where}; free space or choose another --out", err=True)
            ctx.exit(EXIT_USAGE)
        except ImportError as error:  # of a library, which is loaded when it is needed
            click.echo(
                f"autoprec: cannot load a library: {error}; allow more memory if that is limited, or install it again",
                err=True,
            )
            ctx.exit(EXIT_USAGE)
        except MemoryError:
            click.echo("autoprec: the memory is used up; allow more, or give smaller batches or less data", err=True)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt:
            click.echo("autoprec: stopped; the same command goes on where it was", err=True)
            ctx.exit(EXIT_INTERRUPTED)


def elapsed_s() -> float:
    """Seconds since this command began, what it took to start Python and import modules included."""
    return time.monotonic() - main.began


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"autoprec {version('autoprec')}")
        ctx.exit()


def _packaged(name: str) -> str:
    return (files("autoprec.cli") / name).read_text(encoding="utf-8")


def _schemas() -> list[str]:
    return sorted(entry.name.removesuffix(".json") for entry in (files("autoprec.cli") / "schemas").iterdir())


def _complete_schemas(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    return [name for name in _schemas() if name.startswith(begun)]


def _schema(ctx: click.Context, _parameter: click.Parameter, verb: str | None) -> None:
    if verb is None or ctx.resilient_parsing:
        return
    if verb not in _schemas():
        raise click.UsageError(f"there is a JSON Schema for each of {', '.join(_schemas())}, got {verb!r}", ctx)
    click.echo(_packaged(f"schemas/{verb}.json"), nl=False)
    ctx.exit()


def _skill(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(_packaged("SKILL.md"), nl=False)
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
@click.option(
    "--json-schema",
    metavar="VERB",
    shell_complete=_complete_schemas,
    expose_value=False,
    is_eager=True,
    callback=_schema,
    help="Show the JSON Schema of what a verb prints with --json.",
)
@click.option(
    "--skill",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_skill,
    help="Show the guide for agents.",
)
def main() -> None:
    """Decide, layer by layer, which precision an ONNX network runs in.

    \b
    Exit codes: 0 done, 1 worse than allowed (gate), 2 bad input, 3 cannot judge (gate),
    4 no plan meets the bound (tune wrote the best one found), 5 a requested precision did not run, 130 stopped.
    """  # noqa: D301 - click wants the character, which keeps it from joining lines


if __name__ == "__main__":
    sys.exit(main())
