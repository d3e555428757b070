"""TensorRT-RTX, TensorRT 10 and 11, and TensorRT 8.6 behind one backend."""
