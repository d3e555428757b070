"""The doors of the house: models and data that are no ONNX file and no array go in, a plan as a callable comes out.

In goes a torch module, an ONNX model in memory, or what `package.module:build` returns; out comes an ONNX file in the
run directory and, beside it, signature.json, by which a plan is called as the module was. Read `models.py` first.
`torch_export.py` and `torch_planned.py` are the only modules that import torch, and they are imported only when used.
"""
