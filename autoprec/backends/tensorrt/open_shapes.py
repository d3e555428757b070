"""The shapes that engines are built for where a model leaves them open."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.errors import UsageError

Open = tuple[int | None, ...]
"""The dimensions of an input, None where any length may be fed."""


def shape_profiles(
    inputs: Mapping[str, Open],
    given: Mapping[str, ShapeProfile],
    sizes: Mapping[str, tuple[int, ...]],
    batch: int,
) -> dict[str, ShapeProfile]:
    """Return the shapes of each input that has some, with those of the inputs that the model leaves open.

    Args:
        inputs: input name -> its dimensions.
        given: the shapes that the user wants.
        sizes: input name -> its shape in a run of one sample of real data, where that is known.
        batch: the number of samples where the model leaves it open.

    Raises:
        UsageError: an input has free dimensions besides its samples, and nobody says how long they are.
    """
    found = dict(given)
    for name, dims in inputs.items():
        free = [axis for axis, dim in enumerate(dims) if dim is None]
        if name in found or not free:
            continue
        known = sizes.get(name, ())
        if len(known) != len(dims):
            if free != [0]:
                raise UsageError(_unknown(name, dims))
            known = tuple(dim or 1 for dim in dims)
        samples = next((axis for axis in free if known[axis] == 1), None)
        fixed = tuple(batch if axis == samples else dim or known[axis] for axis, dim in enumerate(dims))
        found[name] = ShapeProfile(fixed, fixed, fixed)
    return found


def _unknown(name: str, dims: Open) -> str:
    text = "x".join("?" if dim is None else str(dim) for dim in dims)
    usual = [1, 3, 224, 224] if len(dims) == 4 else [1, *[128] * (len(dims) - 1)]
    example = "x".join(str(dim or guess) for dim, guess in zip(dims, usual, strict=True))
    return (
        f"an engine needs the sizes of input {name!r}, whose shape in the model is {text}, and neither the plan nor "
        f"the data says them; give them by --shapes, for example --shapes {name}:{example}, or as "
        f"{name}:LEAST:BEST:LARGEST"
    )
