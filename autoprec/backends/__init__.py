"""The runtimes: what a machine can do, and engines built by it.

In goes a serialised ONNX model; out come an engine with a clock, what became of each node, and where the time goes.
The rest of autoprec knows a runtime only through the Protocol. Read `protocol.py` first, then `ort.py`, the smallest
backend; `make.py` finds one by its name.
"""
