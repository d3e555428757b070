"""What a shell may complete: the names of backends, search spaces, calibration recipes and metrics, and files."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def backends(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The runtimes."""
    from autoprec.backends.make import BACKENDS

    return _items(BACKENDS, begun)


def metrics(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The metrics of autoprec's own."""
    from autoprec.metrics.metric import metric_names

    return _items(metric_names(), begun)


def recipes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The calibration recipes, and files."""
    from autoprec.recipes.ranging import calibration_recipe_names

    return _items(calibration_recipe_names(), begun) or _files(begun)


def spaces(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The search spaces, and files."""
    from autoprec.recipes.space import search_space_names

    return _items(search_space_names(), begun) or _files(begun)


def _items(names: tuple[str, ...], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)]


def _files(begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]
