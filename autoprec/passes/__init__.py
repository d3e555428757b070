"""Lowering passes: each takes an `onnx_ir.Model`, says what it requires and ensures, and changes one thing."""
