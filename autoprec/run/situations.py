"""Whether the situations that a user asks for are possible, told before anything is measured."""

from __future__ import annotations

from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.data.situations import parse_situations, situated_feed
from autoprec.errors import UsageError
from autoprec.graph.interface import Interface
from autoprec.run.settings import Settings


def refuse_situations(settings: Settings, interface: Interface, data: Dataset, backend: Backend) -> None:
    """Refuse situations that the model or the runtime cannot be in.

    Raises:
        UsageError: the model has no such axis, or the runtime builds engines and an input would be empty.
    """
    for situation in parse_situations(settings.situations):
        feed = situated_feed(interface, data, situation, settings.batch)
        empty = next((name for name, array in feed.items() if array.size == 0), None)
        if empty is not None and backend.keeps_engines:
            raise UsageError(
                f"the input {empty!r} would be empty in the situation {situation.name!r}, which engines of "
                f"{backend.name} cannot have; give each axis a length of at least 1, such as past=1"
            )
