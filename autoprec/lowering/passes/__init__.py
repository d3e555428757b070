"""Changes of a graph, one a file, each with what it requires and ensures.

In goes an onnx_ir model; out comes the same model, changed in place. `lowering/lowerer.py` has the order in which
they run. Read `insert_qdq.py` first.
"""
