"""A verb whose help shows its options in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command with many options.

    Args:
        groups: the heading of each group -> the names of its parameters; what is in no group comes last.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        rows = {p.name: row for p in self.get_params(ctx) if (row := p.get_help_record(ctx)) is not None}
        for heading, names in self.groups.items():
            self._write(formatter, heading, [rows.pop(name) for name in names if name in rows])
        self._write(formatter, "Other options", list(rows.values()))

    @staticmethod
    def _write(formatter: click.HelpFormatter, heading: str, rows: list[tuple[str, str]]) -> None:
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)
