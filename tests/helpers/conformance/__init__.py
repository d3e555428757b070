"""The ONNX project's own operator tests, taken through units, lowering and sensitivities."""
