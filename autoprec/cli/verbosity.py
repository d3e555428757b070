"""The options --verbose and --quiet, which every verb has."""

from __future__ import annotations

import logging
import sys

import click

_QUIET, _VERBOSE = "autoprec.quiet", "autoprec.verbose"


def with_verbosity(command: click.Command) -> click.Command:
    """Give a verb the options --quiet and --verbose, where it does not have them."""
    names = {option for parameter in command.params for option in parameter.opts}
    if "--quiet" not in names:
        command.params.append(
            click.Option(["--quiet"], is_flag=True, expose_value=False, callback=_be_quiet, help="No progress.")
        )
    if "--verbose" not in names:
        command.params.append(
            click.Option(
                ["--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_be_verbose,
                help="Messages of libraries too, and where in the code an error came from.",
            )
        )
    return command


def is_quiet() -> bool:
    """Whether the command was given --quiet by an option that the verb itself does not read."""
    return _given(_QUIET)


def is_verbose() -> bool:
    """Whether the command was given --verbose."""
    return _given(_VERBOSE)


def _given(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(name))


def _be_quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


def _be_verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_VERBOSE] = value
    if value:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
