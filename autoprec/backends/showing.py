"""What a backend can do that shows values inside an engine without breaking up its kernels.

None of it is asked of others, whose values are looked at as further outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from autoprec.backends.protocol import Engine


@runtime_checkable
class ShowsValues(Protocol):
    """A backend whose engines can tell what is written between kernels."""

    def build_showing(self, model: bytes, values: Mapping[str, str]) -> Engine | None:
        """Build an engine whose runs also return values, as far as kernels write them; None where that is impossible.

        Args:
            model: the model.
            values: the name of each value -> the name of the node that computes it.

        Raises:
            BackendError: the runtime refused the model.
        """
