"""ONNX networks as onnx_ir graphs.

In goes a model file; out come a checked model with its interface, fingerprints and topology. Read `model.py` first,
then `topology.py`, which most other packages ask.
"""
