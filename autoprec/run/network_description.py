"""The units of a model and the edges between them: network.json, from which a report draws a plan without the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.json import read_json, write_json
from autoprec.units.records import Edge, Partition

SCHEMA = 1
KIND = "autoprec network"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSize:
    """What a unit is.

    Attributes:
        kind: what it computes, such as "conv".
        nodes: the number of its nodes.
        macs: the number of multiply-accumulates for one sample.
        weights: the number of elements of its float constants.
        outputs: the names of the values that leave it.
    """

    kind: str
    nodes: int
    macs: int
    weights: int
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    """A network that is cut into units.

    Attributes:
        units: name -> what it is, in topological order.
        edges: the values that pass between units.
        left_alone: the reason why nodes are in no unit -> the number of such nodes.
    """

    units: Mapping[str, UnitSize]
    edges: tuple[Edge, ...]
    left_alone: Mapping[str, int]

    @classmethod
    def of(cls, partition: Partition) -> NetworkDescription:
        """The description of a network."""
        sizes = {
            unit.name: UnitSize(
                kind=unit.kind.value,
                nodes=len(unit.nodes),
                macs=unit.macs,
                weights=unit.weights,
                outputs=unit.outputs,
            )
            for unit in partition.units
        }
        return cls(
            sizes,
            partition.edges,
            dict(Counter(partition.reasons.values()).most_common()),
        )

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        record = {
            "schema": SCHEMA,
            "kind": KIND,
            "units": {name: asdict(unit) for name, unit in self.units.items()},
            "edges": [[edge.producer, edge.consumer, edge.tensor, edge.elements] for edge in self.edges],
            "left_alone": self.left_alone,
        }
        write_json(path, stamped(record))


def read_network(path: Path) -> NetworkDescription:
    """What `NetworkDescription.save` wrote.

    Raises:
        RunDirectoryError: it is missing, damaged, or of a newer schema.
    """
    record = read_json(path, "description of the network", RunDirectoryError, SCHEMA)
    try:
        return NetworkDescription(
            {
                str(name): UnitSize(
                    kind=str(u["kind"]),
                    nodes=int(u["nodes"]),
                    macs=int(u["macs"]),
                    weights=int(u["weights"]),
                    outputs=tuple(map(str, u["outputs"])),
                )
                for name, u in record["units"].items()
            },
            tuple(Edge(str(e[0]), str(e[1]), str(e[2]), int(e[3])) for e in record["edges"]),
            {str(reason): int(count) for reason, count in record["left_alone"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise RunDirectoryError(
            f"the description of the network {path} is damaged ({error!r}); delete it, it is made again"
        ) from error
