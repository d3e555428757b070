"""A plan written into a model: casts, Q/DQ pairs, weights in 8 bits.

In go a model, a precision for each unit, and ranges; out comes an ONNX model that a runtime builds as it says. Read
`lowerer.py` first; `possible.py` what is possible, `placement.py` where
pairs go, and `passes/` holds one change of the graph a file.
"""
