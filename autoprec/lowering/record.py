"""What became of each value and node of a model when it was lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.lowering.placement import ActivationPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRecord:
    """What became of one value of the FP32 model; the three are one value where nothing converts it.

    Attributes:
        exact: the value as its producer computes it.
        raw: the value before the last conversion at its producer, which is the pair, or the rounding to a half type
            where there is no pair.
        final: the value that its readers take, quantised or rounded where the producer does that. Readers that have a
            pair of their own take a further conversion of it.
    """

    exact: ir.Value
    raw: ir.Value
    final: ir.Value


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One Q/DQ pair on an activation.

    Attributes:
        point: the decision that it implements.
        quantize: its QuantizeLinear; each DequantizeLinear of the pair reads the codes of it.
    """

    point: ActivationPoint
    quantize: ir.Node

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """The QuantizeLinear and all DequantizeLinear nodes."""
        readers = [user for user, _ in self.quantize.outputs[0].uses() if user.op_type == "DequantizeLinear"]
        return self.quantize, *readers


@dataclass(frozen=True, slots=True)
class LoweringRecord:
    """Where the values and nodes of a model are in a lowered copy of it.

    Attributes:
        values: the name of each value of the model that the lowered one still computes or takes -> what it became.
        nodes: the name of each node of the model -> the nodes that do its work; several nodes of the model may share
            one, as a folded normalisation shares its convolution's.
        pairs: the Q/DQ pairs on activations, in the order of the placement.
    """

    values: Mapping[str, ValueRecord]
    nodes: Mapping[str, tuple[ir.Node, ...]]
    pairs: tuple[PairRecord, ...]
