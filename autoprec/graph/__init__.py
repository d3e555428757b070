"""ONNX networks as graphs of onnx_ir.

The path of a model goes in; a checked and prepared model with its interface and fingerprints comes out. Read `model.py`
first, and then `topology.py`, which tells other packages how values and nodes depend on each other.
"""

from autoprec.graph.lazy_sympy import import_onnx_ir

import_onnx_ir()
