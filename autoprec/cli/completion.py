"""What a shell may complete: files, and the names of what is built in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Names = Callable[[], Iterable[str]]


def with_completion(command: click.Command) -> click.Command:
    """Let a verb's options and arguments of text complete names, and files where they take them."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            spelt = next((word for word in parameter.opts if word in _NAMES or word in _FILES), "")
            if spelt:
                parameter.type = _Completed(_NAMES.get(spelt), spelt in _FILES)
    return command


class _Completed(click.types.StringParamType):
    """A text that a shell can complete."""

    def __init__(self, names: Names | None, takes_files: bool) -> None:
        self._names, self._takes_files = names, takes_files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, else files."""
        names = [] if self._names is None else [name for name in self._names() if name.startswith(incomplete)]
        if names or not self._takes_files:
            return [CompletionItem(name) for name in names]
        return [CompletionItem(incomplete, type="file")]


def _backends() -> Iterable[str]:
    from autoprec.backends.make import BACKENDS

    return BACKENDS


def _metrics() -> Iterable[str]:
    from autoprec.metrics.metric import metric_names

    return metric_names()


def _decoders() -> Iterable[str]:
    from autoprec.metrics.offered import decoder_names

    return decoder_names()


def _recipes() -> Iterable[str]:
    from autoprec.recipes.ranging import calibration_recipe_names

    return calibration_recipe_names()


def _spaces() -> Iterable[str]:
    from autoprec.recipes.space import search_space_names

    return search_space_names()


def _tasks() -> Iterable[str]:
    from autoprec.exporting.folders import TASKS

    return TASKS


def _trackers() -> Iterable[str]:
    return "tensorboard:", "mlflow:", "wandb:offline", "wandb:online"


_NAMES: dict[str, Names] = {
    "--backend": _backends,
    "--metric": _metrics,
    "--decode": _decoders,
    "--recipe": _recipes,
    "--space": _spaces,
    "--task": _tasks,
    "--track": _trackers,
}
_FILES = {
    *("model", "run", "other", "plan", "engines"),
    *("--calib", "--eval", "--labels", "--model", "--plan", "--baseline", "--baseline-model", "--trust", "--storage"),
    *("--out", "-o", "--work", "--markdown", "--junit", "--recipe", "--space"),
}
"""Arguments and options that take a file or a folder."""
