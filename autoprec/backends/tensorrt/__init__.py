"""TensorRT 8.6 to 11 and TensorRT-RTX.

In goes a serialised ONNX model; out comes an engine that is built in a child process, run through CUDA and asked by its
inspector what it became. Read `backend.py` first, then `builder.py` and `engine.py`.
"""
